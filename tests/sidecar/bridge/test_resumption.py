"""Streams that broke off and are resumed, within the memory that there is for that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from yarl import URL

from mcp_discovery.sidecar.bridge.streams import ALL, MessageStream, StreamMemory
from tests.sidecar.bridge.wire import Event, WireClient, bridged, client, events, listening
from tests.stores.waiting import bounded, until

pytestmark = pytest.mark.slow


async def broken_off(who: WireClient, message: dict[str, Any], after: int) -> list[Event]:
    """Posts a message and closes the connection behind so many events."""
    found: list[Event] = []
    async with (
        aiohttp.ClientSession() as http,
        http.post(who.url, json=message, headers=who.headers) as response,
    ):
        async for each in events(response):
            found.append(each)
            if len(found) == after:
                break
    return found


async def resumed(who: WireClient, after: str | None) -> list[Event]:
    """What comes behind an event, to the end of the stream."""
    async with who.listen(after) as response:
        assert response.status == 200, await response.text()
        return [each async for each in events(response)]


@asynccontextmanager
async def cut_off(url: str) -> AsyncIterator[tuple[str, Callable[[], None]]]:
    """A way to ``url`` whose connections can be cut off."""
    target = URL(url)
    writers: set[asyncio.StreamWriter] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writers.discard(writer)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there = await asyncio.open_connection(target.host, target.port)
        await asyncio.gather(pump(reader, there), pump(there_reader, writer))

    def cut() -> None:
        for each in writers:
            each.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield str(target.with_port(server.sockets[0].getsockname()[1])), cut
    finally:
        server.close()
        cut()


async def test_the_result_of_a_call_comes_after_the_connection_broke() -> None:
    async with bridged() as bridge, client(bridge) as one:
        found = await broken_off(one, one.calling("steps", count=4, pause=0.2, text="done"), 2)
        assert (found[0].data, found[0].retry) == (None, 1000)
        assert found[1].data["params"]["progress"] == 1
        rest = await bounded(resumed(one, found[1].id), 10)
        said = [each.data for each in rest if each.data]
        assert [each["params"]["progress"] for each in said[:-1]] == [2, 3, 4]
        assert said[-1]["result"]["content"][0]["text"] == "done"
        again = await bounded(resumed(one, found[0].id), 10)  # it is kept
        assert [each.data for each in again if each.data][1:] == said
        ids = [each.id for each in (*found, *rest) if each.data]
        assert len(set(ids)) == len(ids)


async def test_a_long_call_that_says_nothing_can_be_resumed() -> None:
    async with bridged() as bridge, client(bridge) as one:
        found = await broken_off(one, one.calling("wait", seconds=2.0, text="slept"), 1)
        assert found[0].data is None
        rest = await bounded(resumed(one, found[0].id), 10)
        assert rest[-1].data["result"]["content"][0]["text"] == "slept"


async def test_clients_before_2025_11_25_are_given_no_event_without_a_message() -> None:
    async with bridged() as bridge, client(bridge, "2025-06-18") as one:
        answer = await one.call("wait", seconds=1.5)
        assert [each.data for each in answer.events if each.comment is None] == [answer.content]
        found = await broken_off(one, one.calling("steps", count=2, pause=0.2), 1)
        rest = await bounded(resumed(one, found[0].id), 10)
        assert [each.data.get("method") for each in rest] == ["notifications/progress", None]


async def test_the_sessions_own_stream_is_resumed() -> None:
    async with bridged() as bridge, client(bridge) as one:
        async with listening(one) as queue:
            await one.call("change")
            first = await bounded(queue.get(), 5)

        async def noticed() -> bool:
            return not next(iter(bridge.endpoint.legacy.sessions)).standalone.is_read

        await until(noticed, timeout=5, what="the stream being known to be closed")
        await one.call("change")
        async with one.listen() as response:  # without an id: what was not sent yet
            seen = events(response)
            second = await anext(each async for each in seen if each.data)
            assert second.id != first.id
            async with one.listen() as conflict:
                assert conflict.status == 409
            async with one.listen(first.id) as other:  # it says that it lost the first one
                again = await anext(each async for each in events(other) if each.data)
                assert again.id == second.id
                with pytest.raises(StopAsyncIteration):
                    await bounded(anext(each async for each in seen if each.data), 5)


@pytest.mark.parametrize("last", ["99-1", "what", "0-", "1-x", ""])
async def test_an_event_that_is_not_known(last: str) -> None:
    async with bridged() as bridge, client(bridge) as one, one.listen(last) as response:
        assert response.status == 400
        assert "Last-Event-ID" in (await response.json())["error"]["message"]


async def test_an_answer_that_is_too_large_to_keep_is_said_to_be_given_up() -> None:
    async with bridged() as bridge, client(bridge) as one:
        message = one.calling("steps", count=2, pause=0.3, text="x" * 5_000_000)
        found = await broken_off(one, message, 2)

        async def answered() -> bool:
            return not bridge.bridge.spoken().connection.exchanges

        await until(answered, timeout=10, what="the answer")
        rest = await bounded(resumed(one, found[1].id), 10)
        assert rest[-1].data["id"] == message["id"]
        assert "given up; ask again" in rest[-1].data["error"]["message"]
        whole = await one.call("echo", text="x" * 5_000_000)  # who reads it gets it whole
        assert len(whole.text) == 5_000_000


async def test_the_memory_of_streams_is_bounded() -> None:
    everything = StreamMemory(10_000)
    one = MessageStream(StreamMemory(8_000, everything), "1")
    two = MessageStream(StreamMemory(8_000, everything), "2")
    for number in range(100):
        one.append({"text": "y" * 500, "number": number})
    assert 7_000 < everything.used <= 8_000
    two.append({"text": "z" * 5_000}, answers=7)
    assert everything.used <= 10_000
    for _ in range(20):
        one.append({"text": "y" * 500})
    assert everything.used <= 10_000
    one.close()
    two.close()
    assert everything.used == 0


async def test_nothing_is_kept_of_a_session_that_ended() -> None:
    before = ALL.used
    async with bridged() as bridge, client(bridge) as one:
        found = await broken_off(
            one, one.calling("steps", count=3, pause=0.2, text="k" * 10_000), 1
        )
        await bounded(resumed(one, found[0].id), 10)
        assert ALL.used > before + 10_000
        waiting = asyncio.create_task(one.call("steps", count=50, pause=0.2))
        await one.call("pid")
        await one.end()
        answer = await bounded(waiting, 10)
        assert answer.content["error"]["code"] == -32800
        assert ALL.used == before


async def test_the_sdk_resumes_a_call() -> None:
    """The connection of its call is cut off between the client and the bridge."""
    async with (
        bridged() as bridge,
        cut_off(bridge.url) as (url, cut),
        Client(streamable_http_client(url), mode="legacy") as sdk,
    ):
        heard = asyncio.Event()

        async def progressed(progress: float, total: float | None, message: str | None) -> None:
            heard.set()

        arguments = {"count": 6, "pause": 0.5, "text": "late"}
        call = sdk.call_tool("steps", arguments, progress_callback=progressed)
        calling = asyncio.create_task(call)
        await bounded(heard.wait(), 15)
        cut()
        result = await bounded(calling, 30)
        assert result.content[0].text == "late"  # type: ignore[union-attr]

"""``/registry/stream``: what happens to connections, over WebSockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import aiohttp
import orjson
import pytest

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.adapters.store import Change
from mcp_discovery.facade import FacadeOptions, create_app, serving
from mcp_discovery.facade.state import FACADE, Facade
from mcp_discovery.facade.websocket.messages import LOG_LENGTH
from mcp_discovery.facade.websocket.sockets import MOST_ERRORS
from tests.facade.harness import QUICK, Client, leased, served
from tests.stores.waiting import until

#: Seed 002's own message.
SUBSCRIBE = {
    "action": "subscribe",
    "events": ["connection-status", "health-check", "capability-request"],
}


class Stream:
    """One WebSocket to ``/registry/stream``."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def say(self, message: Any) -> None:
        """Sends ``message`` as JSON, or as it is where it is a string."""
        text = message if isinstance(message, str) else orjson.dumps(message).decode()
        await self.socket.send_str(text)

    async def next(self, timeout: float = 30.0) -> dict[str, Any]:
        """The next message; raises EOFError at the end."""
        async with asyncio.timeout(timeout):
            message = await self.socket.receive()
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise EOFError(message)
        told: dict[str, Any] = orjson.loads(message.data)
        return told

    async def ask(self, **message: Any) -> dict[str, Any]:
        """Sends ``message`` and returns the next one."""
        await self.say(message)
        return await self.next()

    async def subscribe(self, *events: str, **more: Any) -> dict[str, Any]:
        """Subscribes; returns the acknowledgement."""
        told = await self.ask(action="subscribe", events=list(events), **more)
        assert told["type"] == "subscribed", told
        return told


@asynccontextmanager
async def stream(ask: Client) -> AsyncIterator[Stream]:
    """A WebSocket, until the block ends."""
    async with ask.session.ws_connect(f"{ask.url}/registry/stream") as socket:
        yield Stream(socket)


@asynccontextmanager
async def served_whole(
    options: FacadeOptions = QUICK,
) -> AsyncIterator[tuple[Client, Facade]]:
    """A facade with its insides, for what cannot be brought about from outside in a short time."""
    async with EmbeddedStore() as store, aiohttp.ClientSession() as session:
        app = create_app(store, options)
        async with serving(app, "127.0.0.1", 0) as url:
            ask = Client(url, session)

            async def ready() -> bool:
                return (await ask("GET", "/ready")).status == 200

            await until(ready, timeout=60, what="the facade being ready")
            yield ask, app[FACADE]


async def readers(ask: Client) -> int:
    """How many WebSockets the facade counts."""
    for line in (await ask("GET", "/metrics")).body.splitlines():
        if line.startswith(b"mcp_discovery_socket_readers "):
            return int(float(line.split()[1]))
    raise AssertionError("no such figure")


async def outcome(ask: Client, id: str, **more: Any) -> None:
    """A client reports how a request to ``id`` went."""
    body = {"success": True, "latency": 12} | more
    reply = await ask("POST", f"/connections/{id}/outcome", body)
    assert reply.status < 300, reply.body


async def position(ask: Client) -> str:
    """Where the list stands."""
    return str((await ask("GET", "/servers")).headers["X-Discovery-Revision"])


async def test_the_seeds_example(ask: Client) -> None:
    async with stream(ask) as told:
        await told.say(SUBSCRIBE)
        assert await told.next() == {
            "type": "subscribed",
            "events": SUBSCRIBE["events"],
            "position": await position(ask),
        }
        first = await told.next()
        assert (first["type"], first["connections"], first["more"]) == ("snapshot", [], False)
        await ask("POST", "/servers", leased("mcp-conn-456"))
        change = await told.next()
        seed = {"type": "connection-status", "connectionId": "mcp-conn-456", "status": "active"}
        assert change | seed == change
        assert change["timestamp"].endswith("Z")
        assert change["position"] == await position(ask)
        await outcome(ask, "mcp-conn-456", capability="read_file", latency=1200)
        request = await told.next()
        assert request.pop("timestamp")
        assert request == {
            "type": "capability-request",
            "connectionId": "mcp-conn-456",
            "capability": "read_file",
            "success": True,
            "latency": 1200,
        }


async def test_a_health_check_of_the_facade_is_told(ask: Client) -> None:
    async with stream(ask) as told:
        await told.subscribe("health-check")
        body = {"id": "a", "name": "x", "url": "http://127.0.0.1:9/mcp"}
        assert (await ask("POST", "/servers", body)).status == 201
        check = await told.next()
        assert (check["type"], check["connectionId"]) == ("health-check", "a")
        assert check["health"] == "down"
        assert "responseTime" not in check  # it never answered, and nothing is invented
        assert check["timestamp"]


async def test_statuses_are_told_when_they_change_and_only_then(ask: Client) -> None:
    await ask("POST", "/servers", leased("a"))
    async with stream(ask) as told:
        await told.subscribe("connection-status")
        shown = (await told.next())["connections"]
        assert [(each["connectionId"], each["status"]) for each in shown] == [("a", "active")]
        await ask("POST", "/servers/a/heartbeat", {"status": "degraded"})  # active as well
        await ask("POST", "/servers/a/heartbeat", {"status": "down", "reason": "refused"})
        change = await told.next()
        assert (change["status"], change["reason"]) == ("error", "refused")
        await ask("POST", "/servers/a/heartbeat", {"status": "healthy"})
        assert (await told.next())["status"] == "active"
        await ask("POST", "/servers/a/drain")
        assert (await told.next())["status"] == "idle"
        await ask("DELETE", "/servers/a")
        change = await told.next()
        assert (change["status"], change["reason"]) == ("disconnected", "removed")


async def test_one_that_is_heard_no_more_is_disconnected(ask: Client) -> None:
    async with stream(ask) as told:
        await told.subscribe("connection-status", snapshot=False)
        await ask("POST", "/servers", leased("a", lease={"ttl": 1, "reapAfter": 60}))
        assert (await told.next())["status"] == "active"
        change = await told.next()
        assert (change["status"], change["reason"]) == ("disconnected", "no heartbeat for 1 s")


@pytest.mark.parametrize(
    "wanted",
    [{"tags": ["x"]}, {"ids": ["a", "c"]}, {"capabilities": ["find"]}],
    ids=["tags", "ids", "capabilities"],
)
async def test_filters(ask: Client, wanted: dict[str, Any]) -> None:
    match = {"tags": ["x", "y"], "capabilities": ["find", "order"]}
    await ask("POST", "/servers", leased("a", **match))
    await ask("POST", "/servers", leased("b"))
    async with stream(ask) as told:
        await told.subscribe("connection-status", "capability-request", **wanted)
        assert [each["connectionId"] for each in (await told.next())["connections"]] == ["a"]
        await outcome(ask, "b")
        await ask("POST", "/servers/b/drain")
        await outcome(ask, "a")
        assert (await told.next())["connectionId"] == "a"
        await ask("POST", "/servers", leased("c", **match))
        assert (await told.next())["connectionId"] == "c"


async def test_one_that_matches_no_longer_is_told_once(ask: Client) -> None:
    await ask("POST", "/servers", leased("a", tags=["x"]))
    async with stream(ask) as told:
        await told.subscribe("connection-status", tags=["x"])
        await told.next()
        await ask("PUT", "/servers/a", leased("a", tags=["y"]))
        change = await told.next()
        assert (change["status"], change["matches"]) == ("active", False)
        await ask("POST", "/servers/a/drain")
        await ask("POST", "/servers", leased("b", tags=["x"]))
        assert (await told.next())["connectionId"] == "b"


async def test_unsubscribing_and_other_filters(ask: Client) -> None:
    await ask("POST", "/servers", leased("a", tags=["x"]))
    async with stream(ask) as told:
        await told.say(SUBSCRIBE)
        await told.next()
        await told.next()
        answer = await told.ask(action="unsubscribe", events=["connection-status"])
        assert (answer["type"], answer["events"]) == (
            "unsubscribed",
            ["health-check", "capability-request"],
        )
        await ask("POST", "/servers/a/drain")
        await outcome(ask, "a")
        assert (await told.next())["type"] == "capability-request"
        # What is subscribed stays; what is named as well is added; the filter is another one.
        answer = await told.subscribe("connection-status", tags=["none"])
        assert len(answer["events"]) == 3
        assert (await told.next())["connections"] == []
        await outcome(ask, "a")
        answer = await told.ask(action="unsubscribe")
        assert answer["events"] == []


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ("{}", "action is missing"),
        ({"action": "subscrbe"}, "did you mean 'subscribe'?"),
        ({"action": "subscribe", "events": ["helth-check"]}, "did you mean 'health-check'?"),
        ({"action": "subscribe", "event": ["health-check"]}, "did you mean 'events'?"),
        ({"action": "subscribe", "events": "health-check"}, "not a list of strings"),
        ({"action": "subscribe", "events": []}, "events is empty"),
        ({"action": "subscribe", "tags": [1]}, "tags is not a list"),
        ({"action": "subscribe", "tags": ["x"] * 10_000}, "more than 1000"),
        ({"action": "subscribe", "match": "some"}, "neither any nor all"),
        ({"action": "subscribe", "resume": 7}, "resume is not"),
        ({"action": "subscribe", "snapshot": "no"}, "neither true nor false"),
        ({"action": "unsubscribe", "tags": []}, "unknown field 'tags'"),
        ('{"action": "subscribe", "tags": ["' + "x" * 70_000 + '"]}', "over 65,536 bytes"),
        ("[" * 60_000, "not JSON"),
        ('{"action": "\ud83d"}', None),
    ],
)
async def test_what_is_misunderstood_is_told_and_does_no_harm(
    ask: Client, message: Any, words: str | None
) -> None:
    async with stream(ask) as told:
        if words is None:  # broken UTF-8, which a client cannot send as a string
            payload = b'{"action": "\xed\xa0\xbd"}'
            await told.socket.send_frame(payload, aiohttp.WSMsgType.TEXT)
            words = "not JSON"
        else:
            await told.say(message)
        answer = await told.next()
        assert answer["type"] == "error"
        assert words in answer["detail"]
        await told.subscribe("health-check")


async def test_a_binary_message_is_refused(ask: Client) -> None:
    async with stream(ask) as told:
        await told.socket.send_bytes(orjson.dumps(SUBSCRIBE))
        assert "binary" in (await told.next())["detail"]
        await told.subscribe("health-check")


async def test_too_many_errors_in_a_row_end_it(ask: Client) -> None:
    async with stream(ask) as told:
        for _ in range(MOST_ERRORS - 1):
            assert (await told.ask(action="no"))["type"] == "error"
        await told.subscribe("health-check")  # that was understood
        for _ in range(MOST_ERRORS):
            assert (await told.ask(action="no"))["type"] == "error"
        with pytest.raises(EOFError):
            await told.next()
        assert told.socket.close_code == aiohttp.WSCloseCode.POLICY_VIOLATION


async def test_a_giant_message_ends_it_and_nothing_else(ask: Client) -> None:
    async with stream(ask) as told:
        await told.say("x" * (2 * 2**20))
        with pytest.raises(EOFError):
            await told.next()
        assert told.socket.close_code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG
    assert (await ask("GET", "/health")).status == 200


async def test_no_handshake_is_told_what_to_do(ask: Client) -> None:
    reply = await ask("GET", "/registry/stream")
    assert reply.status == 426
    assert "WebSocket" in reply.json["detail"]
    assert (await ask("POST", "/registry/stream", {})).status == 405


# -- resuming ---------------------------------------------------------------------------------


async def test_resuming_tells_only_what_was_missed(ask: Client) -> None:
    await ask("POST", "/servers", leased("a"))
    async with stream(ask) as told:
        await told.subscribe("connection-status")
        last = (await told.next())["position"]
    await ask("POST", "/servers", leased("b"))
    await ask("DELETE", "/servers/a")
    async with stream(ask) as told:
        await told.subscribe("connection-status", resume=last)
        missed = [await told.next(), await told.next()]
        assert [(each["connectionId"], each["status"]) for each in missed] == [
            ("b", "active"),
            ("a", "disconnected"),
        ]
        await ask("POST", "/servers", leased("c"))
        assert (await told.next())["connectionId"] == "c"


@pytest.mark.parametrize("last", ["0123456789ab:5", "{epoch}:99999", "nonsense", "{epoch}:-1"])
async def test_what_cannot_be_resumed_starts_over_with_the_reason(ask: Client, last: str) -> None:
    await ask("POST", "/servers", leased("a"))
    epoch = (await position(ask)).partition(":")[0]
    async with stream(ask) as told:
        await told.subscribe("connection-status", resume=last.format(epoch=epoch))
        first = await told.next()
        assert first["type"] == "snapshot"
        assert first["startedOver"]
        assert len(first["connections"]) == 1


async def test_without_a_snapshot_it_goes_on_from_the_position_it_was_told(ask: Client) -> None:
    await ask("POST", "/servers", leased("a"))
    async with stream(ask) as told:
        answer = await told.subscribe("connection-status", snapshot=False)
        assert answer["position"] == await position(ask)
        await ask("POST", "/servers", leased("b"))
        assert (await told.next())["connectionId"] == "b"


@pytest.mark.slow
async def test_a_large_snapshot_comes_in_parts() -> None:
    async with EmbeddedStore() as store, served(store) as ask:
        for number in range(1001):
            await ask("POST", "/servers", leased(f"n-{number}"))
        async with stream(ask) as told:
            await told.subscribe("connection-status")
            parts = [await told.next(), await told.next()]
            assert [(len(each["connections"]), each["more"]) for each in parts] == [
                (1000, True),
                (1, False),
            ]


# -- slow and silent readers ------------------------------------------------------------------


@asynccontextmanager
async def deaf(ask: Client, *messages: dict[str, Any]) -> AsyncIterator[socket.socket]:
    """A client that makes a handshake, says something and reads no more."""
    host, port = ask.url.removeprefix("http://").split(":")
    with socket.socket() as it:
        it.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        it.connect((host, int(port)))
        it.sendall(
            b"GET /registry/stream HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
            b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        for message in messages:
            data = orjson.dumps(message)
            it.sendall(b"\x81" + bytes([0x80 | len(data)]) + b"\0\0\0\0" + data)

        async def joined() -> bool:
            return await readers(ask) >= 1

        await until(joined, timeout=30, what="the deaf reader being there")
        yield it


async def test_a_reader_that_does_not_read_is_closed_and_slows_nobody() -> None:
    async with (
        served_whole(replace(QUICK, write_timeout=0.5)) as (ask, facade),
        deaf(ask, {"action": "subscribe", "events": ["capability-request"]}),
        stream(ask) as told,
    ):
        await told.subscribe("capability-request")

        async def closed() -> bool:
            for _ in range(50):
                facade.usage.outcome("a", latency=0.1, success=False, error="e" * 10_000)
            for _ in range(50):
                assert (await told.next())["type"] == "capability-request"
            return await readers(ask) == 1

        await until(closed, timeout=30, what="the deaf reader being closed")


async def test_a_client_that_answers_no_ping_is_dropped() -> None:
    async with served(ping=0.2) as ask, deaf(ask, {"action": "subscribe"}):

        async def dropped() -> bool:
            return await readers(ask) == 0

        await until(dropped, timeout=30, what="the silent client being dropped")


async def test_nothing_subscribed_for_long_ends_it() -> None:
    async with served(idle=0.5, ping=0.1) as ask, stream(ask) as told:
        with pytest.raises(EOFError):
            await told.next()
        assert told.socket.close_code == aiohttp.WSCloseCode.OK
        async with stream(ask) as other:
            await other.subscribe("health-check")
            with pytest.raises(TimeoutError):
                await other.next(1.0)
            assert (await other.ask(action="unsubscribe"))["events"] == []


async def test_what_a_slow_reader_missed_is_counted() -> None:
    """The loop is not given up between these outcomes, so no reader can keep up."""
    async with served_whole() as (ask, facade), stream(ask) as told:
        await told.subscribe("capability-request")
        for _ in range(LOG_LENGTH + 10):
            facade.usage.outcome("a", latency=0.1, success=True)
        assert await told.next() == {
            "type": "dropped",
            "events": ["capability-request"],
            "count": 10,
        }
        for _ in range(LOG_LENGTH):
            assert (await told.next())["type"] == "capability-request"


async def test_a_reader_behind_the_ring_gets_a_fresh_snapshot() -> None:
    async with served_whole(replace(QUICK, ring=100)) as (ask, facade), stream(ask) as told:
        await told.subscribe("connection-status")
        await told.next()
        await ask("POST", "/servers", leased("a"))
        assert (await told.next())["status"] == "active"
        instance = facade.catalog.view.entries["a"].instance
        for _ in range(100):  # gone and back, without a pause
            facade.catalog.apply(Change("a", None))
            facade.catalog.apply(Change("a", instance))
        fresh = await told.next()
        assert fresh["type"] == "snapshot"
        assert "older than the changes kept" in fresh["startedOver"]
        assert [each["connectionId"] for each in fresh["connections"]] == ["a"]


async def test_readers_end_when_the_facade_stops() -> None:
    async with AsyncExitStack() as running, aiohttp.ClientSession() as session:
        ask, _ = await running.enter_async_context(served_whole())
        socket = await session.ws_connect(f"{ask.url}/registry/stream")
        await Stream(socket).subscribe("health-check")
        listening = asyncio.create_task(socket.receive())
        await running.aclose()
        message = await listening
        assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSING)
        assert socket.close_code == aiohttp.WSCloseCode.GOING_AWAY


async def test_a_reader_that_leaves_frees_its_place(ask: Client) -> None:
    async with stream(ask) as told:
        await told.say(SUBSCRIBE)
        await told.next()
        assert await readers(ask) == 1
    async with stream(ask) as told:
        await told.say(SUBSCRIBE)
        transport = told.socket._response.connection
        assert transport is not None
        transport.close()  # without a goodbye

        async def left() -> bool:
            return await readers(ask) == 0

        await until(left, timeout=30, what="the readers being gone")


async def test_many_readers_see_the_same(ask: Client) -> None:
    async def follow(told: Stream) -> list[str]:
        return [(await told.next())["position"] for _ in range(20)]

    async with (
        asyncio.timeout(60),
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
        AsyncExitStack() as open_streams,
    ):
        ask = Client(ask.url, session)
        told = [await open_streams.enter_async_context(stream(ask)) for _ in range(200)]
        for each in told:
            await each.subscribe("connection-status", snapshot=False)
        following = [asyncio.create_task(follow(each)) for each in told]
        for number in range(20):
            await ask("POST", "/servers", leased(f"n-{number}"))
        seen = await asyncio.gather(*following)
        assert all(each == seen[0] for each in seen)
        assert len(set(seen[0])) == 20

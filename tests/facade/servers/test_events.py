"""The list as server-sent events."""

from __future__ import annotations

import asyncio
import gc
import itertools
import socket
from contextlib import AsyncExitStack
from datetime import datetime

import aiohttp
import psutil
import pytest

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.facade import create_app, serving
from mcp_discovery.instance import Instance
from mcp_discovery.query.query import Query
from tests.facade.harness import QUICK, Client, leased, served
from tests.stores.waiting import until


async def test_a_snapshot_then_changes(ask: Client) -> None:
    await ask("POST", "/servers", leased("a"))
    async with ask.events() as events:
        first = await events.next()
        assert first.name == "snapshot"
        assert [each["id"] for each in first.data["servers"]] == ["a"]
        assert first.id == f"{first.data['epoch']}:{first.data['revision']}"
        assert first.data["servers"][0] == (await ask("GET", "/servers/a")).json | {
            "lastSeen": first.data["servers"][0]["lastSeen"]
        }
        await ask("POST", "/servers", leased("b"))
        change = await events.next()
        assert (change.name, change.data["id"]) == ("change", "b")
        assert change.data["server"]["status"] == "healthy"
        assert change.id == f"{first.data['epoch']}:{first.data['revision'] + 1}"
        await ask("POST", "/servers/b/heartbeat", {"status": "down", "reason": "refused"})
        assert (await events.next()).data["server"]["reason"] == "refused"
        await ask("DELETE", "/servers/b")
        assert (await events.next()).data == {"id": "b", "server": None}


async def test_a_heartbeat_that_changes_nothing_tells_nobody(ask: Client) -> None:
    await ask("POST", "/servers", leased("a"))
    async with ask.events() as events:
        await events.next()
        for _ in range(5):
            await ask("POST", "/servers/a/heartbeat")
        await ask("POST", "/servers", leased("b"))
        assert (await events.next()).data["id"] == "b"


async def test_all_statuses_unless_filtered(ask: Client) -> None:
    await ask("POST", "/servers", leased("a", health={"status": "down"}))
    async with ask.events() as events:
        assert len((await events.next()).data["servers"]) == 1
    async with ask.events("?status=healthy") as events:
        assert (await events.next()).data["servers"] == []


async def test_a_filtered_reader_is_told_when_one_stops_matching(ask: Client) -> None:
    await ask("POST", "/servers", leased("a", tags=["x"]))
    async with ask.events("?tags=x&status=healthy") as events:
        assert len((await events.next()).data["servers"]) == 1
        await ask("POST", "/servers", leased("b"))  # never matches
        await ask("POST", "/servers", leased("c", tags=["x"]))
        assert (await events.next()).data["server"]["id"] == "c"
        await ask("POST", "/servers/a/heartbeat", {"status": "degraded"})
        assert (await events.next()).data == {"id": "a", "server": None}
        await ask("POST", "/servers/a/heartbeat", {"status": "down"})  # told already
        await ask("POST", "/servers/a/heartbeat", {"status": "healthy"})
        assert (await events.next()).data["server"]["id"] == "a"


@pytest.mark.parametrize("way", ["header", "query"])
async def test_resuming_tells_only_what_was_missed(ask: Client, way: str) -> None:
    await ask("POST", "/servers", leased("a"))
    async with ask.events() as events:
        last = (await events.next()).id
    await ask("POST", "/servers", leased("b"))
    await ask("DELETE", "/servers/a")
    if way == "header":
        stream = ask.events(**{"Last-Event-ID": last})
    else:
        stream = ask.events(f"?lastEventId={last}")
    async with stream as events:
        missed = [await events.next(), await events.next()]
        assert [(each.name, each.data["id"]) for each in missed] == [
            ("change", "b"),
            ("change", "a"),
        ]
        assert missed[1].data["server"] is None
        await ask("POST", "/servers", leased("c"))
        assert (await events.next()).data["id"] == "c"


async def test_a_filtered_reader_that_resumes_learns_what_stopped_matching(ask: Client) -> None:
    await ask("POST", "/servers", leased("a", tags=["x"]))
    await ask("POST", "/servers", leased("b", tags=["x"]))
    async with ask.events("?tags=x&status=healthy") as events:
        last = (await events.next()).id
    await ask("POST", "/servers/a/heartbeat", {"status": "down"})
    async with ask.events("?tags=x&status=healthy", **{"Last-Event-ID": last}) as events:
        assert (await events.next()).data == {"id": "a", "server": None}
        await ask("POST", "/servers/b/heartbeat", {"status": "down"})
        assert (await events.next()).data == {"id": "b", "server": None}


@pytest.mark.parametrize("last", ["0123456789ab:5", "{epoch}:99999", "nonsense", ":", "{epoch}:-1"])
async def test_what_cannot_be_resumed_starts_over_with_the_reason(ask: Client, last: str) -> None:
    await ask("POST", "/servers", leased("a"))
    epoch = (await ask("GET", "/servers")).headers["X-Discovery-Revision"].partition(":")[0]
    async with ask.events(**{"Last-Event-ID": last.format(epoch=epoch)}) as events:
        first = await events.next()
        assert first.name == "snapshot"
        assert len(first.data["servers"]) == 1
        assert first.data["startedOver"]


async def test_behind_the_ring_starts_over() -> None:
    async with served(ring=4) as ask:
        async with ask.events() as events:
            last = (await events.next()).id
        for number in range(6):
            await ask("POST", "/servers", leased(f"n-{number}"))
        async with ask.events(**{"Last-Event-ID": last}) as events:
            first = await events.next()
            assert first.name == "snapshot"
            assert "older than the changes kept" in first.data["startedOver"]
            assert len(first.data["servers"]) == 6


async def test_pings_keep_it_open_and_move_a_filtered_reader_on() -> None:
    async with served(ping=0.3) as ask, ask.events("?tags=none") as events:
        first = await events.next()
        await ask("POST", "/servers", leased("a"))
        at = (await ask("GET", "/servers")).headers["X-Discovery-Revision"]
        with pytest.raises(TimeoutError):
            await events.next(timeout=1.0)
        assert events.comments >= 2
        assert events.last_id == at != first.id


async def test_the_store_going_and_returning_is_told() -> None:
    async with served(hold=0.0) as facade_with_store:
        from mcp_discovery.adapters import open_store

        async with open_store(facade_with_store.url) as remote:
            pass  # the URL is good
        base = facade_with_store
        await base("POST", "/servers", leased("a"))
        # A second facade over the first one: its store can be taken away and brought back.
        proxy = await _Cut.start(base.url)
        async with open_store(proxy.url) as remote, served(remote) as ask:
            await ask.until_status("a", "healthy")
            async with ask.events() as events:
                assert (await events.next()).name == "snapshot"
                await proxy.cut()
                stale = await events.next(10)
                assert stale.name == "stale"
                assert stale.data["staleSince"]
                async with ask.events() as late:
                    assert (await late.next()).data["staleSince"]
                await proxy.mend()
                assert (await events.next(10)).name == "fresh"
        await proxy.cut()


class _Cut:
    """A TCP relay that can be cut and mended on one port: the fault is in the network."""

    def __init__(self, host: str, port: int) -> None:
        self._to = host, port
        self._port = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @classmethod
    async def start(cls, url: str) -> _Cut:
        host, port = url.removeprefix("http://").split(":")
        relay = cls(host, int(port))
        await relay.mend()
        return relay

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await self._server.wait_closed()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward, back = await asyncio.open_connection(*self._to)
        self._writers |= {writer, back}
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._copy(reader, back))
                group.create_task(self._copy(onward, writer))
        finally:
            self._writers -= {writer, back}

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


async def test_readers_end_at_once_when_the_facade_stops() -> None:
    async with EmbeddedStore() as store, aiohttp.ClientSession() as session:
        app = create_app(store, QUICK)
        async with serving(app, "127.0.0.1", 0) as url:
            ask = Client(url, session)
            await until_ready(ask)
            response = await session.get(f"{url}/events", timeout=aiohttp.ClientTimeout())
            await response.content.readuntil(b"\n\n")
            began = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - began < 1.0
        assert b"event" not in await response.content.read()  # a whole end, not a reset
        response.close()


async def until_ready(ask: Client) -> None:
    async def ready() -> bool:
        return (await ask("GET", "/ready")).status == 200

    await until(ready, timeout=60, what="the facade being ready")


async def readers(ask: Client) -> int:
    for line in (await ask("GET", "/metrics")).body.splitlines():
        if line.startswith(b"mcp_discovery_event_readers "):
            return int(float(line.split()[1]))
    raise AssertionError("no such figure")


async def test_a_reader_that_leaves_is_noticed_before_the_next_ping() -> None:
    async with served(ping=60.0) as ask:
        async with ask.events() as events:
            await events.next()
            assert await readers(ask) == 1

        async def left() -> bool:
            return await readers(ask) == 0

        await until(left, timeout=3, what="the reader being gone")


async def test_a_reader_that_does_not_read_is_closed_and_slows_nobody() -> None:
    async with served(write_timeout=0.5, ping=60.0) as ask:
        host, port = ask.url.removeprefix("http://").split(":")
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect((host, int(port)))
            deaf.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            async with ask.events() as events:
                assert (await events.next()).name == "snapshot"
                large = {f"k{n}": "v" * 4000 for n in range(50)}

                versions = (f"1.0.{number}" for number in itertools.count())

                async def closed() -> bool:
                    version = next(versions)
                    body = leased("a", metadata=large, version=version)
                    assert (await ask("POST", "/servers", body)).status == 201
                    change = await events.next()
                    assert change.data["server"]["version"] == version
                    return await readers(ask) == 1

                await until(closed, timeout=20, what="the deaf reader being closed")


async def test_many_readers_see_the_same(ask: Client) -> None:
    async def follow() -> list[str]:
        async with ask.events() as events:
            await events.next()
            return [(await events.next(20)).id for _ in range(20)]

    followers = [asyncio.create_task(follow()) for _ in range(40)]

    async def connected() -> bool:
        return await readers(ask) == 40

    await until(connected, timeout=10, what="40 readers")
    for number in range(20):
        await ask("POST", "/servers", leased(f"n-{number}"))
    seen = await asyncio.gather(*followers)
    assert all(each == seen[0] for each in seen)


@pytest.mark.slow
async def test_500_readers_with_the_same_filters_cost_one_evaluation_each_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And little memory: what they are told is shared."""
    evaluated = 0
    matches = Query.matches

    def counted(query: Query, instance: Instance, now: datetime | None = None) -> bool:
        nonlocal evaluated
        evaluated += query["tags"] == {"x"}
        return matches(query, instance, now)

    async with (
        served(ping=60.0) as ask,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
        AsyncExitStack() as streams,
    ):
        many = Client(ask.url, session)
        for number in range(50):
            await ask("POST", "/servers", leased(f"n-{number}", tags=["x"]))
        before = resident()
        told = []
        for _ in range(500):
            events = await streams.enter_async_context(many.events("?tags=x"))
            assert (await events.next()).name == "snapshot"
            told.append(events)
        # The readers of this test are in the same process; each end costs some 20 KB.
        assert resident() - before < 500 * 150_000
        monkeypatch.setattr(Query, "matches", counted)
        began = asyncio.get_running_loop().time()
        await ask("POST", "/servers", leased("new", tags=["x"]))
        await ask("POST", "/servers", leased("other", tags=["y"]))
        await ask("DELETE", "/servers/new")
        seen = [[(await events.next(20)).data for _ in range(2)] for events in told]
        assert asyncio.get_running_loop().time() - began < 20
        assert all(each == seen[0] for each in seen)
        assert [each["id"] for each in seen[0]] == ["new", "new"]
        # Three changes: what each was before and is after.
        assert evaluated <= 6


def resident() -> int:
    """This process's memory, in bytes."""
    gc.collect()
    return int(psutil.Process().memory_info().rss)

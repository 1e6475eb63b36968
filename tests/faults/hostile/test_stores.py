"""Written raw into real stores: a facade over them stays quick, small and quiet."""

from __future__ import annotations

import asyncio
import base64
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import orjson
import pytest

from mcp_discovery.adapters import open_store
from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.adapters.store import Registration, StoreOptions
from mcp_discovery.health import Health, Status, healthy
from tests.faults.hostile import corpus
from tests.faults.hostile.processes import FacadeProcess, facade, measured
from tests.records import document, record
from tests.stores.consul import ConsulServer
from tests.stores.etcd import EtcdServer
from tests.stores.waiting import repeat, until

pytestmark = pytest.mark.asyncio(loop_scope="session")
#: Seconds within which a change of a neighbour arrives.
_NOTICED = 3.0


class Neighbour:
    """An instance that has nothing to do with it, and the health that its heartbeats carry."""

    def __init__(self, registration: Registration) -> None:
        self._registration = registration
        self._health = healthy()
        self._one_call = asyncio.Lock()  # a registration is not for concurrent use

    async def heartbeat(self, health: Health | None = None) -> None:
        """Sends ``health``, which stays until another is given."""
        async with self._one_call:
            self._health = health or self._health
            await self._registration.heartbeat(self._health)


@asynccontextmanager
async def neighbour(url: str) -> AsyncIterator[Neighbour]:
    """A neighbour, kept alive until the block ends."""
    made = document("search")
    fine = record("neighbour", capabilities={"digest": made.digest, "tools": ["search"]})
    async with open_store(url, StoreOptions(timeout=10)) as store:
        registration = await store.register(fine, made, ttl=5, reap_after=60)
        one = Neighbour(registration)
        task = asyncio.create_task(repeat(one.heartbeat, every=1))
        try:
            yield one
        finally:
            task.cancel()
            await asyncio.wait([task])
            await registration.deregister()


async def _notices(at: FacadeProcess, other: Neighbour) -> float:
    """Seconds until the facade shows a change of the neighbour; it is healthy again after it."""
    await other.heartbeat(Health(Status.DEGRADED, "a change"))
    took = await at.until_listed("neighbour", "degraded")
    await other.heartbeat(healthy())
    return took + await at.until_listed("neighbour")


class Consul:
    """Writes into Consul past our own API."""

    def __init__(self, server: ConsulServer, namespace: str) -> None:
        self.url = f"{server.store_url}/{namespace}"
        self._server, self._namespace = server, namespace

    async def record(self, id: str, value: bytes, name: str = "evil") -> None:
        key = quote(f"{self._namespace}/servers/{name}/{id}")
        await self._server.api("PUT", f"/v1/kv/{key}", data=value)

    async def alive(self, id: str, output: str | None = None) -> None:
        body = {
            "Node": "evil",
            "Address": "127.0.0.9",
            "Service": {"ID": id, "Service": self._namespace, "Tags": ["evil"] * 20},
            "Checks": corpus.checks(id, output or corpus.output()),
        }
        await self._server.api("PUT", "/v1/catalog/register", data=orjson.dumps(body))

    async def bad_lives(self) -> list[str]:
        for id, output in corpus.bad_outputs().items():
            await self.record(id, corpus.registration(id))
            await self.alive(id, output)
        return list(corpus.bad_outputs())

    async def forget(self) -> None:
        body = orjson.dumps({"Node": "evil"})
        await self._server.api("PUT", "/v1/catalog/deregister", data=body)
        await self._server.api("DELETE", f"/v1/kv/{self._namespace}/?recurse")


class Etcd:
    """Writes into etcd past our own API."""

    def __init__(self, server: EtcdServer, namespace: str) -> None:
        self.url = f"{server.store_url}/{namespace}"
        self._server, self._prefix = server, f"/{namespace}/"

    async def _put(self, key: str, value: bytes) -> None:
        body = {"key": _base64(key.encode("utf-8", "surrogateescape")), "value": _base64(value)}
        await self._server.call("kv/put", body)

    async def record(self, id: str, value: bytes, name: str = "evil") -> None:
        await self._put(f"{self._prefix}servers/{name}/{id}", value)

    async def alive(self, id: str, value: bytes | None = None) -> None:
        await self._put(f"{self._prefix}live/{id}", value or corpus.health())

    async def bad_lives(self) -> list[str]:
        for id, value in corpus.bad_health().items():
            await self.record(id, corpus.registration(id))
            await self.alive(id, value)
        for key in ("live/\udcff\udcfe", "live/a/b", "lost", "servers/x", "servers/" + "k" * 5000):
            await self._put(self._prefix + key, b"?")
        return list(corpus.bad_health())

    async def forget(self) -> None:
        end = self._prefix[:-1] + "0"
        body = {"key": _base64(self._prefix.encode()), "range_end": _base64(end.encode())}
        await self._server.call("kv/deleterange", body)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


Writer = Consul | Etcd


@pytest.fixture(params=["consul", "etcd"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def writer(kind: str, request: pytest.FixtureRequest, namespace: str) -> Writer:
    server = request.getfixturevalue(f"{kind}_server")
    return Consul(server, namespace) if kind == "consul" else Etcd(server, namespace)


async def test_what_a_stranger_writes_is_noticed_by_nobody(writer: Writer, tmp_path: Path) -> None:
    try:
        async with neighbour(writer.url) as other, facade(tmp_path, writer.url) as at:
            await at.until_listed("neighbour")
            async with measured(at.program.pid, f"{at.url}/health") as meanwhile:
                fine = corpus.readable(at.url)
                for id, value in (corpus.unreadable() | fine).items():
                    await writer.record(id, value)
                    await writer.alive(id)
                for id in fine:
                    await at.until_listed(id)
                assert await _notices(at, other) < _NOTICED
                # The words of all of them are indexed for this.
                assert "neighbour" in str(await at.ask("/servers?q=products&status=all"))
            meanwhile.check()
            listed = await at.servers()
            assert not set(corpus.unreadable()) - {"deep-command"} & listed.keys()
            assert listed["prototype"]["metadata"]["__proto__"] == "x"
            for id in corpus.unreadable():
                assert len(at.program.lines("skipped '", f"/{id}'")) == 1, at.program.lines(id)
            assert not at.program.lines("Traceback")
            await at.program.quiet(3)
    finally:
        await writer.forget()


async def test_a_health_that_is_none_is_nobody_elses_trouble(
    writer: Writer, tmp_path: Path
) -> None:
    try:
        async with neighbour(writer.url) as other, facade(tmp_path, writer.url) as at:
            async with measured(at.program.pid, f"{at.url}/health") as meanwhile:
                ids = await writer.bad_lives()

                async def all_listed() -> bool:
                    return set(ids) <= (await at.servers()).keys()

                await until(all_listed, timeout=10, what=f"{ids} being listed")
                assert await _notices(at, other) < _NOTICED
            meanwhile.check()
            assert not at.program.lines("Traceback")
            await at.program.quiet(3)
    finally:
        await writer.forget()


async def test_large_values_are_read_in_bounded_memory(writer: Writer, tmp_path: Path) -> None:
    """Consul: 20 MB of records in each answer; etcd: 70 MB, which is more than one answer holds."""
    size, count = (corpus.MOST, 40) if isinstance(writer, Consul) else (1_000_000, 70)
    try:
        async with neighbour(writer.url) as other:
            for number in range(count):
                await writer.record(f"large-{number}", b'"' + b"x" * size, name=f"n{number}")
            async with facade(tmp_path, writer.url) as at:
                await at.until_listed("neighbour")
                async with measured(at.program.pid, f"{at.url}/health") as meanwhile:
                    assert await _notices(at, other) < _NOTICED
                meanwhile.check()
                assert len(at.program.lines("skipped '")) <= 20
                await at.program.quiet(2, most=1)
    finally:
        await writer.forget()


async def test_a_writer_that_never_stops_does_not_fill_the_log(
    writer: Writer, tmp_path: Path
) -> None:
    try:
        async with neighbour(writer.url) as other, facade(tmp_path, writer.url) as at:
            async with measured(at.program.pid, f"{at.url}/health") as meanwhile:
                for number in range(300):
                    await writer.record("flood", corpus.registration("flood", version=f"v{number}"))
                    await writer.record(f"flood-{number}", b"[")
                assert await _notices(at, other) < _NOTICED
            meanwhile.check()
            assert 1 <= len(at.program.lines("skipped '")) <= 20
            await at.program.quiet(2)
    finally:
        await writer.forget()


async def test_the_file_of_an_embedded_store_by_another_hand(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    url = f"embedded://{path}"
    await EmbeddedStore(url).close()
    fine = orjson.dumps(
        {
            "status": "healthy",
            "reason": "x",
            "since": "2026-01-01T00:00:00Z",
            "lastSeen": "2026-01-01T00:00:00Z",
        }
    )
    values = corpus.unreadable() | corpus.readable("http://127.0.0.1:9")
    rows: list[tuple[object, object, object]] = [(id, value, fine) for id, value in values.items()]
    rows += [(id, corpus.registration(id), value) for id, value in corpus.bad_health().items()]
    rows += [
        ("text", "a text", "another"),
        ("number", 7, 1.5),
        ("bad-id", corpus.registration("bad-id"), b""),
        (7, corpus.registration("7"), fine),
        (b"\xff", corpus.registration("x"), fine),
    ]
    file = sqlite3.connect(path)
    with file:
        file.executemany("INSERT INTO instances VALUES (?, ?, ?)", rows)
    file.close()
    async with facade(tmp_path, url) as at, neighbour(at.url) as other:
        async with measured(at.program.pid, f"{at.url}/health") as meanwhile:
            assert await _notices(at, other) < _NOTICED
            assert set(corpus.readable("")) <= (await at.servers()).keys()
        meanwhile.check()
        assert not at.program.lines("Traceback")
        assert len(at.program.lines("skipped '")) <= 20
        await at.program.quiet(2)

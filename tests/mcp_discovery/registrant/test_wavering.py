"""Servers that waver, kept by a sidecar and by a facade over etcd: what that costs there."""

from __future__ import annotations

import asyncio
import base64
import itertools
import logging
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiohttp import web

from mcp_discovery.adapters.etcd import EtcdStore
from mcp_discovery.health import Status
from tests.facade.harness import served
from tests.facade.plain import HealthServer
from tests.sidecar.harness import sidecar, watching
from tests.stores.etcd import EtcdServer, encode
from tests.stores.waiting import NotYet, until

TTL, INTERVAL, SLOW_AFTER = 10.0, 0.3, 0.15
#: For how many seconds the servers are left to waver: a TTL, and the beginning of the next.
FOR = 12.0
#: How often the health of one may be written meanwhile, and a warning logged. A return is believed
#: at once three times, and then after three intervals, twice as long, and so on: six times in a
#: TTL, with two steps down and one up for each; and so is a reason, twice. Without the rule there
#: were up to 39.
MOST = 6 * 3 + 2
#: Those that are never well have two steps down, another reason at once, and one after a TTL.
MOST_WITHOUT_RETURN = 4
NEVER_WELL = ("port", "sockets", "statuses", "figures", "words")


class WaveringServer(HealthServer):
    """Answers well at first; once :attr:`wavers`, each of its ``turns`` in turn.

    A turn is the status of an answer; a text, which is the message of a JSON-RPC error with a
    number in it; or what is done to the connection: ``closes``, ``resets``, ``hangs``. ``slow`` is
    a good answer that is late, 200 a good one. A ``/`` and a status is what the health URL answers.
    """

    def __init__(self, *turns: int | str) -> None:
        super().__init__()
        self.wavers = False
        self._turns: Iterator[int | str] = itertools.cycle(turns)
        self._number = itertools.count(17)
        self.fault = self._wavering

    async def _wavering(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if not self.wavers or body["method"] not in ("server/discover", "initialize"):
            return await self.answer(request)
        turn, number, connection = next(self._turns), next(self._number), request.transport
        assert connection is not None
        self.status = 200
        match turn:
            case "closes":
                connection.close()
            case "resets":
                found: socket.socket = connection.get_extra_info("socket")
                found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.abort()
            case "hangs":
                await asyncio.sleep(30.0)
            case "slow":
                await asyncio.sleep(1.2 * SLOW_AFTER)
                return await self.answer(request)
            case int() if turn != 200:
                return web.Response(status=turn)
            case str() if turn.startswith("/"):
                self.status = int(turn[1:])
                return await self.answer(request)
            case str():
                error = {"code": -32603, "message": f"{turn} {number} after 0.{number} s"}
                return web.json_response({"jsonrpc": "2.0", "id": body["id"], "error": error})
        return await self.answer(request)


class ClosingPort(HealthServer):
    """As it wavers, a port that accepts connections and closes them, or refuses them for a while:
    what a server does whose process comes up and dies."""

    wavers = False
    _closing: asyncio.Task[None] | None = None

    async def waver(self) -> None:
        await self.stop()
        self._closing = asyncio.create_task(self._accept_and_close())

    async def _accept_and_close(self) -> None:
        while True:
            server = await asyncio.start_server(
                lambda _, writer: writer.close(), "127.0.0.1", self.port, reuse_address=True
            )
            await asyncio.sleep(0.7)
            server.close()
            await server.wait_closed()
            await asyncio.sleep(0.4)

    async def stop(self) -> None:
        if self._closing is not None:
            self._closing.cancel()
            await asyncio.wait({self._closing})
        await super().stop()


SERVERS: dict[str, Callable[[], HealthServer]] = {
    "port": ClosingPort,
    "sockets": lambda: WaveringServer("closes", "resets", 500, "hangs"),
    "statuses": lambda: WaveringServer(500, 404, 500, 501),
    "figures": lambda: WaveringServer("no worker for request"),
    "words": lambda: WaveringServer("a worker died", "the pool is empty", 500),
    "threshold": lambda: WaveringServer("slow", 200, 200, "slow", 200),
    "restarts": lambda: WaveringServer(200, 500, 200, 200, "closes"),
    "complaints": lambda: WaveringServer("/503", "/200", "/500", "/429", "/200", "/404"),
    "limits": lambda: WaveringServer(429, 500, 200, "slow"),
}


@pytest.fixture
async def servers() -> AsyncIterator[dict[str, Any]]:
    """All of them, by name."""
    async with AsyncExitStack() as stack:
        found = {}
        for name, make in SERVERS.items():
            server = found[name] = make()
            await server.start()
            stack.push_async_callback(server.stop)
        yield found


async def test_what_wavers_costs_a_few_writes_and_warnings_a_ttl(
    etcd_server: EtcdServer,
    namespace: str,
    servers: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mcp_discovery.facade.registration.posted_entry.SLOW_AFTER", SLOW_AFTER)
    url = f"{etcd_server.store_url}/{namespace}"

    async def writes() -> Counter[str]:
        """How often the health of each was written, by etcd's own count."""
        found = await etcd_server.call(
            "kv/range",
            {"key": encode(f"/{namespace}/live/"), "range_end": encode(f"/{namespace}/live0")},
        )
        return Counter({key_of(each): int(each["version"]) for each in found["kvs"]})

    def warnings() -> Counter[str]:
        names = {f"{server.base_url}/mcp": f"{name}-s" for name, server in servers.items()}
        names |= {f"{name}-f": f"{name}-f" for name in servers}
        found = Counter[str]()
        for each in caplog.records:
            if each.levelno >= logging.WARNING and " is " in each.getMessage():
                subject = each.getMessage().partition(" is ")[0].split()[-1]
                found[names.get(subject, "?")] += 1
        return found

    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(EtcdStore(url))
        seen = await stack.enter_async_context(watching(store))
        ask = await stack.enter_async_context(
            served(store, probe_interval=INTERVAL, probe_timeout=0.7 * INTERVAL, posted_ttl=TTL)
        )
        for name, server in servers.items():
            address = f"{server.base_url}/mcp"
            terms: dict[str, Any] = {"id": f"{name}-s", "name": name, "ttl": TTL}
            terms |= {"probe_interval": INTERVAL, "slow_after": SLOW_AFTER}
            body = {"id": f"{name}-f", "name": name, "url": address}
            if name == "complaints":
                terms["health_url"] = body["healthUrl"] = server.health_url
            await stack.enter_async_context(sidecar(store, address, **terms))
            assert (await ask("POST", "/servers", body)).status == 201

        async def all_well() -> bool:
            statuses = {id: one.health.status for id, one in seen.instances.items()}
            if len(statuses) < 2 * len(servers) or set(statuses.values()) != {Status.HEALTHY}:
                raise NotYet(str(statuses))
            return True

        await until(all_well, timeout=60, what="all being healthy")
        before = await writes()
        caplog.clear()
        for server in servers.values():
            server.wavers = True
        await servers["port"].waver()
        await asyncio.sleep(FOR)  # what is measured is what happens meanwhile
        written, said = await writes() - before, warnings()
    assert set(written) == set(before), "each was published as unwell"
    for found in written, said:
        assert max(found.values()) <= MOST, found
        never_well = {id: n for id, n in found.items() if id.startswith(NEVER_WELL)}
        assert max(never_well.values()) <= MOST_WITHOUT_RETURN, never_well


def key_of(kv: dict[str, str]) -> str:
    """The id in the key of a health."""
    return base64.b64decode(kv["key"]).decode().rpartition("/")[2]

"""That a posted server has ended, or is back, is seen between two probes without asking it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from aiohttp import web

from mcp_discovery.facade.http.addresses import AddressPolicy
from mcp_discovery.facade.http.outbound import Dialer
from mcp_discovery.facade.registration.suspicion import Suspicion
from mcp_discovery.health import Status
from tests.facade.harness import Client, served
from tests.facade.plain import HealthServer
from tests.servers.process import odd, sdk
from tests.stores.waiting import until

pytestmark = pytest.mark.slow  # what is tested takes its seconds

#: Seconds: long before the next probe, on a machine that may be busy.
AT_ONCE = 8.0


def posted(url: str, **more: Any) -> dict[str, Any]:
    return {"id": "a", "name": "products", "url": url} | more


@dataclass
class Closing(HealthServer):
    """Closes a connection that was idle for ``idle`` seconds, and counts what it is asked."""

    idle: float = 0.0
    asked: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        super().__init__()
        self.fault = self._counted

    async def _counted(self, request: web.Request) -> web.StreamResponse:
        self.asked["requests"] += 1
        response = await self.answer(request)
        if not self.idle:
            response.force_close()
        elif (transport := request.transport) is not None:
            asyncio.get_running_loop().call_later(self.idle, transport.close)
        return response


@asynccontextmanager
async def closing(idle: float) -> AsyncIterator[Closing]:
    server = Closing(idle=idle)
    await server.start()
    yield server
    await server.stop()


async def seconds_until(ask: Client, status: str) -> float:
    """How long it takes until the entry has ``status``, in seconds."""
    began = time.monotonic()
    await ask.until_status("a", status, timeout=30.0)
    return time.monotonic() - began


@pytest.mark.parametrize("start", [odd, sdk])
async def test_a_killed_server_is_seen_at_once_and_so_is_its_return(start: Any) -> None:
    async with start() as server, served(probe_interval=60.0) as ask:
        assert (await ask("POST", "/servers", posted(server.url))).status == 201
        await ask.until_status("a", "healthy")
        await server.kill()
        assert await seconds_until(ask, "down") < AT_ONCE
        # The pauses between its probes are long by now.
        await asyncio.sleep(4.0)
        await server.start()
        assert await seconds_until(ask, "healthy") < AT_ONCE


@pytest.mark.parametrize("idle", [0.0, 0.5])
async def test_a_server_that_closes_idle_connections_is_asked_no_more_often(idle: float) -> None:
    interval = 2.0
    async with closing(idle) as server, served(probe_interval=interval) as ask:
        # What it offers is posted, so that there is nothing to read but whether it lives.
        body = posted(f"{server.base_url}/mcp", capabilities=["search"])
        assert (await ask("POST", "/servers", body)).status == 201
        await ask.until_status("a", "healthy")
        before = server.asked["requests"]
        await asyncio.sleep(4 * interval)
        assert server.asked["requests"] - before <= 4 + 1  # the first pause is drawn by lot
        await server.stop()
        assert await seconds_until(ask, "down") < interval
        await server.start()
        assert await seconds_until(ask, "healthy") < interval


@pytest.mark.parametrize("by", ["outcome", "outcomes", "gateway"])
async def test_a_call_that_fails_leads_to_a_probe(by: str) -> None:
    server = HealthServer()
    await server.start()
    async with served(probe_interval=60.0, gateway=True) as ask:
        assert (await ask("POST", "/servers", posted(f"{server.base_url}/mcp"))).status == 201
        await ask.until_status("a", "healthy")

        async def fails(_: web.Request) -> web.StreamResponse:
            return web.Response(status=500)

        async def report(success: bool) -> None:
            outcome: dict[str, Any] = {"success": success}
            if by == "outcome":
                assert (await ask("POST", "/servers/a/outcome", outcome)).status == 204
            else:
                body = {"outcomes": [outcome | {"id": "a"}]}
                assert (await ask("POST", "/outcomes", body)).status == 200

        server.fault = fails
        if by == "gateway":
            call = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
            assert (await ask("POST", "/gateway/products/mcp", call)).status == 500
        else:
            await report(success=False)
        assert await seconds_until(ask, "down") < AT_ONCE
        if by != "gateway":
            server.fault = None
            await asyncio.sleep(1.0)  # not more often than that
            await report(success=True)
            assert await seconds_until(ask, "healthy") < AT_ONCE
    await server.stop()


@pytest.mark.parametrize("takes", [0.0, 0.3])
async def test_hints_that_lead_to_nothing_are_followed_more_and_more_seldom(takes: float) -> None:
    """Those that arise while the server is being asked are none of another kind."""
    loop = asyncio.get_running_loop()
    probes: list[float] = []

    def probe() -> None:
        probes.append(loop.time())
        loop.call_later(takes, suspicion.probed, Status.HEALTHY)

    suspicion = Suspicion(probe, 3.0)

    async def three() -> bool:
        suspicion.arises(Status.HEALTHY)
        return len(probes) == 3

    await until(three, timeout=30, what="three probes")
    first, second = [later - earlier for earlier, later in pairwise(probes)]
    assert first >= 2.0
    assert second >= 3.0

    # One that was right is followed by the next at once again, a second later.
    suspicion.probed(Status.DOWN)


async def test_what_may_not_be_dialled_is_not_looked_at() -> None:
    async with closing(0.0) as server:
        connections = 0

        async def accepted(_: Any, __: Any) -> None:
            nonlocal connections
            connections += 1

        listener = await asyncio.start_server(accepted, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        for private, expected in ((True, True), (False, None)):
            dialer = Dialer(AddressPolicy(private))
            found = await dialer.accepts(f"http://127.0.0.1:{port}/mcp")
            assert found is expected
            found = await dialer.accepts(server.base_url, ("127.0.0.1", port))
            assert found is expected
            await dialer.close()

        async def seen() -> bool:
            return connections == 2

        await until(seen, timeout=5.0, what="the two connections that were allowed")
        listener.close()
        dialer = Dialer(AddressPolicy(True))
        assert await dialer.accepts(f"http://localhost:{port}/mcp") is False
        await dialer.close()

"""The same fault has the same status and reason, whether a sidecar or a facade registers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.probe.verdict import HEALTH_URL_ASKS
from mcp_discovery.record import Auth
from tests.facade.harness import Client, served
from tests.facade.plain import HealthServer
from tests.sidecar.harness import Seen, sidecar, watching
from tests.stores.waiting import NotYet, until

INTERVAL = 1.0
#: What a sidecar gives a probe within that interval, and the facade here as well; in seconds.
TIMEOUT = 0.7
SLOW_AFTER = 0.3

Fault = Callable[[HealthServer], Awaitable[None]]


def answers(**response: Any) -> Fault:
    """MCP requests are answered so."""

    async def set_fault(server: HealthServer) -> None:
        async def fault(_: web.Request) -> web.StreamResponse:
            return web.Response(**response)

        server.fault = fault

    return set_fault


def result(body: dict[str, Any]) -> Fault:
    """MCP requests are answered with a JSON-RPC message like this."""

    async def set_fault(server: HealthServer) -> None:
        async def fault(request: web.Request) -> web.StreamResponse:
            return web.json_response({"jsonrpc": "2.0", "id": (await request.json())["id"]} | body)

        server.fault = fault

    return set_fault


async def hangs(server: HealthServer) -> None:
    async def fault(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(5.0)
        return web.Response()

    server.fault = fault


async def closes(server: HealthServer) -> None:
    async def fault(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    server.fault = fault


async def is_slow(server: HealthServer) -> None:
    async def fault(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.45)
        return await server.answer(request)

    server.fault = fault


def health(status: int = 200, delay: float = 0.0) -> Fault:
    """The health URL answers so."""

    async def set_fault(server: HealthServer) -> None:
        server.status, server.delay = status, delay

    return set_fault


async def refuses(server: HealthServer) -> None:
    await server.stop()


def both(*faults: Fault) -> Fault:
    async def set_faults(server: HealthServer) -> None:
        for fault in faults:
            await fault(server)

    return set_faults


FAULTS: list[tuple[str, Fault, str, str]] = [
    ("HTTP 500", answers(status=500), "down", "HTTP 500 from the MCP endpoint"),
    ("HTTP 503", answers(status=503), "down", "HTTP 503 from the MCP endpoint"),
    ("HTTP 404", answers(status=404), "down", "HTTP 404 from the MCP endpoint"),
    ("HTTP 429", answers(status=429), "degraded", "HTTP 429 from the MCP endpoint"),
    ("401", answers(status=401), "down", "HTTP 401 from the MCP endpoint"),
    ("403", answers(status=403), "down", "HTTP 403 from the MCP endpoint"),
    (
        "redirect",
        answers(status=307, headers={"Location": "http://127.0.0.1:9/elsewhere"}),
        "down",
        "redirects to another origin",
    ),
    (
        "moved",
        answers(status=302, headers={"Location": "/mcp/"}),
        "down",
        "HTTP 302 from the MCP endpoint",
    ),
    (
        "garbage",
        answers(body=b'{"jsonrpc": ', content_type="application/json"),
        "down",
        "answered, but not MCP: the body is not JSON",
    ),
    (
        "a page",
        answers(text="<html>hello</html>", content_type="text/html"),
        "down",
        "answered, but not MCP: the body is not JSON",
    ),
    ("JSON, but no answer", answers(text="[]"), "down", ""),
    ("no body", answers(), "down", ""),
    ("an error", result({"error": {"code": -32603, "message": "no"}}), "down", ""),
    ("another result", result({"result": {}}), "down", ""),
    ("a hanging endpoint", hangs, "down", f"no answer within {TIMEOUT:g} s"),
    (
        "a closed connection",
        closes,
        "down",
        "the server closed the connection without an answer",
    ),
    ("a closed port", refuses, "down", "connection refused"),
    ("a slow answer", is_slow, "degraded", f"slower than {SLOW_AFTER:g} s"),
    ("health 503", health(503), "degraded", "the health endpoint answered HTTP 503"),
    ("health 401", health(401), "healthy", f"answers MCP; {HEALTH_URL_ASKS}"),
    ("a slow health URL", health(delay=0.45), "degraded", f"slower than {SLOW_AFTER:g} s"),
    (
        "a hanging health URL",
        health(delay=5.0),
        "degraded",
        f"answers MCP; its health endpoint: no answer within {TIMEOUT:g} s",
    ),
    (
        "both",
        both(answers(status=500), health(503)),
        "down",
        "HTTP 500 from the MCP endpoint",
    ),
    (
        "slow, and its health URL complains",
        both(is_slow, health(503)),
        "degraded",
        "the health endpoint answered HTTP 503",
    ),
]


@pytest.fixture
async def plain() -> AsyncIterator[HealthServer]:
    server = HealthServer()
    await server.start()
    yield server
    await server.stop()


class BothWays:
    """One server as a sidecar's store shows it, and as a facade lists it."""

    def __init__(self, seen: Seen, ask: Client) -> None:
        self._seen = seen
        self._ask = ask

    async def verdicts(self) -> list[tuple[str, str]]:
        """Status and reason by the sidecar, and by the facade."""
        if (by_sidecar := self._seen.only) is None:
            raise NotYet("no sidecar has registered it")
        by_facade = (await self._ask("GET", "/servers/posted")).json
        health = by_sidecar.health
        return [
            (health.status.value, health.reason),
            (by_facade["status"], by_facade["reason"]),
        ]

    async def until(self, status: str, reason: str) -> None:
        """Waits until both give this status and a reason that begins so, the same reason."""

        async def agreed() -> bool:
            found = await self.verdicts()
            if {each for each, _ in found} != {status} or len(set(found)) > 1:
                raise NotYet(str(found))
            if not found[0][1].startswith(reason):
                raise NotYet(str(found))
            return True

        await until(agreed, timeout=10.0, what=f"{status}: {reason}")


@asynccontextmanager
async def registered_both_ways(
    server: HealthServer, monkeypatch: pytest.MonkeyPatch, auth: str = "none"
) -> AsyncIterator[BothWays]:
    monkeypatch.setattr("mcp_discovery.facade.registration.posted_entry.SLOW_AFTER", SLOW_AFTER)
    body: dict[str, Any] = {"id": "posted", "name": "products", "url": f"{server.base_url}/mcp"}
    body |= {"healthUrl": server.health_url, "auth": {"type": auth}}
    terms: dict[str, Any] = {
        "probe_interval": INTERVAL,
        "slow_after": SLOW_AFTER,
        "name": "products",
    }
    terms |= {"health_url": server.health_url, "auth": Auth.model_validate({"type": auth})}
    async with (
        EmbeddedStore() as store,
        watching(store) as seen,
        sidecar(store, f"{server.base_url}/mcp", **terms),
        served(probe_timeout=TIMEOUT) as ask,
    ):
        assert (await ask("POST", "/servers", body)).status == 201
        both_ways = BothWays(seen, ask)
        await both_ways.until("healthy", "answers MCP")
        yield both_ways


#: Those that take as long as a probe may.
_SLOW = {
    "HTTP 429",
    "a hanging endpoint",
    "a hanging health URL",
    "a slow answer",
    "a slow health URL",
    "slow, and its health URL complains",
}


@pytest.mark.parametrize(
    ("fault", "status", "reason"),
    [
        pytest.param(*each, id=id, marks=[pytest.mark.slow] if id in _SLOW else [])
        for id, *each in FAULTS
    ],
)
async def test_one_fault_has_one_verdict(
    plain: HealthServer,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
    status: str,
    reason: str,
) -> None:
    async with registered_both_ways(plain, monkeypatch) as both_ways:
        await fault(plain)
        await both_ways.until(status, reason)
        plain.fault, plain.status, plain.delay = None, 200, 0.0
        await plain.stop()
        await plain.start()
        await both_ways.until("healthy", "answers MCP")


@pytest.mark.slow
@pytest.mark.parametrize("status", [401, 403])
async def test_credentials_that_the_record_announces_are_no_fault(
    plain: HealthServer, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    async with registered_both_ways(plain, monkeypatch, auth="bearer") as both_ways:
        await answers(status=status)(plain)
        await both_ways.until("healthy", "answers, and asks for credentials as its record says")
        plain.status = 503
        await both_ways.until("degraded", "the health endpoint answered HTTP 503")

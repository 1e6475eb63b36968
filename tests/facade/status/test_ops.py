"""Health and metrics on a listener of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.facade.harness import Client, served
from tests.stores import ports


@asynccontextmanager
async def apart() -> AsyncIterator[tuple[Client, Client]]:
    """A facade, and its listener for health and metrics."""
    with_port = ports.draw().number
    async with served(ops_port=with_port) as ask:
        yield ask, Client(f"http://127.0.0.1:{with_port}", ask.session)


async def test_what_is_where() -> None:
    async with apart() as (ask, ops):
        for path in ("/health", "/ready"):
            assert (await ask("GET", path)).status == 200
            assert (await ops("GET", path)).status == 200
        assert b"mcp_discovery_instances" in (await ops("GET", "/metrics")).body
        reply = await ask("GET", "/metrics")
        assert reply.status == 404 and "--ops-port" in reply.json["detail"]
        for method, path in (("GET", "/servers"), ("POST", "/servers"), ("POST", "/mcp")):
            assert (await ops(method, path)).status == 404


async def test_its_front_door_is_the_same() -> None:
    async with apart() as (_, ops):
        reply = await ops("GET", "/metrics", headers={"Host": "evil.example"})
        assert reply.status == 421
        reply = await ops("GET", "/metrics")
        assert reply.headers["Server"] == "mcp-discovery"
        assert reply.headers["X-Content-Type-Options"] == "nosniff"


async def test_a_full_facade_is_still_looked_at() -> None:
    port = ports.draw().number
    async with served(ops_port=port, max_connections=1) as ask:
        ops = Client(f"http://127.0.0.1:{port}", ask.session)
        async with ask.events():
            reply = await ask("GET", "/servers")
            assert reply.status == 503
            assert reply.json["type"].endswith(":too-many-connections")
            assert reply.headers["Connection"] == "close"
            assert (await ask("GET", "/health")).status == 200
            assert (await ops("GET", "/metrics")).status == 200

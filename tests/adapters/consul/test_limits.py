"""What Consul, or a proxy before it, refuses because there is too much of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from mcp_discovery.adapters.consul import ConsulStore
from mcp_discovery.adapters.store import StoreOptions
from mcp_discovery.errors import DocumentNotFoundError, StoreUnavailableError
from tests.records import document, record
from tests.stores import ports
from tests.stores.binaries import Release, matrix
from tests.stores.consul import ConsulAgent, ConsulServer
from tests.stores.waiting import NotYet, until


async def test_connections_beyond_the_limit(release: Release) -> None:
    limited = {"limits": {"http_max_conns_per_client": 3}}
    async with ConsulServer(config=limited) as server:
        held: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        wanted = 2

        async def refused() -> str:
            nonlocal wanted
            # Consul forgets one that it counts with each that it refuses.
            held[:] = [each for each in held if not each[0].at_eof()]
            wanted += 1
            while len(held) < wanted:
                held.append(await asyncio.open_connection(server.host, server.http_port))
            try:
                async with ConsulStore(server.store_url, StoreOptions(timeout=0.3)) as store:
                    await store.document("0" * 64)
            except DocumentNotFoundError:
                raise NotYet("an answer") from None
            except StoreUnavailableError as error:
                if "http_max_conns_per_client" not in str(error):
                    raise NotYet(str(error)) from error
                return str(error)
            raise NotYet("a document")

        try:
            said = await until(refused, timeout=10, what="a connection too many")
            assert ("429" in said) is (release == "recent")
        finally:
            for _, writer in held:
                writer.close()

        async def answered() -> bool:  # Consul counts those that were closed for a moment more
            try:
                async with ConsulStore(server.store_url) as store:
                    await store.document("0" * 64)
            except DocumentNotFoundError:
                return True
            except StoreUnavailableError as error:
                raise NotYet(str(error)) from error
            return False

        await until(answered, timeout=10, what="an answer once there is room")


@pytest.mark.parametrize("release", [each for each in matrix() if each == "recent"], indirect=True)
async def test_a_limit_of_requests_slows_down_and_is_named(release: Release) -> None:
    """Consul 1.8 has no such limit."""
    limits = {"request_limits": {"mode": "enforcing", "read_rate": 1000, "write_rate": 2}}
    async with ConsulServer(config={"limits": limits}) as server:
        agent = ConsulAgent(server)
        agent.host = "127.0.0.3"  # a server does not limit what comes from its own address
        async with agent, ConsulStore(agent.store_url, StoreOptions(timeout=10)) as store:
            for number in range(4):
                one = record(f"catalog-{number}")
                await store.register(one, document(f"a{number}"), ttl=30, reap_after=60)

        async def refused() -> str:
            async with agent, ConsulStore(agent.store_url, StoreOptions(timeout=0.2)) as store:
                try:
                    for number in range(40):
                        one = record(f"other-{number}")
                        await store.register(one, document(f"b{number}"), ttl=30, reap_after=60)
                except StoreUnavailableError as error:
                    if "raise limits.request_limits" in str(error):
                        return str(error)
                    raise NotYet(str(error)) from error  # too late for 0.2 s, on a busy machine
            # Now and then Consul counts nothing of what comes over an agent's connection.
            raise NotYet("no limit")

        assert await until(refused, timeout=40, what="a limit")


@asynccontextmanager
async def limiting_proxy(times: list[float], refusals: int) -> AsyncIterator[str]:
    """A proxy that refuses so many requests with Retry-After, and then says what Consul says of a
    key that is not there; a real one that does the same at a known moment takes minutes to set."""

    async def answer(_: web.Request) -> web.Response:
        times.append(asyncio.get_running_loop().time())
        if len(times) <= refusals:
            return web.Response(status=429, text="slow down", headers={"Retry-After": "1"})
        return web.Response(status=404, headers={"X-Consul-Index": "1"})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    port = ports.draw().number
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"consul://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


@pytest.mark.slow
async def test_retry_after_is_honoured() -> None:
    times: list[float] = []
    async with limiting_proxy(times, 2) as url, ConsulStore(url) as store:
        with pytest.raises(DocumentNotFoundError):
            await store.document("0" * 64)
    assert times[1] - times[0] >= 1
    assert times[2] - times[1] >= 1
    times.clear()
    async with limiting_proxy(times, 99) as url, ConsulStore(url) as store:
        with pytest.raises(StoreUnavailableError, match="a proxy before it") as caught:
            await store.document("0" * 64)
    assert len(times) <= 6
    assert caught.value.retry_after == 1

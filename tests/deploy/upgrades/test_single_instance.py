"""The only instance of a server is replaced with default settings, as docs/operations.md says."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest

from tests.adapters.consul.test_dns import SRV, ask
from tests.deploy.consul.test_lost_token import token_of
from tests.deploy.upgrades.cluster import LOOK, Reader
from tests.deploy.upgrades.test_rolling import Caller
from tests.programs import ROOT, AskedFacade, Running, facade, running
from tests.stores import ConsulAgent, ConsulServer, EtcdServer, ports
from tests.stores.waiting import until

#: A busy machine may be slower than the second of the page, not by much.
GAP = 2.0
ID = "shop-1"


class Site:
    """A facade, and where the old and the new sidecar find the store."""

    def __init__(
        self, facade: AskedFacade, stores: tuple[str, str], dns: int | None = None, token: str = ""
    ) -> None:
        self.facade = facade
        self.stores = stores
        self.dns = dns
        self.environment = {"MCP_DISCOVERY_STORE_TOKEN": token} if token else {}


@asynccontextmanager
async def site(kind: str, folder: Path) -> AsyncIterator[Site]:
    """A store of that kind: of Consul two agents, each beside one of the sidecars, with ACLs."""
    async with AsyncExitStack() as stack:
        match kind:
            case "embedded":
                asked = await stack.enter_async_context(facade(folder, "embedded:"))
                yield Site(asked, (asked.url, asked.url))
            case "etcd":
                etcd = await stack.enter_async_context(EtcdServer())
                asked = await stack.enter_async_context(facade(folder, etcd.store_url))
                yield Site(asked, (etcd.store_url, etcd.store_url))
            case "consul":
                server = await stack.enter_async_context(ConsulServer(acl=True))
                agent = await stack.enter_async_context(ConsulAgent(server))
                await server.api(
                    "PUT", "/v1/agent/token/default", body={"Token": await token_of(server, "dns")}
                )
                reading = {"MCP_DISCOVERY_STORE_TOKEN": await token_of(server, "facade")}
                asked = await stack.enter_async_context(facade(folder, server.store_url, **reading))
                token = await token_of(server, "sidecar")
                yield Site(asked, (agent.store_url, server.store_url), server.dns_port, token)


class Names:
    """Asks Consul's DNS all the time, and notes the longest time without an answer in seconds."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.gap = 0.0

    async def read(self) -> None:
        """Asks for ever; to be cancelled."""
        clock = asyncio.get_running_loop().time
        seen = clock()
        while True:
            with suppress(TimeoutError):  # the agent is busy; a long silence shows as a gap
                if await ask(self._port, "product-catalog.mcp.service.consul", SRV):
                    self.gap, seen = max(self.gap, clock() - seen), clock()
            await asyncio.sleep(LOOK)


async def said(process: Running, pattern: str) -> None:
    """Waits until ``process`` has said that."""

    async def found() -> bool:
        return re.search(pattern, process.log) is not None

    await until(found, timeout=20, what=f"{pattern!r} in {process.log}")


@pytest.mark.parametrize("kind", ["embedded", "etcd", "consul"])
async def test_it_is_unlisted_for_less_than_a_second(kind: str, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        on = await stack.enter_async_context(site(kind, tmp_path))

        async def sidecar(store: str) -> tuple[Running, str]:
            port = ports.draw().number
            given = ("--id", ID, "--name", "product-catalog", "--tag", "products")
            url = f"http://127.0.0.1:{port}/mcp"
            server = (sys.executable, str(ROOT / "examples/product_catalog.py"), "--port")
            words = ("sidecar", "--store", store, "--url", url, *given, "--", *server, str(port))
            beside = running(tmp_path, *words, **on.environment)
            return await stack.enter_async_context(beside), url

        def listed_at(url: str) -> Callable[[], Awaitable[bool]]:
            async def listed() -> bool:
                found = await on.facade.servers("status=healthy")
                return [each["url"] for each in found.values()] == [url]

            return listed

        old, url = await sidecar(on.stores[0])
        await until(listed_at(url), timeout=30, what=f"{url} being listed: {old.log}")
        reader, caller, names = Reader(on.facade.url), Caller(), Names(on.dns or 0)
        async with reader.reading(ID), caller.calling(on.facade.url), asyncio.TaskGroup() as group:
            reading = group.create_task(names.read()) if on.dns else None
            new, url = await sidecar(on.stores[1])
            await said(new, r"waiting \d+ s for it to fall silent")
            old.send(signal.SIGTERM)
            await until(listed_at(url), timeout=20, what=f"{url} being listed: {new.log}")
            assert await old.stop(0) == 0
            await caller.more()
            if reading is not None:
                reading.cancel()
        assert "it need not be drained any longer" in old.log
        assert reader.faults == []
        print(f"{kind}: {reader.gaps[ID]:.2f} s by the facade, {names.gap:.2f} s by DNS")
        assert reader.gaps[ID] < GAP
        assert names.gap < GAP

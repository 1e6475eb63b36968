"""Everything is restarted in turn, as in an upgrade, and no agent notices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from mcp_discovery import Discovery
from tests.deploy.upgrades.cluster import Facades, Reader, Restarted, facades
from tests.servers.process import McpServer, example
from tests.stores import EtcdServer
from tests.stores.waiting import until

CALL_EVERY = 0.05
"""Seconds between two calls of an agent that calls all the time while parts are replaced."""


class Caller:
    """An agent that calls a tool all the time."""

    def __init__(self) -> None:
        self.calls = 0
        self._task: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def calling(self, url: str) -> AsyncIterator[None]:
        """Calls while the block runs; raises what a call raised."""
        async with Discovery(url) as d:
            await d.connect(tags=["products"])
            self._task = task = asyncio.create_task(self._call(d), name="caller")
            try:
                yield
                await self.more()
            finally:
                task.cancel()
                ended = (await asyncio.gather(task, return_exceptions=True))[0]
            if not isinstance(ended, asyncio.CancelledError):
                raise AssertionError(f"call {self.calls} failed") from ended

    async def more(self) -> None:
        """Waits for some calls that began after this."""
        aim = self.calls + 3

        async def called() -> bool:
            if self._task is not None and self._task.done():
                self._task.result()
            return self.calls >= aim

        await until(called, timeout=10, what="more calls")

    async def _call(self, d: Discovery) -> None:
        while True:
            result = await d.call("search_products", {"query": "kettle"})
            assert not result.is_error, result
            self.calls += 1
            await asyncio.sleep(CALL_EVERY)


def sidecar(folder: Path, store: str, server: McpServer, id: str, drain: str) -> Restarted:
    """A sidecar that is not started yet."""
    what = ("--name", "product-catalog", "--tag", "products", "--id", id, "--ttl", "6")
    where = ("--store", store, "--url", server.url, "--drain", drain)
    return Restarted(folder, "sidecar", *where, *what)


async def test_facades_and_sidecars_restarted_in_turn_leave_no_gap(tmp_path: Path) -> None:
    ids = ("shop-1", "shop-2")
    async with (
        EtcdServer() as store,
        facades(tmp_path, store.store_url) as front,
        example("product_catalog") as one,
        example("product_catalog") as two,
    ):
        beside = {
            id: sidecar(tmp_path, store.store_url, server, id, "0.5")
            for id, server in zip(ids, (one, two), strict=True)
        }
        try:
            for id in ids:
                await beside[id].start()
                await front.until_listed(id)
            reader, caller = Reader(front.url), Caller()
            reader.required = frozenset(ids)
            async with reader.reading(), caller.calling(front.url):
                for number, id in enumerate(ids):
                    await front.restart(number)
                    await _replaced(front, reader, beside[id], id)
                    await caller.more()
            assert reader.faults == []
            assert reader.looks > 50
        finally:
            for each in beside.values():
                await each.close()


async def _replaced(front: Facades, reader: Reader, beside: Restarted, id: str) -> None:
    everyone = reader.required
    reader.required = everyone - {id}
    await beside.stop()
    await beside.start()
    await front.until_listed(id)
    reader.required = everyone

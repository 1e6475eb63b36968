"""Named queries are read while they are asked for, and known on while the store is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from mcp_discovery.adapters import named_queries, open_store
from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.adapters.named_queries import NamedQueries
from mcp_discovery.adapters.store import Store, StoredQuery
from mcp_discovery.errors import StoreUnavailableError, StoreUnsupportedError, UnknownQueryError
from mcp_discovery.query.definition import QueryDefinition
from tests.stores.etcd import EtcdServer
from tests.stores.waiting import until

ONE = QueryDefinition.model_validate({"filters": {"tags": "one"}})
OTHER = QueryDefinition.model_validate({"filters": {"tags": "other"}})


class CountedStore(EmbeddedStore):
    """Counts how often its queries are read."""

    reads = 0

    async def queries(self) -> Mapping[str, StoredQuery]:
        self.reads += 1
        return await super().queries()


@asynccontextmanager
async def _running(queries: NamedQueries) -> AsyncIterator[None]:
    task = asyncio.create_task(queries.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_store_is_read_while_anybody_asks_and_not_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(named_queries, "INTERVAL", 0.01)
    monkeypatch.setattr(named_queries, "IN_USE", 0.3)
    async with CountedStore() as store:
        queries = NamedQueries(store)
        async with _running(queries):
            await queries.current()

            async def several() -> bool:
                return store.reads > 5

            await until(several, timeout=10, what="reading again and again")
            looks: list[int] = []

            async def rests() -> bool:
                looks.append(store.reads)
                return len(looks) > 20 and len({*looks[-20:]}) == 1

            await until(rests, timeout=20, what="reading no more")


async def test_a_change_by_another_wakes_who_waits() -> None:
    async with EmbeddedStore() as store:
        mine, theirs = NamedQueries(store), NamedQueries(store)
        async with _running(mine):
            known = await mine.current()
            assert await mine.current() is known
            waiting = asyncio.create_task(mine.after(known))
            await theirs.put("pay", ONE)
            async with asyncio.timeout(10):
                found = await waiting
            assert found["pay"] == ONE
            with pytest.raises(UnknownQueryError, match="did you mean 'pay'"):
                found["pya"]
            await mine.put("pay", OTHER)  # what one has kept itself it knows at once
            assert (await mine.current())["pay"] == OTHER


async def test_a_store_that_hangs_holds_nobody_up(namespace: str) -> None:
    async with (
        EtcdServer() as server,
        open_store(f"{server.store_url}/{namespace}") as store,
    ):
        queries = NamedQueries(store)
        async with _running(queries):
            await queries.put("pay", ONE)
            await server.pause()
            try:

                async def stale() -> bool:
                    return (await queries.current()).stale_since is not None

                await until(stale, timeout=20, what="the queries being stale")
                began = time.monotonic()
                for _ in range(50):
                    assert (await queries.current())["pay"] == ONE
                assert time.monotonic() - began < 5  # and not a second each
                assert (await queries.current()).caveats["definitionsProblem"]
            finally:
                await server.resume()

            async def fresh() -> bool:
                return (await queries.current()).stale_since is None

            await until(fresh, timeout=30, what="the queries being fresh")


async def test_a_store_full_of_queries_does_not_hold_the_loop() -> None:
    async with EmbeddedStore() as store:
        for number in range(300):
            await store.put_query(f"query-{number}", ONE.encode())
        turns = 0
        reading = asyncio.create_task(NamedQueries(store).latest())
        while not reading.done():
            await asyncio.sleep(0)
            turns += 1
        assert len((await reading).definitions) == 300
        assert turns >= 30


async def test_what_was_never_read_is_unavailable() -> None:
    async with open_store("etcd://127.0.0.1:9") as store:
        with pytest.raises(StoreUnavailableError):
            await NamedQueries(store).current()


async def test_a_store_of_before_keeps_no_queries() -> None:
    class Former:
        """What a third party's store has that derives from nothing of ours."""

        url = "former://x"

    queries = NamedQueries(cast(Store, Former()))
    calls: tuple[Any, ...] = (queries.current(), queries.put("pay", ONE))
    for call in calls:
        with pytest.raises(StoreUnsupportedError, match="keeps no named queries"):
            await call

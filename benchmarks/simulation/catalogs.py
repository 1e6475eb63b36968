"""A modelled store, and real catalogs that take in what it tells."""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

import psutil

from benchmarks import data
from benchmarks.simulation.queueing import Delay, Timeline
from mcp_discovery.adapters.catalog import Catalog
from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.adapters.store import Change, Snapshot
from mcp_discovery.health import Health, Status
from mcp_discovery.instance import Instance

#: Deliveries that a catalog is given of each timeline (the last ones, when queues have formed), and
#: changes of each.
_DELIVERIES, _CHANGES = 200, 10


class ModelledStore(EmbeddedStore):
    """Delivers to its one watch what a timeline has, in the timeline's time: a catalog that has
    taken in one delivery is given the next at once; only the processor time it needed is real."""

    def __init__(self, instances: Mapping[str, Instance]) -> None:
        super().__init__()
        self._instances = instances
        self._timelines: asyncio.Queue[tuple[Timeline, asyncio.Future[list[float]]]] = (
            asyncio.Queue()
        )
        #: Seconds that the catalog needed for the whole list, and for all changes so far.
        self.snapshot_took = 0.0
        self.changes_took: list[float] = []

    async def watch(self) -> AsyncGenerator[Snapshot | Change, None]:
        """One snapshot, then the changes of each timeline that :meth:`follow` brings."""
        began = time.thread_time()
        yield Snapshot(self._instances)
        self.snapshot_took = time.thread_time() - began
        changes, chance = self._changes(), random.Random(1)
        while True:
            timeline, done = await self._timelines.get()
            free, delays = 0.0, []
            for delivery in timeline.deliveries[-_DELIVERIES:]:
                free = max(free, delivery.at)
                changed = delivery.changed
                for at in chance.sample(changed, min(len(changed), _CHANGES)):
                    began = time.thread_time()
                    yield next(changes)
                    took = time.thread_time() - began
                    self.changes_took.append(took)
                    free += took
                    delays.append(free - at)
            done.set_result(delays)

    def _changes(self) -> Iterator[Change]:
        chance = random.Random(1)
        ids = list(self._instances)
        number = 0
        while True:
            number += 1
            instance = self._instances[chance.choice(ids)]
            health = Health((Status.HEALTHY, Status.DEGRADED)[number % 2], f"change {number}")
            yield Change(instance.id, replace(instance, health=health))

    async def follow(self, timeline: Timeline) -> list[float]:
        """Seconds from each change of ``timeline`` until the catalog has it."""
        done: asyncio.Future[list[float]] = asyncio.get_running_loop().create_future()
        await self._timelines.put((timeline, done))
        return await done


@dataclass(frozen=True, slots=True)
class Catalogs:
    """Real catalogs of so many instances each. Times in seconds, memory in bytes for each catalog
    with instances of its own."""

    stores: Sequence[ModelledStore]
    instances: int
    snapshot: float
    memory: float

    async def delay(self, timeline: Timeline) -> Delay:
        """From a change until it is in a catalog: each of them is a facade."""
        delays = await asyncio.gather(*(store.follow(timeline) for store in self.stores))
        return Delay.of([delay for each in delays for delay in each])

    @property
    def change(self) -> float:
        """Seconds that a catalog needed for one change, on average."""
        took = [each for store in self.stores for each in store.changes_took]
        return sum(took) / max(1, len(took))


@asynccontextmanager
async def catalogs(count: int, instances: int) -> AsyncGenerator[Catalogs, None]:
    """``count`` catalogs over modelled stores of so many instances."""
    process = psutil.Process()
    gc.collect()
    before = process.memory_info().rss
    listed = {each.id: each for each in data.instances(instances)}
    of_instances = process.memory_info().rss - before
    stores = [ModelledStore(listed) for _ in range(count)]
    async with AsyncExitStack() as stack:
        for store in stores:
            await stack.enter_async_context(store)
            catalog = await stack.enter_async_context(Catalog(store))
            await catalog.ready()
            assert len(catalog.view) == instances
        gc.collect()
        own = (process.memory_info().rss - before - of_instances) / count
        await asyncio.sleep(0)
        took = sorted(store.snapshot_took for store in stores)
        yield Catalogs(stores, instances, took[len(took) // 2], of_instances + own)

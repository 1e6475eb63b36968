"""Each fault by itself, over each store: what was recorded keeps the promises."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from random import Random

import pytest

from tests.faults.catalogue import FAULTS, of
from tests.faults.checker import judge
from tests.faults.history import History, Terms
from tests.faults.world import StoreKind, World, world

TERMS = Terms(ttl=4.0, probe_interval=1.3)


Worlds = Callable[[StoreKind], Awaitable[World]]


@pytest.fixture(scope="module")
async def worlds(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Worlds]:
    """The world over a store, built when it is first asked for; the one before it ends."""
    built: dict[StoreKind, World] = {}
    async with AsyncExitStack() as stack:

        async def get(kind: StoreKind) -> World:
            if kind not in built:
                await stack.aclose()
                built.clear()
                made = world(kind, tmp_path_factory.mktemp(kind), History(TERMS))
                built[kind] = await stack.enter_async_context(made)
            return built[kind]

        yield get


@pytest.mark.parametrize("name", [each.name for each in of("consul")])
async def test_consul(worlds: Worlds, name: str) -> None:
    await _keeps_the_promises(await worlds("consul"), name)


@pytest.mark.parametrize("name", [each.name for each in of("etcd")])
async def test_etcd(worlds: Worlds, name: str) -> None:
    await _keeps_the_promises(await worlds("etcd"), name)


async def _keeps_the_promises(broken: World, name: str) -> None:
    begin = broken.history.now
    async with FAULTS[name].does(broken, Random(name)):
        pass
    await broken.settled()
    # Each by itself: nothing is held or in doubt any more when the next one begins.
    await broken.shows([each.id for each in broken.seats], "healthy")
    found = [each for each in judge(broken.history) if each.at >= begin]
    file = broken.folder / f"{name.replace(' ', '-')}.history"
    broken.history.write(file)
    assert not found, "\n".join([f"{name}, see {file}", *map(str, found)])

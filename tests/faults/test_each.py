"""Each fault by itself, over each store: what was recorded keeps the promises.

All over what Debian packages; over the recent release as well those that its agents treat in
another way.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from random import Random

import pytest

from tests.faults.catalogue import FAULTS, of
from tests.faults.checker import judge
from tests.faults.environment import Environment, StoreKind, environment
from tests.faults.history import History, Terms
from tests.stores import binaries
from tests.stores.binaries import Release

TERMS = Terms(ttl=4.0, probe_interval=1.3)
#: A token that is gone makes no check critical there, and what is defined as it was is not sent.
OTHERWISE = [each.name for each in of("consul") if "token" in each.name] + ["store restarted empty"]


Environments = Callable[[StoreKind, Release], Awaitable[Environment]]


@pytest.fixture(scope="module")
async def environments(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Environments]:
    """The environment over a store, built when it is first asked for; the one before it ends."""
    built: dict[tuple[StoreKind, Release], Environment] = {}
    async with AsyncExitStack() as stack:

        async def get(kind: StoreKind, release: Release) -> Environment:
            if (kind, release) not in built:
                await stack.aclose()
                built.clear()
                folder = tmp_path_factory.mktemp(kind)
                made = environment(kind, folder, History(TERMS), release=release)
                built[kind, release] = await stack.enter_async_context(made)
            return built[kind, release]

        yield get


@pytest.mark.parametrize("name", [each.name for each in of("consul")])
async def test_consul(environments: Environments, name: str) -> None:
    await _keeps_the_promises(await environments("consul", "debian"), name)


@pytest.mark.parametrize("release", binaries.matrix()[1:])
@pytest.mark.parametrize("name", OTHERWISE)
async def test_recent_consul(environments: Environments, name: str, release: Release) -> None:
    await _keeps_the_promises(await environments("consul", release), name)


@pytest.mark.parametrize("name", [each.name for each in of("etcd")])
async def test_etcd(environments: Environments, name: str) -> None:
    await _keeps_the_promises(await environments("etcd", "debian"), name)


async def _keeps_the_promises(broken: Environment, name: str) -> None:
    begin = broken.history.now
    async with FAULTS[name].does(broken, Random(name)):
        pass
    await broken.settled()
    # Each by itself: nothing is held or in doubt any more when the next one begins.
    listed = [each.id for each in broken.instances] + [each.id for each in broken.bridged]
    await broken.shows(listed, "healthy")
    found = [each for each in judge(broken.history) if each.at >= begin]
    file = broken.folder / f"{name.replace(' ', '-')}.history"
    broken.history.write(file)
    assert not found, "\n".join([f"{name}, see {file}", *map(str, found)])

"""Each fault by itself, over each store: what was recorded keeps the promises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults.checker import judge
from tests.faults.history import History, Terms
from tests.faults.world import World, world

TERMS = Terms(ttl=6.0, probe_interval=2.0)


@pytest.fixture(scope="module", params=["consul", "etcd"])
async def broken(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    folder: Path = tmp_path_factory.mktemp("world")
    async with world(request.param, folder, History(TERMS)) as made:
        yield made


async def test_quiet(broken: World) -> None:
    await asyncio.sleep(3)
    for each in broken.history:
        print(each)
    assert judge(broken.history) == []

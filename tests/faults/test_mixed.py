"""Many faults at once, by a seeded schedule, over each release of each store.

The short form of ``make soak``.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults import schedule
from tests.faults.checker import judge
from tests.faults.environment import StoreKind, environment
from tests.faults.history import History, Terms
from tests.faults.namespaces import why_not
from tests.stores import binaries
from tests.stores.binaries import Release

TERMS = Terms(ttl=4.0, probe_interval=1.3)
SECONDS = 25.0
SEED = int(os.environ.get("FAULTS_SEED", "1"))


@pytest.mark.parametrize("release", binaries.matrix())
@pytest.mark.parametrize("kind", ["consul", "etcd"])
async def test_mixed(kind: StoreKind, release: Release, tmp_path: Path) -> None:
    history = History(TERMS, SEED)
    apart = why_not() is None
    async with environment(kind, tmp_path, history, apart=apart, release=release) as broken:
        await schedule.run(broken, SEED, SECONDS)
    file = tmp_path / "history"
    history.write(file)
    found = judge(history)
    replay = f"make soak STORES={kind} RELEASES={release} SECONDS={SECONDS:g} SEED={SEED}"
    assert not found, "\n".join([f"see {file}; again: {replay}", *map(str, found)])

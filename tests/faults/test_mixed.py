"""Many faults at once, by a seeded schedule: the short form of ``make soak``."""

from __future__ import annotations

import os
from pathlib import Path

from tests.faults import schedule
from tests.faults.checker import judge
from tests.faults.environment import StoreKind, environment
from tests.faults.history import History, Terms
from tests.faults.namespaces import why_not

TERMS = Terms(ttl=4.0, probe_interval=1.3)
SECONDS = 25.0
SEED = int(os.environ.get("FAULTS_SEED", "1"))


async def test_consul(tmp_path: Path) -> None:
    await _mixed("consul", tmp_path)


async def test_etcd(tmp_path: Path) -> None:
    await _mixed("etcd", tmp_path)


async def _mixed(kind: StoreKind, folder: Path) -> None:
    history = History(TERMS, SEED)
    async with environment(kind, folder, history, apart=why_not() is None) as broken:
        await schedule.run(broken, SEED, SECONDS)
    file = folder / "history"
    history.write(file)
    found = judge(history)
    replay = f"make soak STORES={kind} SECONDS={SECONDS:g} SEED={SEED}"
    assert not found, "\n".join([f"see {file}; again: {replay}", *map(str, found)])

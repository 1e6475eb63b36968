"""Store members cut off from each other while their clients reach all of them.

Needs network namespaces. Where the machine allows none, what can be broken there is broken instead:
everybody's way to one member, which is what a small proxy can do.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.faults.catalogue import FAULTS, of
from tests.faults.checker import judge
from tests.faults.environment import StoreKind, environment
from tests.faults.history import History, Terms
from tests.faults.namespaces import why_not

TERMS = Terms(ttl=4.0, probe_interval=1.3)
NAMES = [each.name for each in of("etcd", apart=True) if each.apart]


@pytest.mark.parametrize("kind", ["consul", "etcd"])
async def test_members_that_are_parted(kind: StoreKind, tmp_path: Path) -> None:
    missing = why_not()
    history = History(TERMS)
    async with environment(kind, tmp_path, history, instances=3, apart=missing is None) as broken:
        for name in NAMES if missing is None else ["leader frozen", "follower frozen"]:
            history.note("note", "driver", text=f"begins: {name} ({missing or 'namespaces'})")
            async with FAULTS[name].does(broken, Random(name)):
                pass
            await broken.settled()
    history.write(tmp_path / "history")
    assert judge(history) == []

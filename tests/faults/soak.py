"""``make soak``: mixed faults over real clusters for as long as one likes.

Says what it does while it does it; ends with the measured figures, and with exit code 1 when a
promise was broken or a process grew. A history can be judged again:
``python -m tests.faults.soak --judge FILE``.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import sys
import tempfile
import time
from collections.abc import Collection
from pathlib import Path

from tests.faults import schedule
from tests.faults.catalogue import FAULTS
from tests.faults.checker import judge
from tests.faults.environment import StoreKind, environment
from tests.faults.figures import measure, table
from tests.faults.growth import Growth
from tests.faults.history import History, Terms
from tests.faults.namespaces import why_not
from tests.stores import binaries
from tests.stores.binaries import Release

TERMS = Terms(ttl=4.0, probe_interval=1.3)
STORES: tuple[StoreKind, ...] = ("consul", "etcd")


def say(text: str) -> None:
    """A line for whoever watches."""
    print(text, flush=True)


async def soak(
    kind: StoreKind,
    release: Release,
    seconds: float,
    seed: int,
    folder: Path,
    only: Collection[str] = (),
) -> bool:
    """Breaks one environment for ``seconds``; returns whether all was kept."""
    say(f"\n== {kind} ({release}), {seconds:g} s, SEED={seed}; logs and history in {folder}")
    history = History(TERMS, seed)
    began = time.monotonic()
    apart = why_not() is None
    async with environment(kind, folder, history, apart=apart, release=release) as broken:
        say(
            f"   a cluster, {len(broken.instances)} instances and {len(broken.facades)} facades run"
        )
        growth = Growth(broken)
        sampling = asyncio.create_task(growth.run())
        try:
            left = seconds - (time.monotonic() - began)
            await schedule.run(broken, seed, max(10.0, left), say, only)
        finally:
            sampling.cancel()
            await asyncio.wait([sampling])
            history.write(folder / "history")
    seen, grown = growth.judge()
    return report(history, seen, grown)


def report(history: History, seen: list[str], grown: list[str]) -> bool:
    """Says what came of it; returns whether all was kept."""
    broken = [str(each) for each in judge(history)]
    faults = sum(
        each.kind == "note" and str(each.data.get("text")).startswith("begins") for each in history
    )
    say(f"\n{faults} faults, {sum(1 for _ in history)} events\n\n{table(measure(history))}")
    for line in (*seen, *grown, *broken):
        say(line)
    say("every promise was kept" if not broken else f"{len(broken)} times a promise was broken")
    return not (broken or grown)


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="in all")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--stores", nargs="*", choices=STORES, default=STORES)
    parser.add_argument("--releases", nargs="*", choices=binaries.RELEASES, default=())
    names = sorted(FAULTS)
    told = f"no others than these, of: {'; '.join(names)}"
    parser.add_argument(
        "--faults", nargs="*", choices=names, default=(), metavar="FAULT", help=told
    )
    parser.add_argument("--judge", type=Path, help="a history of before")
    given = parser.parse_args()
    if given.judge:
        return 0 if report(History.read(given.judge), [], []) else 1
    seed = given.seed if given.seed is not None else random.randrange(10**6)
    kept = True
    # One after the other: each wants what the machine has.
    several = list(itertools.product(given.stores, given.releases or binaries.matrix()))
    for kind, release in several:
        folder = Path(tempfile.mkdtemp(prefix=f"faults-{kind}-{release}-"))
        seconds = given.seconds / len(several)
        kept &= asyncio.run(soak(kind, release, seconds, seed, folder, given.faults))
    if not kept:
        say(f"\nagain: make soak SECONDS={given.seconds:g} SEED={seed}")
    if not given.releases and (sentence := binaries.left_out()):
        say(sentence)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())

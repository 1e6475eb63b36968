"""Fuzzes every target for a bounded time: ``python -m tests.faults.fuzz --seconds N [--seed S]``.

Half of the time goes to inputs made by rule, with hypothesis; the other half, where the package
``atheris`` is installed, to inputs found by coverage. Exit code 1 on a finding, whose input is
printed; a run with the same seed makes the same inputs by rule.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.faults.fuzz.target import Finding, Target
from tests.faults.fuzz.targets import BY_NAME

#: Inputs that are made in one go.
_ROUND = 200
#: Seconds that a guided run may take beyond its own time, to start and to end.
_MARGIN = 60.0
#: The least that such a run is worth starting for.
_SHORTEST = 5.0


def examine(target: Target, examples: int, number: int) -> None:
    """Feeds ``target`` with ``examples`` inputs drawn by the seed ``number``; raises Finding."""

    @seed(number)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(target.corpus)
    def judged(data: bytes) -> None:
        target.judge(data)

    judged()


def by_rule(targets: Sequence[Target], seconds: float, number: int) -> int:
    """Goes round ``targets`` for ``seconds``; returns how many inputs they were given."""
    until = time.monotonic() + seconds
    made = 0
    while True:
        for target in targets:
            examine(target, _ROUND, number)
            made += _ROUND
            if time.monotonic() > until:
                return made
        number += 1


def by_coverage(targets: Sequence[Target], seconds: float, number: int) -> bool:
    """Gives each of ``targets`` its share of ``seconds``; returns whether all of them held.

    Where the shares are short the time is over before all had theirs; another seed begins with
    another target.
    """
    until = time.monotonic() + seconds
    share = max(_SHORTEST, seconds / len(targets))
    first = number % len(targets)
    for target in (*targets[first:], *targets[:first]):
        if time.monotonic() > until:
            break
        command = [sys.executable, "-m", "tests.faults.fuzz.guided", target.name]
        command += ["--seconds", f"{share:g}", "--seed", str(number)]
        try:
            ended = subprocess.run(
                command, capture_output=True, timeout=share + _MARGIN, check=False
            )
        except subprocess.TimeoutExpired:
            print(f"{target.name}: a guided run did not end in time", file=sys.stderr)
            return False
        if ended.returncode:
            print(ended.stderr.decode(errors="replace")[-6000:], file=sys.stderr)
            return False
    return True


def main() -> int:
    """Runs from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", choices=sorted(BY_NAME), action="append")
    given_ = parser.parse_args()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    targets = [BY_NAME[name] for name in given_.target or BY_NAME]
    guided = importlib.util.find_spec("atheris") is not None
    share = given_.seconds / 2 if guided else given_.seconds
    try:
        made = by_rule(targets, share, given_.seed)
    except Finding as finding:
        print(f"FINDING with seed {given_.seed}: {finding}", file=sys.stderr)
        return 1
    print(f"{len(targets)} targets held against {made:,} inputs made by rule")
    if not guided:
        print("atheris is not installed: no inputs were found by coverage")
    elif not by_coverage(targets, share, given_.seed):
        return 1
    else:
        print(f"nothing was found by coverage in {share:g} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())

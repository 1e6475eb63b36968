"""A collapse is noticed here, noise is not: every margin is several times what is measured."""

from __future__ import annotations

import pytest

from benchmarks.harness import Scale, load_rows, run_row

#: Row → figure → how far the value may be off its goal: the share of it that must be reached.
_SHARES = {"requests-aiohttp": 0.5, "fan-out": 0.3, "latency-by-size": 0.3, "words": 0.3}


@pytest.mark.parametrize("name", _SHARES)
async def test_smoke(name: str) -> None:
    row = next(each for each in load_rows() if each.name == name)
    outcome = await run_row(row, Scale(quick=True))
    assert not outcome.problem, outcome.problem
    for line in outcome.lines:
        # The best of the runs: what else the machine does makes the others worse.
        best = max(line.value.high, 0) if line.at_least else line.value.low
        reached = best / line.limit if line.at_least else line.limit / best
        assert reached >= _SHARES[name], (name, line)

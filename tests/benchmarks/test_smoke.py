"""A collapse is noticed here, noise is not: every margin is several times what is measured.

Nothing is held against a time alone, which another machine, or other tests beside this one, would
make another: goals that are times are told in times of a fixed loop that ran in the same minute.
"""

from __future__ import annotations

import pytest

from benchmarks.harness import Line, Outcome, Scale, load_rows, run_row

#: Row → what part of each goal has to be reached.
_PART = {
    "requests-aiohttp": 0.4,
    "latency-by-size": 0.3,
    "change-etcd": 0.2,
    "client": 0.4,
    "words": 0.3,
}
#: What part of that is asked of a line that has no goal of its own: it is there to be known.
_WITHOUT_GOAL = 1 / 3
#: Row whose goals are times → the most, as so many times of the fixed loop.
_LOOPS = {"fan-out": 60.0}


# One after the other: beside each other they would measure each other.
@pytest.mark.xdist_group("benchmarks")
@pytest.mark.parametrize("name", [*_PART, *_LOOPS])
async def test_smoke(name: str) -> None:
    row = next(each for each in load_rows() if each.name == name)
    outcome = await run_row(row, Scale(quick=True))
    assert not outcome.problem, outcome.problem
    for line in outcome.lines:
        assert _stands(line, outcome), line


def _stands(line: Line, outcome: Outcome) -> bool:
    """Whether the best of the runs does: what else the machine does makes the others worse."""
    if outcome.name in _LOOPS:
        assert outcome.noise is not None
        return line.value.low <= _LOOPS[outcome.name] * outcome.noise.median
    part = _PART[outcome.name] * (1 if line.goal else _WITHOUT_GOAL)
    if line.at_least:
        return line.value.high >= line.limit * part
    return line.value.low <= line.limit / part

"""What is found of a public set does not get worse: each goal is met."""

from __future__ import annotations

import pytest

from benchmarks.harness import Scale, load_rows, run_row


@pytest.mark.slow
@pytest.mark.parametrize("name", ["finding-bfcl", "finding-bfcl-semantic"])
async def test_every_goal_is_met(name: str) -> None:
    row = next(each for each in load_rows() if each.name == name)
    outcome = await run_row(row, Scale(quick=True))
    assert not outcome.problem, outcome.problem
    assert outcome.lines
    for line in outcome.lines:
        assert line.met, line

"""What the distribution of load recommends, from known figures alone."""

from __future__ import annotations

import pytest

from mcp_discovery.facade.connections.statistics import recommendations


def of(*loads: float, name: str = "files") -> dict[str, list[float]]:
    return {name: list(loads)}


@pytest.mark.parametrize(
    ("loads", "action", "suggested"),
    [
        ((0.9, 0.85), "scale-up", 1),
        ((1.0, 1.0, 1.0), "scale-up", 2),
        ((0.81,), "scale-up", 1),
        ((0.9, 0.1, 0.1), "rebalance", None),
        ((0.1, 0.1, 0.1, 0.1), "scale-down", 2),
        ((0.0, 0.0, 0.0), "scale-down", 1),
    ],
)
def test_what_is_recommended(loads: tuple[float, ...], action: str, suggested: int | None) -> None:
    (advice,) = recommendations(of(*loads))
    assert advice["action"] == action
    assert advice.get("suggestedConnections") == suggested
    assert advice["name"] == "files"


@pytest.mark.parametrize("loads", [(), (0.5,), (0.8, 0.8), (0.1, 0.1), (0.05, 0.3, 0.1)])
def test_nothing_is_recommended(loads: tuple[float, ...]) -> None:
    assert recommendations(of(*loads)) == []


def test_each_server_is_judged_by_itself() -> None:
    found = recommendations(of(0.9, name="b") | of(0.95, name="a") | of(0.4, name="c"))
    assert [each["name"] for each in found] == ["a", "b"]
    assert found[0]["reason"] == "Load exceeding 80% on 1 connection of a"

"""What a table tells of the load that an instance reports."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_discovery.cli.tables import CELLS, LOADS


@pytest.mark.parametrize(
    ("load", "cells"),
    [
        (
            {
                "active": 3,
                "capacity": 20,
                "rate": 45.4,
                "latency": 0.1204,
                "cpu": 0.125,
                "memory": 45_300_000,
            },
            ("3 of 20", "45/min", "120 ms", "12%", "45 MB"),
        ),
        ({"active": 0, "rate": 0, "cpu": 0.0}, ("0", "0/min", "", "0%", "")),
        ({"capacity": 20, "running": True}, ("", "", "", "", "")),
        (None, ("", "", "", "", "")),
    ],
)
def test_what_is_known_of_a_load(load: dict[str, Any] | None, cells: tuple[str, ...]) -> None:
    assert tuple(CELLS[each]({"load": load}) for each in LOADS) == cells

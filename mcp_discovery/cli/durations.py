"""Spans of time as options take them: ``30``, ``30s``, ``5m``."""

from __future__ import annotations

import re

import typer

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|m|h|d)?", re.ASCII)

METAVAR = "TIME"


def seconds(text: str | float) -> float:
    """How many seconds ``text`` is: a number, alone or with ms, s, m, h or d.

    Raises :class:`typer.BadParameter`.
    """
    if isinstance(text, int | float):
        return float(text)
    found = _DURATION.fullmatch(text.strip().lower())
    if found is None:
        raise typer.BadParameter(f"{text[:40]!r} is no time; write 30 (seconds), 30s, 5m or 2h")
    return float(found[1]) * _UNITS[found[2] or "s"]


def positive(text: str | float) -> float:
    """As :func:`seconds`, above 0."""
    found = seconds(text)
    if found <= 0:
        raise typer.BadParameter("it has to be above 0")
    return found

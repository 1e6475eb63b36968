"""What a check found out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "wrong", "unchecked"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report: ``check`` names it; ``advice`` says what to do about it.

    ``unchecked`` is what could not be checked, or was not asked for; it is never a pass.
    """

    check: str
    state: State
    message: str
    advice: str = ""


def ok(check: str, message: str) -> Finding:
    """It is as it should be."""
    return Finding(check, "ok", message)


def wrong(check: str, message: str, advice: str) -> Finding:
    """It is not, and this is what to do."""
    return Finding(check, "wrong", message, advice)


def unchecked(check: str, why: str, advice: str = "") -> Finding:
    """Nobody knows, and why."""
    return Finding(check, "unchecked", why, advice)

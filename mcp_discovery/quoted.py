"""What others said, fit for a sentence of ours."""

from __future__ import annotations

from typing import Any

_LONGEST = 200


def quoted(text: Any) -> str:
    """Make what a server said fit for one line of bounded length."""
    if not isinstance(text, str):
        return ""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= _LONGEST else line[:_LONGEST] + "…"

"""What others said, fit for a sentence of ours."""

from __future__ import annotations

from typing import Any

_LONGEST = 200


def quoted(text: Any, longest: int = _LONGEST) -> str:
    """Make what a server said fit for one line of ``longest`` characters."""
    if not isinstance(text, str):
        return ""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= longest else line[:longest] + "…"

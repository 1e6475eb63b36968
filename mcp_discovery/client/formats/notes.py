"""What an export has to say: what a format could not express, and what was done about it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Note:
    """One thing that the format cannot say.

    ``tool`` is the tool's name (empty where all are meant); ``path`` a JSON pointer into its input
    schema, or ``"name"``, ``"description"`` or ``"tools"``; ``said`` one sentence on what was
    dropped or changed. ``narrows`` is true where the model can no longer say something that the
    server takes; otherwise the model may at most say something that the server refuses.
    """

    tool: str
    path: str
    said: str
    narrows: bool = False

    def __str__(self) -> str:
        return f"{self.tool}{self.path if self.path.startswith('/') else ''}: {self.said}"

"""What people see of servers: a table, and a line for each change. Colour only on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

_COLOURS = {"healthy": "green", "degraded": "yellow", "draining": "cyan", "down": "red"}


def console() -> Console:
    """Standard output; a pipe gets whole lines, whatever their length."""
    plain = Console(highlight=False, soft_wrap=True)
    return plain if plain.is_terminal else Console(highlight=False, width=1000, no_color=True)


def print_servers(entries: Iterable[Mapping[str, Any]]) -> None:
    """One row for each server."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("NAME", "ID", "STATUS", "VERSION", "TAGS", "URL", "REASON"):
        table.add_column(column, overflow="fold")
    for entry in entries:
        table.add_row(
            entry["name"],
            entry["id"],
            coloured(entry["status"]),
            entry["version"],
            ",".join(entry["tags"]),
            address(entry),
            Text(entry["reason"]),
        )
    console().print(table)


def coloured(status: str) -> Text:
    """A status in its colour."""
    return Text(status, style=_COLOURS.get(status, ""))


def address(entry: Mapping[str, Any]) -> Text:
    """How the server is reached."""
    endpoint = entry["endpoint"]
    return Text(entry.get("url") or " ".join([endpoint["command"], *endpoint["args"]]))


def stale_note(answer: Mapping[str, Any]) -> str:
    """That a list is old, and why."""
    return f"This list is as of {answer['staleSince']}: {answer.get('problem', 'store away')}"

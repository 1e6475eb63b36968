"""Tables of servers for people, in colour on a terminal only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from mcp_discovery.cli.terminal import line

_COLOURS = {"healthy": "green", "degraded": "yellow", "draining": "cyan", "down": "red"}

#: Characters below which a column of a folded table cannot be read.
_LEAST_COLUMN = 11


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise  # the BrokenPipeError that is being handled; run() ends the command with it


def console(*, err: bool = False) -> Console:
    """Standard output (or error); a pipe gets whole lines, whatever their length."""
    plain = _Console(stderr=err, highlight=False, markup=False, emoji=False)
    if plain.is_terminal:
        return plain
    return _Console(stderr=err, highlight=False, markup=False, emoji=False, width=10_000)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> None:
    """A table without lines. What does not fit a terminal goes on below itself, or where columns
    would get too narrow for that, each row is printed line by line."""
    cells = [[each if isinstance(each, Text) else Text(line(each)) for each in row] for row in rows]
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == "STATUS")
    for row in cells:
        table.add_row(*row)
    out = console()
    if out.is_terminal:
        narrow = out.width < _LEAST_COLUMN * len(columns)
        if narrow and _width(out, table) > out.width:
            _print_blocks(out, columns, cells)
        else:
            out.print(table)
        return
    # No blanks at the end of lines where a program reads them.
    with out.capture() as captured:
        out.print(table)
    for each in captured.get().splitlines():
        print(each.rstrip(), flush=True)  # noqa: T201


def _width(out: Console, table: Table) -> int:
    """How wide ``table`` is where nothing folds."""
    return Measurement.get(out, out.options.update(width=10_000), table).maximum


def _print_blocks(out: Console, columns: Sequence[str], rows: Sequence[Sequence[Text]]) -> None:
    widest = max(map(len, columns)) + 2
    for number, row in enumerate(rows):
        if number:
            out.print()
        for column, value in zip(columns, row, strict=True):
            if value.plain:
                out.print(Text(column.ljust(widest), style="bold") + value, soft_wrap=True)


def print_servers(entries: Iterable[Mapping[str, Any]], *, wide: bool = False) -> None:
    """One row for each server; ``wide`` with what there is room for on a wide terminal."""
    columns = ["NAME", "ID", "STATUS", "VERSION", "TAGS", "URL", "REASON"]
    if wide:
        columns += ["TRANSPORT", "ZONE", "OWNER", "TOOLS", "LOAD", "SINCE", "KEPT BY"]
    rows = []
    for entry in entries:
        row = [
            entry["name"],
            entry["id"],
            coloured(entry["status"]),
            entry["version"],
            ",".join(entry["tags"]),
            address(entry),
            entry["reason"],
        ]
        if wide:
            tools = (entry.get("capabilities") or {}).get("tools") or []
            row += [
                entry["transport"],
                entry.get("zone") or "",
                entry.get("owner") or "",
                str(len(tools)),
                load(entry),
                entry["since"],
                keeper(entry),
            ]
        rows.append(row)
    print_table(columns, rows)


def coloured(status: str) -> Text:
    """A status in its colour."""
    return Text(line(status), style=_COLOURS.get(status, ""))


def address(entry: Mapping[str, Any]) -> str:
    """How the server is reached."""
    endpoint = entry.get("endpoint") or {}
    started = [str(endpoint.get("command") or ""), *map(str, endpoint.get("args") or ())]
    return line(entry.get("url") or " ".join(started))


def load(entry: Mapping[str, Any]) -> str:
    """Its load in percent; empty where it is not known."""
    share = (entry.get("load") or {}).get("load")
    return f"{share:.0%}" if isinstance(share, int | float) else ""


def keeper(entry: Mapping[str, Any]) -> str:
    """The registrant: its role and host."""
    lease = entry.get("lease") or {}
    return line(f"{lease.get('by') or ''} {lease.get('host') or ''}".strip())


def stale_note(answer: Mapping[str, Any]) -> str:
    """That a list is old, and why."""
    return f"This list is as of {answer['staleSince']}: {answer.get('problem', 'store away')}"

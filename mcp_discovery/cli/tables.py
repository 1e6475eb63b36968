"""Tables of servers for people, in colour on a terminal only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from mcp_discovery.cli.terminal import line, say

_COLOURS = {
    "healthy": "green",
    "degraded": "yellow",
    "draining": "cyan",
    "down": "red",
    "quarantined": "magenta",
}

#: The columns of a list that fit a narrow terminal; all of :data:`CELLS` fit a wide one.
NARROW = ("NAME", "ID", "STATUS", "VERSION", "TAGS", "URL", "REASON")
#: The columns of what an instance reports of itself.
LOADS = ("LOAD", "RATE", "LATENCY", "CPU", "MEMORY")
#: Characters below which a column of a folded table cannot be read.
_LEAST_COLUMN = 11
#: The columns of servers that were searched for.
FOUND = ("NAME", "ID", "STATUS", "TAGS", "URL", "WHY")


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
        # The width where nothing folds.
        whole = Measurement.get(out, out.options.update(width=10_000), table).maximum
        if narrow and whole > out.width:
            _print_blocks(out, columns, cells)
        else:
            out.print(table)
        return
    # No blanks at the end of lines where a program reads them.
    with out.capture() as captured:
        out.print(table)
    for each in captured.get().splitlines():
        print(each.rstrip(), flush=True)  # noqa: T201


def _print_blocks(out: Console, columns: Sequence[str], rows: Sequence[Sequence[Text]]) -> None:
    widest = max(map(len, columns)) + 2
    for number, row in enumerate(rows):
        if number:
            out.print()
        for column, value in zip(columns, row, strict=True):
            if value.plain:
                out.print(Text(column.ljust(widest), style="bold") + value, soft_wrap=True)


def print_entries(
    entries: Iterable[Mapping[str, Any]], columns: Sequence[str] = NARROW, **named: str
) -> None:
    """One row for each entry of a list; ``named`` are other headers of ``columns``."""
    rows = [[CELLS[column](entry) for column in columns] for entry in entries]
    print_table([named.get(column, column) for column in columns], rows)


def coloured(status: str) -> Text:
    """A status in its colour."""
    return Text(line(status), style=_COLOURS.get(status, ""))


def address(entry: Mapping[str, Any]) -> str:
    """How the server is reached."""
    endpoint = entry.get("endpoint") or {}
    started = [str(endpoint.get("command") or ""), *map(str, endpoint.get("args") or ())]
    return line(entry.get("url") or " ".join(started))


def _figure(name: str, unit: str, scale: float = 1.0) -> Callable[[Mapping[str, Any]], str]:
    """A cell with a figure of the load, where that is known."""

    def cell(entry: Mapping[str, Any]) -> str:
        value = (entry.get("load") or {}).get(name)
        return f"{value * scale:.0f}{unit}" if isinstance(value, int | float) else ""

    return cell


def _load(entry: Mapping[str, Any]) -> str:
    """Requests in flight, of how many that it takes."""
    active, capacity = (_figure(name, "")(entry) for name in ("active", "capacity"))
    return f"{active} of {capacity}" if active and capacity else active


def _keeper(entry: Mapping[str, Any]) -> str:
    """The registrant's role and host."""
    lease = entry.get("lease") or {}
    return line(f"{lease.get('by') or ''} {lease.get('host') or ''}".strip())


#: What a table of entries may tell of each, by the column's header.
CELLS: Mapping[str, Callable[[Mapping[str, Any]], str | Text]] = {
    "NAME": lambda entry: entry["name"],
    "ID": lambda entry: entry["id"],
    "STATUS": lambda entry: coloured(entry["status"]),
    "VERSION": lambda entry: entry["version"],
    "TAGS": lambda entry: ",".join(entry["tags"]),
    "URL": address,
    "REASON": lambda entry: entry["reason"],
    "WHY": lambda entry: entry.get("why") or "",
    "KIND": lambda entry: entry.get("kind") or "server",
    "TRANSPORT": lambda entry: entry["transport"],
    "ZONE": lambda entry: entry.get("zone") or "",
    "OWNER": lambda entry: entry.get("owner") or "",
    "TOOLS": lambda entry: str(len((entry.get("capabilities") or {}).get("tools") or [])),
    "LOAD": _load,
    "RATE": _figure("rate", "/min"),
    "LATENCY": _figure("latency", " ms", 1e3),
    "CPU": _figure("cpu", "%", 100),
    "MEMORY": _figure("memory", " MB", 1e-6),
    "SINCE": lambda entry: entry["since"],
    "KEPT BY": _keeper,
}


def print_staleness(answer: Mapping[str, Any]) -> None:
    """Says on standard error that a list is old or partial, and why, where it is."""
    if partial := answer.get("partial"):
        say(f"This list is only a part: {partial}", err=True)
    if since := answer.get("staleSince"):
        say(f"This list is as of {since}: {answer.get('problem', 'store away')}", err=True)

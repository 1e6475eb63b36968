"""The progress of a call, as far as its server tells it: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mcp_discovery.cli.terminal import line, say

if TYPE_CHECKING:
    from mcp_discovery.client.settings import OnProgress

#: Seconds between two lines that say the same but for a number.
_PACE = 0.5


@contextmanager
def showing(tool: str) -> Iterator[OnProgress]:
    """What to tell of progress; it is shown on standard error while the block lasts."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    from mcp_discovery.cli.tables import console

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console(err=True), transient=True) as bar:
        task = bar.add_task(line(tool), total=None)

        async def told(
            progress: float, total: float | None = None, message: str | None = None
        ) -> None:
            said = line(message or tool)
            bar.update(task, completed=progress, total=total, description=said)

        yield told


def _lines() -> OnProgress:
    last: tuple[float, str | None] = (float("-inf"), None)

    async def told(progress: float, total: float | None = None, message: str | None = None) -> None:
        nonlocal last
        now = time.monotonic()
        finished = total is not None and progress >= total
        if message == last[1] and now - last[0] < _PACE and not finished:
            return
        last = now, message
        share = f"{progress / total:4.0%}" if total else f"{progress:g}"
        say(f"{share}  {line(message or '')}".rstrip(), err=True)

    return told

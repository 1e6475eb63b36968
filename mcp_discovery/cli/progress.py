"""The progress of a call as its server reports it: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mcp_discovery.cli.terminal import line, say

if TYPE_CHECKING:
    from mcp_discovery.client.settings import OnProgress

#: Seconds at least between two lines that differ in a number only.
_LINE_INTERVAL = 0.5


@contextmanager
def progress_display(tool: str) -> Iterator[OnProgress]:
    """A callback for progress, which is shown on standard error while the block lasts."""
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

        async def on_progress(
            progress: float, total: float | None = None, message: str | None = None
        ) -> None:
            description = line(message or tool)
            bar.update(task, completed=progress, total=total, description=description)

        yield on_progress


def _lines() -> OnProgress:
    last: tuple[float, str | None] = (float("-inf"), None)

    async def on_progress(
        progress: float, total: float | None = None, message: str | None = None
    ) -> None:
        nonlocal last
        now = time.monotonic()
        finished = total is not None and progress >= total
        if message == last[1] and now - last[0] < _LINE_INTERVAL and not finished:
            return
        last = now, message
        share = f"{progress / total:4.0%}" if total else f"{progress:g}"
        say(f"{share}  {line(message or '')}".rstrip(), err=True)

    return on_progress

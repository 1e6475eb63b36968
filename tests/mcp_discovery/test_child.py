"""A child process: its end is known at once, whoever still holds its pipes."""

from __future__ import annotations

import asyncio
import shlex
import signal
import time
from pathlib import Path

import pytest

from mcp_discovery.child import Child
from tests.stores.waiting import until

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("exit 0", 0),
        ("sleep 30 & exit 3", 3),
        ("sleep 30 & kill -9 $$", 137),
        ("yes & exit 4", 4),  # what it prints is never read
    ],
)
async def test_the_end_does_not_wait_for_what_it_started(line: str, code: int) -> None:
    child = await Child.start(("sh", "-c", line), piped=True)
    began = time.monotonic()
    try:
        async with asyncio.timeout(10):
            assert await child.ended() == code
    finally:
        await child.stop(1)
    assert time.monotonic() - began < 10


async def test_it_is_stopped_though_nobody_reads_what_it_prints() -> None:
    child = await Child.start(("yes",), piped=True)
    async with asyncio.timeout(10):
        await child.stop(5)
    assert child.process.returncode == -signal.SIGTERM


async def test_what_a_wrapper_started_has_time_to_end(tmp_path: Path) -> None:
    saves = "trap 'sleep 0.3; echo saved > saved; exit' TERM"
    script = f"{saves}; echo > ready; while :; do sleep 0.05; done"
    wrapper = f"sh -c {shlex.quote(script)} & wait"
    child = await Child.start(("sh", "-c", wrapper), piped=True, cwd=str(tmp_path))

    async def ready() -> bool:
        return (tmp_path / "ready").exists()

    await until(ready, timeout=10, what="its start")
    await child.stop(5)
    assert (tmp_path / "saved").read_text() == "saved\n"

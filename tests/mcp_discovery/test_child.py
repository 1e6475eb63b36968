"""A child process: its end is known at once, whoever still holds its pipes."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from mcp_discovery.child import Child

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

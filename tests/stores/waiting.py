"""Waits for a condition with a deadline, so that no test sleeps for luck.

Where time itself is part of a scenario, `repeat` does something at a steady pace meanwhile.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import aiohttp

T = TypeVar("T")

PAUSE = 0.02
"""Seconds between two looks at a condition."""


class NotYet(Exception):
    """Raised by a condition that does not hold yet; the text says what was seen instead."""


async def bounded(awaited: Awaitable[T], seconds: float) -> T:
    """What is `awaited`, which is cancelled after `seconds` with a `TimeoutError`.

    In the place of `asyncio.wait_for`, whose caller goes on as if nothing was said where it is
    cancelled at the very moment at which the result comes (Python 3.11).
    """
    async with asyncio.timeout(seconds):
        return await awaited


async def until(condition: Callable[[], Awaitable[T]], *, timeout: float, what: str) -> T:
    """Call `condition` until it returns something true, and return that.

    `NotYet`, a connection error and a request's own time-out count as "not yet"; any other error
    passes through. After `timeout` seconds, `TimeoutError` says `what` was awaited and what was
    last seen; a call that is still running then is cancelled.
    """
    deadline = time.monotonic() + timeout
    seen: str = "nothing"
    while (left := deadline - time.monotonic()) > 0:
        try:
            value = await bounded(condition(), left)
        except (NotYet, aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            seen = f"{type(error).__name__}: {error}"
        else:
            if value:
                return value
            seen = repr(value)
        await asyncio.sleep(PAUSE)
    raise TimeoutError(f"{what} did not happen within {timeout:g} s; last seen: {seen}")


async def until_holds(condition: Callable[[], object], *, timeout: float, what: str) -> None:
    """Like `until`, for a `condition` that need not be awaited; it starts no task."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen within {timeout:g} s")
        await asyncio.sleep(PAUSE)


async def repeat(
    work: Callable[[], Awaitable[object]], *, every: float, seconds: float = float("inf")
) -> None:
    """Do `work` at a steady pace, as heartbeats are: every `every` seconds, for `seconds`.

    What it raises passes through.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        await work()
        await asyncio.sleep(every)

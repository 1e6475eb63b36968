"""Waits for a condition with a deadline, so that no test sleeps for luck."""

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
            value = await asyncio.wait_for(condition(), left)
        except (NotYet, aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            seen = f"{type(error).__name__}: {error}"
        else:
            if value:
                return value
            seen = repr(value)
        await asyncio.sleep(PAUSE)
    raise TimeoutError(f"{what} did not happen within {timeout:g} s; last seen: {seen}")

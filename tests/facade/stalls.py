"""For how long the event loop is held up.

What is measured is the time that the loop's own thread works without a pause, at best of some
tries: it does not depend on what else this machine does.
"""

from __future__ import annotations

import asyncio
import gc
import math
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress

import pytest

from mcp_discovery.facade.run import _SERVING
from tests.facade.harness import Client

#: What is promised. A garbage collection may fall into one try, and the client is in this loop.
MOST_SECONDS = 0.05
_TRIES = 4


async def shortest(measure: Callable[[int], Awaitable[float]], most: float = MOST_SECONDS) -> float:
    """What ``measure``, which is given the number of the try, found at best; once is enough where
    that is within the limit."""
    found = math.inf
    for number in range(_TRIES):
        found = min(found, await measure(number))
        if found <= most:
            break
    return found


async def longest_stall(
    ask: Client,
    method: str,
    path: str,
    data: bytes | None,
    headers: Mapping[str, str],
    *,
    wanted: int | None = None,
) -> float:
    """For how many seconds of its processor time the loop was held at a stretch by one request."""
    longest = 0.0

    async def tick() -> None:
        nonlocal longest
        while True:
            began = time.thread_time()
            await asyncio.sleep(0.001)
            longest = max(longest, time.thread_time() - began)

    ticking = asyncio.create_task(tick())
    try:
        reply = await ask(method, path, data, headers=headers)
        assert reply.status < 500 if wanted is None else reply.status == wanted, reply.body
        for _ in range(3):
            await asyncio.sleep(0)
    finally:
        ticking.cancel()
        with suppress(asyncio.CancelledError):
            await ticking
    return longest


@pytest.fixture
def collected_as_when_serving() -> Iterator[None]:
    """The garbage collector as the command sets it: it looks at nothing that was there before."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_SERVING)
    yield
    gc.set_threshold(*before)
    gc.unfreeze()

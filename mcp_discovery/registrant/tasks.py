"""How a registrant's loops are owned: none outlives its owner, none ends by an unexpected error."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

from mcp_discovery.adapters.backoff import Backoff

log = logging.getLogger(__name__)


async def guarded(
    what: str,
    loop: Callable[[], Awaitable[None]],
    *,
    ends_with: tuple[type[Exception], ...] = (),
) -> None:
    """Runs ``loop`` until it returns, and again when anything but ``ends_with`` is raised in it.

    A heartbeat that stops for good because of one unexpected error is the worst fault in this
    field.
    """
    backoff = Backoff(0.2, 5.0)
    while True:
        try:
            return await loop()
        except ends_with:
            raise
        except Exception:
            delay = 0.1 + backoff.next()
            log.exception("unexpected error in %s; it starts again in %.1f s", what, delay)
            await asyncio.sleep(delay)


@asynccontextmanager
async def alongside(*work: Coroutine[Any, Any, Any]) -> AsyncIterator[list[asyncio.Task[Any]]]:
    """Runs ``work`` as tasks while the block runs; they are cancelled and awaited at its end."""
    tasks = [asyncio.create_task(part) for part in work]
    try:
        yield tasks
    finally:
        # A task's own error is for the block to ask for.
        await ended(*tasks)


async def ended(*tasks: asyncio.Task[Any]) -> None:
    """Cancels ``tasks`` and waits for their end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def is_set(event: asyncio.Event, within: float) -> bool:
    """Waits for ``event`` at most ``within`` seconds; whether it is set."""
    with suppress(TimeoutError):
        async with asyncio.timeout(within):
            await event.wait()
    return event.is_set()

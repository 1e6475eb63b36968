"""How an instance leaves its store: marked as draining, then deregistered, in bounded time."""

from __future__ import annotations

import asyncio
import logging
import time

from mcp_discovery.adapters.backoff import Backoff
from mcp_discovery.adapters.store import Registration
from mcp_discovery.errors import RegistrationLostError, StoreError
from mcp_discovery.health import Health
from mcp_discovery.registrant.tasks import is_set

log = logging.getLogger(__name__)

#: Seconds that one call to the store may take while leaving, so that the next one is tried.
_ONE_CALL = 1.0
#: Seconds between the heartbeats of a draining instance, which may be drained for longer than TTL.
_HEARTBEAT = 1.0 / 3
#: Seconds for deregistering, retries included, from a store that took the mark.
_DEREGISTER = 0.9
#: The same from a store that may be away, so that leaving it ends within a second.
_DEREGISTER_BLINDLY = 0.5


async def drained(
    registration: Registration, health: Health, end: float, hurry: asyncio.Event
) -> bool:
    """Marks the instance as draining and keeps it so until ``end`` (``time.monotonic()``).

    ``hurry`` ends the wait early. Returns whether the store took the mark. Raises
    :class:`~mcp_discovery.errors.RegistrationLostError` when the store has lost the registration,
    or it was not renewed for its TTL; a part of it may be left there.
    """
    marked = warned = False
    backoff = Backoff(0.1, 1.0)
    if time.monotonic() < end:
        log.info("draining %s for %.1f s", registration.id, end - time.monotonic())
    while (left := end - time.monotonic()) > 0 and not hurry.is_set():
        try:
            async with asyncio.timeout(min(left, _ONE_CALL)):
                if marked:
                    await registration.heartbeat(health)
                else:
                    await registration.drain()
        except (StoreError, TimeoutError) as error:
            pause = backoff.next()
            log.log(
                logging.DEBUG if marked or warned else logging.WARNING,
                "%s does not reach the store while draining: %s",
                registration.id,
                str(error) or "no answer in time",
            )
            warned = True
        else:
            marked = True
            backoff.reset()
            pause = _HEARTBEAT
        await is_set(hurry, min(pause, max(0.0, end - time.monotonic())))
    return marked


async def deregistered(
    registration: Registration, hurry: asyncio.Event, *, answers: bool, end: float = 0.0
) -> None:
    """Removes the instance; when that fails for too long, says so and leaves it to TTL.

    ``answers`` says whether the store has answered just now. Tries on until ``end``
    (``time.monotonic()``) at least, unless ``hurry`` comes.
    """
    soonest = time.monotonic() + (_DEREGISTER if answers else _DEREGISTER_BLINDLY)
    end = max(end, soonest)
    backoff = Backoff(0.05, 0.2)
    problem = "no answer in time"
    while (left := (soonest if hurry.is_set() else end) - time.monotonic()) > 0:
        try:
            async with asyncio.timeout(min(left, _ONE_CALL)):
                await registration.deregister()
        except (RegistrationLostError, StoreError, TimeoutError) as error:
            problem = str(error) or problem
            if isinstance(error, RegistrationLostError):
                break
            await asyncio.sleep(backoff.next())
        else:
            log.info("deregistered %s", registration.id)
            return
    log.warning("could not deregister %s, its TTL will end it: %s", registration.id, problem)

"""Follows the list for what changes hands: orphans to adopt, entries that another took over."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Set
from typing import TYPE_CHECKING

from mcp_discovery.adapters.catalog import Catalog
from mcp_discovery.errors import OutdatedRevisionError, StoreError

if TYPE_CHECKING:
    from mcp_discovery.facade.registration.agentless import Posted

log = logging.getLogger(__name__)

#: How long, in seconds, between two looks at the whole list.
_LOOK_EVERY = 60.0
#: Facades that see the same orphan wait up to so many seconds, so that they do not all probe it.
_JITTER = 2.0
_AT_ONCE = 16


async def follow(posted: Posted, catalog: Catalog) -> None:
    """For ever: adopts what nobody keeps any more, lets go of what another facade has taken."""
    await catalog.ready()
    view = catalog.view
    suspects: set[str] = set(view.entries)
    while True:
        try:
            if catalog.view.stale_since is None:
                await _yield_all(posted, suspects)
                await _adopt_all(posted, catalog, suspects)
        except Exception:  # the guard that keeps adoption alive
            log.exception("adopting what was posted failed in a way it must not")
        try:
            async with asyncio.timeout(_LOOK_EVERY):
                await catalog.after(view)
            events = catalog.since(view.epoch, view.revision)
            suspects = {event.id for event in events}
        except (TimeoutError, OutdatedRevisionError):
            suspects = set(catalog.view.entries) | set(catalog.view.removed)
        view = catalog.view


async def _yield_all(posted: Posted, suspects: Set[str]) -> None:
    for id in [id for id in suspects if posted.seems_taken(id)]:
        try:
            await posted.let_go(id)
        except StoreError as error:
            log.info("%s seems to be another's now, which cannot be told yet: %s", id, error)


async def _adopt_all(posted: Posted, catalog: Catalog, suspects: Set[str]) -> None:
    view = catalog.view
    orphans = [
        entry
        for entry in map(view.entries.get, suspects)
        if entry is not None and posted.adoptable(entry)
    ]
    if not orphans:
        return
    if any(entry.instance.lease.holder.id != posted.holder.id for entry in orphans):
        await asyncio.sleep(random.uniform(0, _JITTER))
    few = asyncio.Semaphore(_AT_ONCE)

    async def adopt(id: str) -> None:
        async with few:
            await posted.adopt(id)

    async with asyncio.TaskGroup() as group:
        for entry in orphans:
            group.create_task(adopt(entry.id))

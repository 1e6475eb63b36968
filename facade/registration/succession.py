"""Taking the place of what another facade keeps."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from mcp_discovery.adapters.catalog import Catalog
from mcp_discovery.adapters.view import Entry
from mcp_discovery.errors import DuplicateInstanceError, RegistrationLostError
from mcp_discovery.facade.registration.kept import Kept
from mcp_discovery.instance import Holder

#: How often it is tried anew when other facades do the same at the same time.
_ATTEMPTS = 5
#: Seconds that two that were in each other's way wait at most, so that they part.
_JITTER = 0.3


def is_posted(entry: Entry) -> bool:
    """Whether a facade registered ``entry``."""
    return entry.instance.lease.holder.by == "facade"


class Succession:
    """Whose place may be taken, as the list tells; ``own`` is this facade.

    ``patience`` is how many seconds the list may be behind the store.
    """

    def __init__(self, catalog: Catalog, own: Holder, patience: float) -> None:
        self._catalog = catalog
        self._own = own
        self._patience = patience

    def former(self, id: str) -> str | None:
        """The id of the other facade that holds ``id``, or of the tombstone there."""
        view = self._catalog.view
        if (removed := view.removed.get(id)) is not None:
            return removed.lease.holder.id
        entry = view.entries.get(id)
        if entry is None or not is_posted(entry):
            return None
        holder = entry.instance.lease.holder.id
        return None if holder == self._own.id else holder

    async def started(self, id: str, make: Callable[[Entry | None], Kept]) -> Kept:
        """What ``make`` makes of the entry in the list, started.

        Where the list was behind, it is tried again as soon as the list shows who holds ``id``.
        Raises what ``make`` and :meth:`mcp_discovery.facade.registration.kept.Kept.start` raise.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            former = self.former(id)
            kept = make(self._catalog.view.entries.get(id))
            try:
                await kept.start()
            except RegistrationLostError:  # another wrote the same at the same moment
                if attempt == _ATTEMPTS:
                    raise
                await asyncio.sleep(random.uniform(0, _JITTER))
            except DuplicateInstanceError:
                if attempt == _ATTEMPTS or not await self._shows_another(id, former):
                    raise
            else:
                return kept
        raise AssertionError("the last attempt returns or raises")

    async def _shows_another(self, id: str, former: str | None) -> bool:
        """Whether the list shows soon that another facade than ``former`` holds ``id``."""
        try:
            async with asyncio.timeout(self._patience):
                while self.former(id) in (None, former):
                    await self._catalog.after(self._catalog.view)
        except TimeoutError:
            return False
        return True

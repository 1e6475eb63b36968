"""Keeps a registration's capability document in its store, where anybody may delete it."""

from __future__ import annotations

import time
import weakref
from collections.abc import Awaitable, Callable

from mcp_discovery.document import CapabilityDocument

#: A document that was deleted is put back within two of these, in seconds …
EVERY = 20.0
#: … and the first look comes before this part of the TTL: a sweep may have removed the document
#: before the record referred to it.
_FIRST_WITHIN_TTL = 0.9

_shared: weakref.WeakValueDictionary[str, CapabilityDocument] = weakref.WeakValueDictionary()


class KeptDocument:
    """The document of one registration; ``ensure`` writes it again where it is missing.

    Equal documents of a process are one object.
    """

    def __init__(
        self,
        document: CapabilityDocument,
        ttl: float,
        ensure: Callable[[CapabilityDocument], Awaitable[None]],
    ) -> None:
        self._ttl = ttl
        self._ensure = ensure
        self.wrote(document)

    def wrote(self, document: CapabilityDocument) -> None:
        """The store has taken this document, which is the registration's from now on."""
        self._document = _shared.setdefault(document.digest, document)
        self._due = time.monotonic() + min(EVERY, _FIRST_WITHIN_TTL * self._ttl)

    async def look(self) -> None:
        """Ensures that the store has the document, if that is due; for every heartbeat."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + EVERY
            await self._ensure(self._document)

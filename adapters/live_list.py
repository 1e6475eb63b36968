"""A live list: an immutable view that is replaced, and the changes that led to it.

The catalog follows a store (:mod:`mcp_discovery.adapters.catalog`); what some callers may see of it
follows the catalog.
"""

from __future__ import annotations

import asyncio
import secrets
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from mcp_discovery.adapters.view import Entry, View
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import OutdatedRevisionError


@dataclass(frozen=True, slots=True)
class CatalogEvent:
    """One visible change from ``before`` to ``entry``, published here at ``at``.

    ``before`` is ``None`` for a new instance, ``entry`` for a removed one.
    """

    revision: int
    id: str
    entry: Entry | None
    before: Entry | None
    at: datetime


#: Receives the changes that led to a new view, which may be none, and the view.
ListListener = Callable[[Sequence[CatalogEvent], View], None]


class LiveList(ABC):
    """The present view, and its latest ``ring`` changes.

    ``source`` says in messages where the list comes from.
    """

    def __init__(self, source: str, ring: int) -> None:
        self.source = source
        self._ring: deque[CatalogEvent] = deque(maxlen=ring)
        #: The present list.
        self.view = View(secrets.token_hex(6))
        self._published = asyncio.Event()
        self._ready = asyncio.Event()
        #: Called at once with all that is published; they must return at once and not raise.
        self.listeners: list[ListListener] = []

    @property
    def is_ready(self) -> bool:
        """Whether a complete list has been received."""
        return self._ready.is_set()

    async def ready(self) -> None:
        """Waits for the first complete list."""
        await self._ready.wait()

    async def after(self, view: View) -> View:
        """Waits until the list, or whether it is stale, differs from ``view``; returns it then.

        The changes in between are in :meth:`since`.
        """
        while self.view is view:
            await self._published.wait()
        return self.view

    def since(self, epoch: str, revision: int) -> list[CatalogEvent]:
        """The changes after ``revision``, oldest first.

        Raises :class:`~mcp_discovery.errors.OutdatedRevisionError` when it is of another epoch,
        from the future, or older than the ring.
        """
        behind = self.view.revision - revision
        if epoch != self.view.epoch:
            raise OutdatedRevisionError(
                f"epoch {epoch!r} is not this catalog's ({self.view.epoch!r})"
            )
        if behind < 0:
            raise OutdatedRevisionError(f"revision {revision} has not happened yet")
        if behind > len(self._ring):
            raise OutdatedRevisionError(f"revision {revision} is older than the changes kept")
        return [self._ring[i] for i in range(len(self._ring) - behind, len(self._ring))]

    @abstractmethod
    async def document(self, digest: str) -> CapabilityDocument:
        """The document with ``digest``; raises what :meth:`Store.document` raises."""

    def _events(
        self, changes: Iterable[tuple[str, Entry | None]], known: Mapping[str, Entry], at: datetime
    ) -> list[CatalogEvent]:
        """Changes of different instances as the next events; ``known`` is the list before them."""
        revision = self.view.revision
        return [
            CatalogEvent(revision + number, id, entry, known.get(id), at)
            for number, (id, entry) in enumerate(changes, start=1)
        ]

    def _swap(self, view: View, events: Sequence[CatalogEvent] = ()) -> None:
        """Publishes ``view``, to which ``events`` led."""
        self._ring.extend(events)
        self.view = view
        self._published.set()
        self._published = asyncio.Event()
        for listener in self.listeners:
            listener(events, view)

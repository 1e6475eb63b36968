"""Instances that fell silent and left the list without a goodbye: who is still missed.

A store forgets an instance that was silent for its ``reap_after``. What an operator is told of it
must not end with that: nothing is mended yet.
"""

from __future__ import annotations

from cachetools import TTLCache

from mcp_discovery.adapters.catalog import Catalog, CatalogEvent
from mcp_discovery.adapters.view import Entry
from mcp_discovery.errors import OutdatedRevisionError

#: For how many seconds an instance is missed, and how many are at most.
_REMEMBERED, _MOST = 86_400.0, 1000


class MissedInstances:
    """Those that left one catalog without a goodbye, in the last day.

    An instance is missed from its silence on until it is heard of again, another new instance of
    its name takes its place, or somebody removes it (:meth:`forget`). One that was deregistered or
    is draining has said goodbye, and so has one that left while the list was stale, as far as
    anybody knows; those of a mass drop have not.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._revision = 0
        self._silent: dict[str, Entry] = {}  # listed still, and nobody has come in its place
        self._gone: TTLCache[str, Entry] = TTLCache(_MOST, _REMEMBERED)

    def entries(self) -> list[Entry]:
        """The missed ones that are not listed any more, as they were listed last, by name."""
        view = self._catalog.view
        try:
            events = self._catalog.since(view.epoch, self._revision)
        except OutdatedRevisionError:
            events = []  # more changes since the last time than the catalog remembers
        self._revision = view.revision
        for event in events:
            self._take(event)
        return sorted(self._gone.values(), key=lambda entry: entry.order)

    def forget(self, id: str) -> bool:
        """Misses an instance no more; whether it was missed."""
        self.entries()
        return (self._silent.pop(id, None) or self._gone.pop(id, None)) is not None

    def _take(self, event: CatalogEvent) -> None:
        entry, before = event.entry, event.before
        if entry is not None:
            returned = self._gone.pop(event.id, None) is not None
            if not _is_unheard(entry):
                returned |= self._silent.pop(event.id, None) is not None
                if before is None and not returned:
                    self._replace(entry.record.name)
            elif before is None or not _is_unheard(before):
                self._silent[event.id] = entry
            return
        silent = self._silent.pop(event.id, None)
        if silent is not None:
            self._gone[event.id] = silent

    def _replace(self, name: str) -> None:
        """A new instance of ``name`` has come in the place of the one that is missed longest."""
        for missed in (self._gone, self._silent):
            for id, entry in list(missed.items()):
                if entry.record.name == name:
                    del missed[id]
                    return


def _is_unheard(entry: Entry) -> bool:
    return entry.health.unheard or entry.dropped

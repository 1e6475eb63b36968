"""Instances that fell silent and left the list without a goodbye: who is still missed.

A store forgets an instance that was silent for its ``reap_after``. What an operator is told of it
must not end with that: nothing is mended yet.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from cachetools import TTLCache

from mcp_discovery.adapters.live_list import CatalogEvent, LiveList
from mcp_discovery.adapters.view import Entry
from mcp_discovery.errors import OutdatedRevisionError

#: For how many seconds an instance is missed, and how many are at most.
_REMEMBERED, _MOST = 86_400.0, 1000
#: For how many seconds a successor may run beside the one that it replaces, beyond the TTL.
_SURGE = 60.0
#: How many seconds, beyond the TTL, before it would be reaped a silent one must leave for that to
#: be a goodbye.
_REAPING = 5.0


class MissedInstances:
    """Those that left one catalog without a goodbye, in the last day.

    An instance is missed from its silence on until it is heard of again, another new instance of
    its name takes its place, or somebody removes it (:meth:`forget`). The new one may have come
    shortly before, as in a rolling update. One that was deregistered, be it silent, or is draining
    has said goodbye, and so has one that left while the list was stale, as far as anybody knows;
    those of a mass drop have not.
    """

    def __init__(self, catalog: LiveList) -> None:
        self._catalog = catalog
        self._revision = 0
        self._silent: dict[str, Entry] = {}  # listed still, and nobody has come in its place
        self._gone: TTLCache[str, Entry] = TTLCache(_MOST, _REMEMBERED)
        #: Name → id → when it came, of the listed ones that took nobody's place so far.
        self._new: dict[str, dict[str, datetime]] = {}
        #: Called with the id of each that is to be missed no more.
        self.listeners: list[Callable[[str], object]] = []

    def entries(self) -> list[Entry]:
        """The missed ones that are not listed any more, as they were listed last, by name."""
        self._follow()
        return sorted(self._gone.values(), key=lambda entry: entry.order)

    def get(self, id: str) -> Entry | None:
        """One of :meth:`entries`."""
        self._follow()
        return self._gone.get(id)

    def _follow(self) -> None:
        view = self._catalog.view
        try:
            events = self._catalog.since(view.epoch, self._revision)
        except OutdatedRevisionError:
            events = []  # more changes since the last time than the catalog remembers
            self._silent = {entry.id: entry for entry in view if _is_unheard(entry)}
            self._new.clear()
            for id in [id for id in self._gone if id in view.entries]:
                del self._gone[id]
        self._revision = view.revision
        for event in events:
            self._take(event)

    def forget(self, id: str) -> bool:
        """Misses an instance no more; whether it was missed."""
        for listener in self.listeners:
            listener(id)
        self._follow()
        return (self._silent.pop(id, None) or self._gone.pop(id, None)) is not None

    def _take(self, event: CatalogEvent) -> None:
        entry, before = event.entry, event.before
        if before is not None and (entry is None or entry.record.name != before.record.name):
            self._forget_new(before.record.name, event.id)
        if entry is None:
            silent = self._silent.pop(event.id, None)
            if silent is not None and not _says_goodbye(silent, event.at):
                self._gone[event.id] = silent
            elif before is not None and not _is_unheard(before):
                self._take_successor(before)  # which takes no other's place then
            return
        returned = self._gone.pop(event.id, None) is not None
        if not _is_unheard(entry):
            returned |= self._silent.pop(event.id, None) is not None
            if before is None and not returned and not self._take_place(entry.record.name):
                came = min(event.at, entry.record.registered_at)
                if came > event.at - 2 * _surge(entry):  # an older one can replace nobody
                    self._new.setdefault(entry.record.name, {})[event.id] = came
        elif before is None or not _is_unheard(before):
            self._forget_new(entry.record.name, event.id)
            if not self._take_successor(entry):
                self._silent[event.id] = entry

    def _take_place(self, name: str) -> bool:
        """Gives a new one of ``name`` the place of the one that is missed longest, which is missed
        no more; whether there was one."""
        for missed in (self._gone, self._silent):
            for id, entry in list(missed.items()):
                if entry.record.name == name:
                    del missed[id]
                    return True
        return False

    def _take_successor(self, leaving: Entry) -> bool:
        """Gives the place of ``leaving`` to one that came since it was heard last, or shortly
        before, which is new no more; whether there was one."""
        name = leaving.record.name
        while new := self._new.get(name):
            id, came = next(iter(new.items()))
            self._forget_new(name, id)
            if came > leaving.health.last_seen - _surge(leaving):
                return True
        return False

    def _forget_new(self, name: str, id: str) -> None:
        new = self._new.get(name, {})
        new.pop(id, None)
        if not new:
            self._new.pop(name, None)


def _is_unheard(entry: Entry) -> bool:
    return entry.health.unheard or entry.dropped


def _surge(entry: Entry) -> timedelta:
    return timedelta(seconds=entry.instance.lease.ttl + _SURGE)


def _says_goodbye(silent: Entry, at: datetime) -> bool:
    """Whether a silent one that leaves ``at`` does so clearly before it would be reaped."""
    lease = silent.instance.lease
    reaped = silent.health.last_seen + timedelta(seconds=lease.reap_after)
    return silent.health.silent and at < reaped - timedelta(seconds=lease.ttl + _REAPING)

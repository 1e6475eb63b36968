"""The registry's entries, kept in step with the live list, deleted ones included for a while."""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from mcp_discovery.adapters.catalog import Catalog
from mcp_discovery.adapters.view import Entry, View
from mcp_discovery.errors import OutdatedRevisionError
from mcp_discovery.facade.registry.addresses import Addresses
from mcp_discovery.facade.registry.entries import Key, Listed, renewed
from mcp_discovery.facade.registry.server_json import can_be_listed
from mcp_discovery.health import utcnow
from mcp_discovery.query.versions import precedence

#: Which entries are wanted where the version is no version.
LATEST = "latest"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries are asked for; what is ``None`` leaves the matter open.

    ``search`` is part of a name, in any case; ``version`` is one, or :data:`LATEST`. ``since``
    implies ``deleted``.
    """

    search: str | None = None
    version: str | None = None
    since: datetime | None = None
    deleted: bool | None = None

    @property
    def with_deleted(self) -> bool:
        """Whether those that are gone are wanted, too."""
        return bool(self.deleted) or self.since is not None

    def or_else(self, other: Wanted) -> Wanted:
        """What is asked for here, and of ``other`` what is left open here."""
        return Wanted(
            search=other.search if self.search is None else self.search,
            version=other.version if self.version is None else self.version,
            since=other.since if self.since is None else self.since,
            deleted=other.deleted if self.deleted is None else self.deleted,
        )


log = logging.getLogger(__name__)

#: How long, in seconds, one that is gone is remembered, and how many of them at most.
REMEMBERED_FOR = 7 * 86400.0
MOST_REMEMBERED = 10_000
#: How long, in seconds, changes may gather while nobody asks.
_PAUSE = 1.0
#: For how many questions it is remembered which entries they ask for.
_SELECTIONS = 64


class Ledger:
    """The entries of one catalog. Use it as ``async with``: it follows the catalog meanwhile.

    A version of a server is listed while one of its instances is not draining, however it is. When
    the last has left it stays for a while as deleted. ``now`` is the clock.
    """

    def __init__(
        self, catalog: Catalog, addresses: Addresses, *, now: Callable[[], datetime] = utcnow
    ) -> None:
        self.addresses = addresses
        self._catalog = catalog
        self._now = now
        self._view: View | None = None
        self._instances: dict[Key, dict[str, Entry]] = {}
        self._listed: dict[Key, Listed] = {}
        self._keys: list[Key] = []  # of all that is listed, sorted
        self._versions: dict[str, set[str]] = {}
        self._gone: OrderedDict[Key, datetime] = OrderedDict()  # the oldest first
        self._selections: OrderedDict[Wanted, list[Key]] = OrderedDict()
        self._task: asyncio.Task[None] | None = None
        #: Goes up whenever a ``server.json``, or which of them there are, has changed.
        self.edition = 0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._follow(), name="registry entries")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    # -- questions -------------------------------------------------------------------------------

    def page(self, wanted: Wanted, after: Key | None, limit: int) -> tuple[list[Listed], bool]:
        """At most ``limit`` of the entries that are wanted, behind ``after``, by name and version.

        And whether there are more.
        """
        self.catch_up()
        keys = self._selections.get(wanted)
        if keys is None:
            keys = self._selections[wanted] = self._select(wanted)
            if len(self._selections) > _SELECTIONS:
                self._selections.popitem(last=False)
        self._selections.move_to_end(wanted)
        start = 0 if after is None else bisect_right(keys, after)
        found = [self._listed[key] for key in keys[start : start + limit]]
        return found, start + limit < len(keys)

    def versions(self, name: str, *, deleted: bool = False) -> list[Listed]:
        """Every version of the server ``name``, the newest publication first."""
        self.catch_up()
        found = [self._listed[name, version] for version in self._versions.get(name, ())]
        return sorted(
            (each for each in found if deleted or not each.deleted),
            key=lambda each: (each.published, _order(each.key)),
            reverse=True,
        )

    def version(self, name: str, version: str, *, deleted: bool = False) -> Listed | None:
        """One version of the server ``name``, or its :data:`LATEST`; ``None`` if there is none."""
        for each in self.versions(name, deleted=deleted):
            if each.is_latest if version == LATEST else each.key[1] == version:
                return each
        return None

    def latest(self) -> list[Listed]:
        """The latest version of every server that is there."""
        return self.page(Wanted(version=LATEST), None, len(self._catalog.view))[0]

    # -- keeping in step -------------------------------------------------------------------------

    def catch_up(self) -> None:
        """Takes in what has changed since the last time. Quick where nothing has."""
        view = self._catalog.view
        self._forget()
        if view is self._view or not self._catalog.is_ready:
            return
        old, self._view = self._view, None  # until it is done: a fault must not leave it half done
        known = len(self._keys)
        changed = self._everything(view) if old is None else self._changed(old, view)
        names = {key[0] for key, at in changed.items() if self._renew(key, at, first=old is None)}
        if old is None or len(self._keys) > known:
            self._keys.sort()
        for name in names:
            self._mark_latest(name)
        if names:
            self.edition += 1
            for wanted in [each for each in self._selections if each.since is not None]:
                del self._selections[wanted]
        self._view = view

    async def _follow(self) -> None:
        """So that the times of changes are right when nobody asks for a long time."""
        await self._catalog.ready()
        while True:
            view = self._catalog.view
            try:
                self.catch_up()
            except Exception:  # the guard that keeps the entries in step
                log.exception("reading the list for the registry failed in a way it must not")
            await self._catalog.after(view)
            await asyncio.sleep(_PAUSE)

    def _changed(self, old: View, view: View) -> dict[Key, datetime]:
        """Puts the instances that changed where they belong; the keys concerned, and since when."""
        try:
            events = self._catalog.since(old.epoch, old.revision)
        except OutdatedRevisionError:
            return self._everything(view)
        changed: dict[Key, datetime] = {}
        for event in events:
            was, now = event.before, event.entry
            if was is not None:
                key = _key(was)
                if key not in self._listed:  # it came and goes within the same moment
                    self._renew(key, changed.get(key, event.at), first=False)
                self._instances.get(key, {}).pop(event.id, None)
            if now is not None and can_be_listed(now.record):
                self._instances.setdefault(_key(now), {})[event.id] = now
            if not _alike(was, now):
                changed |= {_key(entry): event.at for entry in (was, now) if entry is not None}
        return changed

    def _everything(self, view: View) -> dict[Key, datetime]:
        self._instances.clear()
        for entry in view:
            if can_be_listed(entry.record):
                self._instances.setdefault(_key(entry), {})[entry.id] = entry
        return dict.fromkeys((*self._listed, *self._instances), self._now())

    def _renew(self, key: Key, at: datetime, *, first: bool) -> bool:
        """Makes the entry as its instances are now; whether hosts are told anything new."""
        instances = tuple(self._instances.get(key, {}).values())
        if not instances:
            self._instances.pop(key, None)
        old = self._listed.get(key)
        new = renewed(key, instances, old, self.addresses, at, first=first)
        if new is None or new is old:
            return False
        self._put(new)
        return old is None or new.server is not old.server or new.deleted

    def _mark_latest(self, name: str) -> None:
        """Of those that are there, or else of those that were, the greatest version is the latest.

        https://semver.org, section 11; what differs in its build alone is ordered by that.
        """
        listed = [self._listed[name, version] for version in self._versions[name]]
        latest = max(listed, key=lambda each: (not each.deleted, *_order(each.key)))
        for each in listed:
            if each.is_latest != (each is latest):
                self._listed[each.key] = replace(each, is_latest=each is latest)
                self._selections.clear()

    # -- what is listed --------------------------------------------------------------------------

    def _put(self, entry: Listed) -> None:
        key, old = entry.key, self._listed.get(entry.key)
        if old is None:
            self._keys.append(key)  # and sorted when all are there
            self._versions.setdefault(key[0], set()).add(key[1])
        if old is None or old.deleted != entry.deleted:
            self._selections.clear()
        self._listed[key] = entry
        self._gone.pop(key, None)
        if entry.deleted:
            self._gone[key] = entry.noticed

    def _forget(self) -> None:
        """Drops the memory of what is gone for too long, or of the first where it is too much."""
        too_old = self._now() - timedelta(seconds=REMEMBERED_FOR)
        while self._gone:
            key, at = next(iter(self._gone.items()))
            if at > too_old and len(self._gone) <= MOST_REMEMBERED:
                return
            del self._gone[key], self._listed[key]
            del self._keys[bisect_left(self._keys, key)]
            self._versions[key[0]].discard(key[1])
            if not self._versions[key[0]]:
                del self._versions[key[0]]
            else:
                self._mark_latest(key[0])
            self._selections.clear()

    def _select(self, wanted: Wanted) -> list[Key]:
        search = (wanted.search or "").lower()
        keys = [key for key in self._keys if search in key[0].lower()] if search else self._keys
        listed = [self._listed[key] for key in keys]
        if not wanted.with_deleted:
            listed = [each for each in listed if not each.deleted]
        if wanted.version == LATEST:
            listed = [each for each in listed if each.is_latest]
        elif wanted.version is not None:
            listed = [each for each in listed if each.key[1] == wanted.version]
        if (since := wanted.since) is not None:
            listed = [each for each in listed if each.noticed >= since or each.updated >= since]
        return [each.key for each in listed]


def _key(entry: Entry) -> Key:
    return entry.record.registry_name, entry.record.version


def _order(key: Key) -> tuple[Any, str]:
    return precedence(key[1]), key[1]


def _alike(was: Entry | None, now: Entry | None) -> bool:
    """Whether the two differ in nothing that an entry tells: in their load, say."""
    if was is None or now is None:
        return False
    return was.health == now.health and (was.record is now.record or was.record == now.record)


#: The ledger of an application.
LEDGER = web.AppKey("registry ledger", Ledger)

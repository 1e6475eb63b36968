"""The live list of servers in the client: the union of every selection that it follows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime

from mcp_discovery.client.source import Everything, One, Source, Staleness, Wanted
from mcp_discovery.errors import StoreUnavailableError
from mcp_discovery.instance import Instance
from mcp_discovery.query.query import Query, query_of

log = logging.getLogger(__name__)

OnChange = Callable[[Instance | None, Instance | None], None]


@dataclass(eq=False, slots=True)
class _Selection:
    """One query, or named query, that is followed; ``first`` is done when its instances are there.

    ``leaving``: when the instances are removed that a list which started over does not have.
    """

    query: Wanted
    first: asyncio.Future[None]
    task: asyncio.Task[None] | None = None
    ids: set[str] = field(default_factory=set)
    leaving: dict[str, asyncio.TimerHandle] = field(default_factory=dict)
    stale_since: datetime | None = None


class FollowedServers:
    """The instances of all selections that are followed, by id.

    ``on_change`` is called with what an instance was and what it is, ``None`` for not there. An
    instance that is missing from a list that starts over, as after a restart of the facade, is
    kept for ``hold`` seconds: its sidecar may just not have come back yet.
    """

    def __init__(self, source: Source, on_change: OnChange, *, hold: float) -> None:
        self._source = source
        self._on_change = on_change
        self._hold = hold
        self._selections: dict[Wanted, _Selection] = {}
        self.instances: dict[str, Instance] = {}

    @property
    def stale_since(self) -> datetime | None:
        """Since when any part of the list cannot be kept up to date."""
        times = (each.stale_since for each in self._selections.values())
        return min((time for time in times if time is not None), default=None)

    @property
    def only(self) -> Query | None:
        """What is followed, where that is one query with filters; ``None`` for several, and for a
        named one."""
        one = next(iter(self._selections), None) if len(self._selections) == 1 else None
        return one if isinstance(one, Query) else None

    def shows(self, id: str, listed: Instance | None) -> bool:
        """Whether every selection by filters has what the list has of ``id``."""
        queries = [each for each in self._selections if isinstance(each, Query)]
        if len(queries) < len(self._selections):
            return True  # what a named query finds is asked for in its own time
        found = listed is not None and any(each.matches(listed) for each in queries)
        return self.instances.get(id) == (listed if found else None)

    async def ready(self) -> None:
        """Waits for every selection, or follows all servers; raises as :meth:`follow`."""
        for wanted in list(self._selections) or [query_of({})]:
            await self.follow(wanted)

    async def follow(self, wanted: Wanted) -> list[Instance]:
        """Follows ``wanted`` from now on; returns its instances, by name and id.

        Raises :class:`StoreError` or :class:`InvalidInputError` where they cannot be read.
        """
        if (selection := self._selections.get(wanted)) is None:
            selection = _Selection(wanted, asyncio.get_running_loop().create_future())
            self._selections[wanted] = selection
            selection.task = asyncio.create_task(self._run(selection), name="following servers")
        first = selection.first
        if not first.done():
            await asyncio.wait([first])  # which a cancelled caller leaves as it is
        if (error := first.exception()) is not None:
            if self._selections.get(wanted) is selection:
                await self._unfollow(selection)
            raise error
        found = [self.instances[id] for id in selection.ids]
        return sorted(found, key=lambda each: (each.record.name, each.id))

    async def _run(self, selection: _Selection) -> None:
        first = selection.first
        while True:
            try:
                async with aclosing(self._source.watch(selection.query)) as watch:
                    async for news in watch:
                        self._apply(selection, news)
                        if not first.done():
                            first.set_result(None)
            except Exception as error:
                if not first.done():
                    first.set_exception(error)
                    return
                log.exception("following servers failed in a way it must not; starting again")
                await asyncio.sleep(1.0)

    def _apply(self, selection: _Selection, news: Everything | One | Staleness) -> None:
        match news:
            case One(id, instance):
                self._set(selection, id, instance)
            case Everything(instances):
                for id, instance in instances.items():
                    self._set(selection, id, instance)
                for id in selection.ids - instances.keys():
                    self._remove_later(selection, id)
            case Staleness(since):
                selection.stale_since = since

    def _remove_later(self, selection: _Selection, id: str) -> None:
        if not self._hold:
            self._set(selection, id, None)
        elif id not in selection.leaving:
            loop = asyncio.get_running_loop()
            selection.leaving[id] = loop.call_later(self._hold, self._set, selection, id, None)

    def _set(self, selection: _Selection, id: str, instance: Instance | None) -> None:
        if (leaving := selection.leaving.pop(id, None)) is not None:
            leaving.cancel()
        before = self.instances.get(id)
        if instance is not None:
            selection.ids.add(id)
            self.instances[id] = instance
        else:
            selection.ids.discard(id)
            if any(id in each.ids for each in self._selections.values()):
                return
            self.instances.pop(id, None)
        if before != instance:
            self._on_change(before, instance)

    async def _unfollow(self, selection: _Selection) -> None:
        del self._selections[selection.query]
        if not selection.first.done():
            gone = StoreUnavailableError("the list", "it is not followed any more")
            selection.first.set_exception(gone)
        selection.first.exception()  # marked as retrieved: asyncio warns where no task waits
        assert selection.task is not None
        selection.task.cancel()
        await asyncio.wait([selection.task])
        for id in list(selection.ids):
            self._set(selection, id, None)

    async def close(self) -> None:
        """Follows nothing any more."""
        for selection in list(self._selections.values()):
            await self._unfollow(selection)

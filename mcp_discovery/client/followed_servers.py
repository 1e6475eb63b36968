"""The live list of servers in the client: the union of every selection that it follows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing
from datetime import datetime

from mcp_discovery.client.source import Everything, One, Source, Staleness
from mcp_discovery.errors import StoreUnavailableError
from mcp_discovery.instance import Instance
from mcp_discovery.query.query import Query

log = logging.getLogger(__name__)

OnChange = Callable[[Instance | None, Instance | None], None]


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
        self._tasks: dict[Query, asyncio.Task[None]] = {}
        self._first: dict[Query, asyncio.Future[None]] = {}
        self._ids: dict[Query, set[str]] = {}
        self._leaving: dict[tuple[Query, str], asyncio.TimerHandle] = {}
        self.instances: dict[str, Instance] = {}
        self._stale: dict[Query, datetime] = {}

    @property
    def following(self) -> bool:
        """Whether any selection is followed."""
        return bool(self._tasks)

    @property
    def stale_since(self) -> datetime | None:
        """Since when any part of the list cannot be kept up to date."""
        return min(self._stale.values(), default=None)

    @property
    def settled(self) -> bool:
        """Whether the instances of every selection that is followed are there."""
        return all(first.done() for first in self._first.values())

    async def follow(self, wanted: Query) -> None:
        """Follows ``wanted`` from now on; returns when its instances are there.

        Raises ``StoreUnavailableError``, ``StoreDeniedError`` or ``InvalidInputError`` where they
        cannot be read.
        """
        if wanted not in self._tasks:
            self._ids[wanted] = set()
            self._first[wanted] = first = asyncio.get_running_loop().create_future()
            task = asyncio.create_task(self._run(wanted, first), name="following servers")
            self._tasks[wanted] = task
        await self._wait_first(wanted)

    async def begun(self) -> None:
        """Waits for the instances of every selection that is followed; raises as :meth:`follow`."""
        for wanted in list(self._tasks):
            await self._wait_first(wanted)

    async def _wait_first(self, wanted: Query) -> None:
        first = self._first[wanted]
        if not first.done():
            await asyncio.wait([first])  # which a cancelled caller leaves as it is
        if (error := first.exception()) is not None:
            if self._first.get(wanted) is first:
                await self._unfollow(wanted)
            raise error

    def selected(self, wanted: Query) -> list[Instance]:
        """The instances of a selection that is followed, by name and id."""
        found = [self.instances[id] for id in self._ids.get(wanted, ())]
        return sorted(found, key=lambda each: (each.record.name, each.id))

    async def _run(self, wanted: Query, first: asyncio.Future[None]) -> None:
        while True:
            try:
                async with aclosing(self._source.watch(wanted)) as watch:
                    async for news in watch:
                        self._apply(wanted, news)
                        if not first.done():
                            first.set_result(None)
            except Exception as error:
                if not first.done():
                    first.set_exception(error)
                    return
                log.exception("following servers failed in a way it must not; starting again")
                await asyncio.sleep(1.0)

    def _apply(self, wanted: Query, news: Everything | One | Staleness) -> None:
        match news:
            case One(id, instance):
                self._set(wanted, id, instance)
            case Everything(instances):
                for id, instance in instances.items():
                    self._set(wanted, id, instance)
                for id in self._ids[wanted] - instances.keys():
                    self._remove_later(wanted, id)
            case Staleness(since):
                self._stale.pop(wanted, None)
                if since is not None:
                    self._stale[wanted] = since

    def _remove_later(self, wanted: Query, id: str) -> None:
        if not self._hold:
            self._set(wanted, id, None)
        elif (wanted, id) not in self._leaving:
            loop = asyncio.get_running_loop()
            self._leaving[wanted, id] = loop.call_later(self._hold, self._set, wanted, id, None)

    def _set(self, wanted: Query, id: str, instance: Instance | None) -> None:
        if (leaving := self._leaving.pop((wanted, id), None)) is not None:
            leaving.cancel()
        before = self.instances.get(id)
        if instance is not None:
            self._ids[wanted].add(id)
            self.instances[id] = instance
        else:
            self._ids[wanted].discard(id)
            if any(id in shown for shown in self._ids.values()):
                return
            self.instances.pop(id, None)
        if before != instance:
            self._on_change(before, instance)

    async def _unfollow(self, wanted: Query) -> None:
        task = self._tasks.pop(wanted)
        first = self._first.pop(wanted)
        self._stale.pop(wanted, None)
        if not first.done():
            first.set_exception(StoreUnavailableError("the list", "it is not followed any more"))
        first.exception()  # marked as retrieved: asyncio warns of it where no task waits
        task.cancel()
        await asyncio.wait([task])
        for key in [key for key in self._leaving if key[0] == wanted]:
            self._leaving.pop(key).cancel()
        for id in list(self._ids[wanted]):
            self._set(wanted, id, None)
        del self._ids[wanted]

    async def close(self) -> None:
        """Follows nothing any more."""
        for wanted in list(self._tasks):
            await self._unfollow(wanted)

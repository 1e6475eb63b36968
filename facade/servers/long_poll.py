"""Long polls: a response that waits until its result is another one.

Polls for the same wait as one group. A change of the list is compared with the queries that it
could concern, found by the changed instance's own name, tags and so on, and wakes a group only when
the instance matches its query now or did before. So thousands of polls cost a change nothing that
does not concern them.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice

from aiohttp import web

from mcp_discovery.adapters.live_list import LiveList
from mcp_discovery.adapters.view import View
from mcp_discovery.disconnects import ClientGoneError, DisconnectWatch
from mcp_discovery.errors import OutdatedRevisionError
from mcp_discovery.facade.access.parts import Part
from mcp_discovery.facade.servers.query import ServerQuery
from mcp_discovery.facade.servers.results import ListResult, ServerLists
from mcp_discovery.health import utcnow
from mcp_discovery.instance import Instance
from mcp_discovery.query.filters import FILTERS

log = logging.getLogger(__name__)

#: Seconds between two checks for clients that have left.
_DISCONNECT_CHECK = 0.5
#: A change of more instances than these wakes every group: comparing would take longer.
_TOO_MANY = 1000
#: How many polls are woken before everything else has its turn; each writes its response then.
_BATCH = 25


class _PollGroup:
    """All polls that wait for the result of one query."""

    def __init__(self, wanted: ServerQuery, view: View) -> None:
        self.wanted = wanted
        #: The (index, key) pairs one of which every instance that matches has; empty: any may.
        self.found_by = view.narrowest(wanted.query)
        #: Each is set when the result of the poll that waits for it may be another.
        self.polls: set[asyncio.Event] = set()


class LongPolls:
    """All waiting polls of one catalog, woken while :meth:`run` runs."""

    def __init__(self, catalog: LiveList, lists: ServerLists) -> None:
        self._catalog = catalog
        self._lists = lists
        self._groups: dict[str, _PollGroup] = {}
        self._by_key: defaultdict[tuple[str, str], set[_PollGroup]] = defaultdict(set)
        self._anyway: set[_PollGroup] = set()  # those that no index finds
        self._waiting = DisconnectWatch(_DISCONNECT_CHECK)
        self._to_wake: dict[asyncio.Event, None] = {}
        self._some_to_wake = asyncio.Event()
        self._closed = False
        #: How many groups were woken, and how many polls returned because of a change.
        self.groups_woken = 0
        self.returned = 0

    def __len__(self) -> int:
        return len(self._waiting)

    async def wait(self, request: web.Request, wanted: ServerQuery, tag: str) -> ListResult:
        """The result as soon as its tag is not ``tag``, or as it is after ``wanted.wait`` seconds.

        Returns at once when the client has left or :meth:`close` is called.
        """
        poll = asyncio.Event()
        group = self._join(wanted, poll)
        try:
            async with self._waiting.guard(request, wanted.wait):
                while True:
                    poll.clear()
                    result = await self._lists.result(wanted)
                    if result.tag != tag:
                        self.returned += 1
                        return result
                    if self._closed:
                        return result
                    await _changed(poll, result)
        except ClientGoneError:
            return await self._lists.result(wanted)
        finally:
            self._leave(group, poll)

    def descriptions_known(self) -> None:
        """More descriptions became known: searches may find more now."""
        self._wake(group for group in self._groups.values() if group.wanted.question)

    def close(self) -> None:
        """Ends the waiting of all, and of those to come."""
        self._closed = True
        for group in self._groups.values():
            for poll in group.polls:
                poll.set()

    async def run(self) -> None:
        """Follows the catalog and wakes the polls, for ever."""
        await asyncio.gather(self._follow(), self._wake_in_turns(), self._waiting.run())

    def _join(self, wanted: ServerQuery, poll: asyncio.Event) -> _PollGroup:
        group = self._groups.get(wanted.key)
        if group is None:
            group = self._groups[wanted.key] = _PollGroup(wanted, self._catalog.view)
            for key in group.found_by:
                self._by_key[key].add(group)
            if not group.found_by:
                self._anyway.add(group)
        group.polls.add(poll)
        return group

    def _leave(self, group: _PollGroup, poll: asyncio.Event) -> None:
        group.polls.remove(poll)
        self._to_wake.pop(poll, None)
        if group.polls:
            return
        del self._groups[group.wanted.key]
        self._anyway.discard(group)
        for key in group.found_by:
            self._by_key[key].discard(group)
            if not self._by_key[key]:
                del self._by_key[key]

    async def _follow(self) -> None:
        view = self._catalog.view
        while True:
            before, view = view, await self._catalog.after(view)
            try:
                self._compare(before, view)
            except Exception:  # the guard that keeps polls returning
                log.exception("a change could not be compared with the long polls; all are woken")
                self._wake(self._groups.values())

    def _compare(self, before: View, after: View) -> None:
        """Wakes the groups whose result the changes between two views may have changed."""
        ids: set[str] | None = None
        with suppress(OutdatedRevisionError):
            ids = {event.id for event in self._catalog.since(before.epoch, before.revision)}
        if ids is None or len(ids) > _TOO_MANY:
            self._wake(self._groups.values())
            return
        now = after.as_of
        woken: set[_PollGroup] = set()
        for id in ids:
            for entry in (before.entries.get(id), after.entries.get(id)):
                if entry is None:
                    continue
                for group in self._concerned(entry.instance):
                    if group not in woken and group.wanted.query.matches(entry.instance, now):
                        woken.add(group)
        self._wake(woken)

    def _concerned(self, instance: Instance) -> Iterator[_PollGroup]:
        yield from self._anyway
        if self._by_key:
            for each in FILTERS.values():
                for key in each.keys_of(instance):
                    yield from self._by_key.get((each.name, key), ())

    def _wake(self, groups: Iterable[_PollGroup]) -> None:
        for group in groups:
            self.groups_woken += 1
            self._to_wake.update(dict.fromkeys(group.polls))
        self._some_to_wake.set()

    async def _wake_in_turns(self) -> None:
        """Wakes a few polls, lets everything else have its turn, and wakes the next ones: thousands
        at once would keep requests waiting until the last of them has its response."""
        while True:
            await self._some_to_wake.wait()
            self._some_to_wake.clear()
            while self._to_wake:
                for poll in list(islice(self._to_wake, _BATCH)):
                    del self._to_wake[poll]
                    poll.set()
                await asyncio.sleep(0)


async def _changed(changed: asyncio.Event, result: ListResult) -> None:
    """Waits until ``changed`` is set, or until the result becomes another by the clock alone."""
    due = result.selection.due
    if due is None:
        await changed.wait()
        return
    # The clock of a stale list stands still: check now and then whether it goes again.
    least = 0.001 if result.selection.view.stale_since is None else 1.0
    with suppress(TimeoutError):
        async with asyncio.timeout(max(least, (due - utcnow()).total_seconds())):
            await changed.wait()


#: The long polls.
POLLS: Part[LongPolls] = Part("long polls")

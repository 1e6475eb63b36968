"""Long polls: an answer that waits until it is another one.

Polls with the same question wait as one group. A change of the list is held against the questions
that it could concern, found by the changed instance's own name, tags and so on, and wakes a group
only when the instance matches its question now or did before. So thousands of polls cost a change
nothing that it has nothing to do with.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from types import TracebackType
from typing import Self

from aiohttp import web

from mcp_discovery.adapters.catalog import Catalog
from mcp_discovery.adapters.view import View, keys_of
from mcp_discovery.errors import OutdatedRevisionError
from mcp_discovery.facade.repeats import Repeats, connection_of
from mcp_discovery.facade.servers.query import ServerQuery
from mcp_discovery.facade.servers.results import Answer, Lists
from mcp_discovery.health import utcnow
from mcp_discovery.instance import Instance

log = logging.getLogger(__name__)

#: Seconds between two looks for clients that have left.
_LOOK_EVERY = 0.5
#: So many instances changed at once wake everyone: to look at each for each would take longer.
_TOO_MANY = 1000
#: So many polls are woken before everything else has its turn again: each writes its answer then.
_AT_ONCE = 25
#: Under which indexes groups are found, the one that narrows most first.
_FOUND_BY = ("name", "tool", "capability", "tag", "owner", "zone")


class _Poll:
    """One client that waits."""

    def __init__(self, request: web.Request) -> None:
        self.connection = connection_of(request)
        self.began = time.monotonic()
        #: Set when the answer may be another.
        self.changed = asyncio.Event()
        #: Whether the client has its answer already.
        self.told = False

    def tell(self, repeats: Repeats) -> bool:
        """Gives the client its answer, where another got the same one just now."""
        if self.connection is not None:
            self.told = repeats.tell(self.connection, time.monotonic() - self.began)
        return self.told


class _Group:
    """All polls that wait for the answer to one question."""

    def __init__(self, asked: ServerQuery) -> None:
        self.asked = asked
        self.polls: set[_Poll] = set()

    def found_by(self) -> list[tuple[str, str]]:
        """The (index, key) pairs one of which every instance that matches has; empty: any may."""
        query = self.asked.query
        narrowing = {index: (keys, every) for _, index, keys, every in query.narrowing()}
        for index in _FOUND_BY:
            if index in narrowing:
                keys, every = narrowing[index]
                return [(index, key) for key in ([min(keys)] if every else keys)]
        return []


class Polls:
    """All waiting polls of one catalog. Use it as ``async with``."""

    def __init__(self, catalog: Catalog, lists: Lists, repeats: Repeats) -> None:
        self._catalog = catalog
        self._lists = lists
        self._repeats = repeats
        self._groups: dict[str, _Group] = {}
        self._by_key: defaultdict[tuple[str, str], set[_Group]] = defaultdict(set)
        self._anyway: set[_Group] = set()  # those that no index finds
        self._lives: dict[asyncio.Timeout, web.Request] = {}
        self._to_wake: dict[_Poll, None] = {}
        self._some_to_wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False
        #: How many groups were woken, and how many polls returned because of a change.
        self.groups_woken = 0
        self.returned = 0

    def __len__(self) -> int:
        return len(self._lives)

    async def wait(self, request: web.Request, asked: ServerQuery, tag: str) -> Answer | None:
        """The answer as soon as its tag is not ``tag``, or as it is after ``asked.wait`` seconds;
        ``None`` where the client has it already.

        Returns at once when the client has left or :meth:`close` is called.
        """
        poll = _Poll(request)
        group = self._join(asked, poll)
        life = asyncio.timeout(asked.wait)
        self._lives[life] = request
        try:
            async with life:
                while True:
                    poll.changed.clear()
                    answer = await self._lists.answer(asked)
                    if answer.tag != tag:
                        self.returned += 1
                        return answer
                    if self._closed:
                        return answer
                    await _until(poll.changed, answer)
                    if poll.told:
                        self.returned += 1
                        return None
        except TimeoutError:
            if not life.expired():
                raise
            return None if poll.told else await self._lists.answer(asked)
        finally:
            del self._lives[life]
            self._leave(group, poll)

    def text_known(self) -> None:
        """More descriptions became known: what is searched for may be found now."""
        self._wake(group for group in self._groups.values() if group.asked.words)

    def close(self) -> None:
        """Ends the waiting of all, and of those to come."""
        self._closed = True
        for group in self._groups.values():
            for poll in group.polls:
                poll.changed.set()

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(self._follow(), name="long polls"),
            asyncio.create_task(self._wake_in_turns(), name="wake long polls"),
            asyncio.create_task(self._drop_gone(), name="gone polls"),
        ]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _join(self, asked: ServerQuery, poll: _Poll) -> _Group:
        group = self._groups.get(asked.key)
        if group is None:
            group = self._groups[asked.key] = _Group(asked)
            for key in (keys := group.found_by()):
                self._by_key[key].add(group)
            if not keys:
                self._anyway.add(group)
        group.polls.add(poll)
        return group

    def _leave(self, group: _Group, poll: _Poll) -> None:
        group.polls.remove(poll)
        self._to_wake.pop(poll, None)
        if group.polls:
            return
        del self._groups[group.asked.key]
        self._anyway.discard(group)
        for key in group.found_by():
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
                log.exception("a change could not be held against the polls; all are woken")
                self._wake(self._groups.values())

    def _compare(self, before: View, after: View) -> None:
        """Wakes the groups whose answer the changes between two views may have changed."""
        try:
            ids = {event.id for event in self._catalog.since(before.epoch, before.revision)}
        except OutdatedRevisionError:
            self._wake(self._groups.values())
            return
        if len(ids) > _TOO_MANY:
            self._wake(self._groups.values())
            return
        now = after.as_of
        woken: set[_Group] = set()
        for id in ids:
            for entry in (before.entries.get(id), after.entries.get(id)):
                if entry is None:
                    continue
                for group in self._concerned(entry.instance):
                    if group not in woken and group.asked.query.matches(entry.instance, now):
                        woken.add(group)
        self._wake(woken)

    def _concerned(self, instance: Instance) -> Iterator[_Group]:
        yield from self._anyway
        if self._by_key:
            for index in _FOUND_BY:
                for key in keys_of(index, instance):
                    yield from self._by_key.get((index, key), ())

    def _wake(self, groups: Iterable[_Group]) -> None:
        for group in groups:
            self.groups_woken += 1
            self._to_wake.update(dict.fromkeys(group.polls))
        self._some_to_wake.set()

    async def _wake_in_turns(self) -> None:
        """Wakes a few polls, lets everything else have its turn, and wakes the next ones: thousands
        at once would keep requests waiting until the last of them has its answer.

        Of polls with the same bytes those in the first turn are woken, and the first of them works
        the answer out; those in later turns are given that answer from here. Their handlers have
        nothing left to do but end, and that waits until everyone has been told.
        """
        while True:
            await self._some_to_wake.wait()
            self._some_to_wake.clear()
            told: deque[_Poll] = deque()
            while self._to_wake:
                for poll in list(islice(self._to_wake, _AT_ONCE)):
                    del self._to_wake[poll]
                    if poll.tell(self._repeats):
                        told.append(poll)
                    else:
                        poll.changed.set()
                await asyncio.sleep(0)
            while told:
                for _ in range(min(_AT_ONCE, len(told))):
                    told.popleft().changed.set()
                await asyncio.sleep(0)

    async def _drop_gone(self) -> None:
        """Ends the waiting of clients that have left: aiohttp would tell only when it writes."""
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            now = asyncio.get_running_loop().time()
            for life, request in self._lives.items():
                left = request.transport is None or request.transport.is_closing()
                if left and not life.expired():
                    life.reschedule(now)


async def _until(changed: asyncio.Event, answer: Answer) -> None:
    """Waits until ``changed``, or until the answer becomes another by the clock alone."""
    due = answer.selection.due
    if due is None:
        await changed.wait()
        return
    # The clock of a stale list stands still: look now and then whether it goes again.
    least = 0.001 if answer.view.stale_since is None else 1.0
    with suppress(TimeoutError):
        async with asyncio.timeout(max(least, (due - utcnow()).total_seconds())):
            await changed.wait()

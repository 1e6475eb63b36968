"""What a named query finds in one list, and waiting until it finds something else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any

from aiohttp import web
from cachetools import LRUCache

from mcp_discovery.adapters.live_list import LiveList
from mcp_discovery.adapters.named_queries import KnownQueries, NamedQueries
from mcp_discovery.adapters.view import Entry, View
from mcp_discovery.disconnects import ClientGoneError, DisconnectWatch
from mcp_discovery.errors import DiscoveryError, StoreError
from mcp_discovery.facade.access.parts import Part
from mcp_discovery.facade.http.etag import tag_of
from mcp_discovery.facade.http.pauses import made_of_each, sliced
from mcp_discovery.facade.servers import list_json
from mcp_discovery.facade.servers.current_list import current_view
from mcp_discovery.facade.servers.paging import BY_NAME, Sort
from mcp_discovery.facade.servers.query import ServerQuery
from mcp_discovery.facade.servers.results import ListSelection, ServerLists
from mcp_discovery.facade.servers.search_index import ServerRanks
from mcp_discovery.query.answer import Arrangement, Found, find, require_key
from mcp_discovery.query.definition import MOST_SERVERS, NamedQuery, QueryDefinition, QueryStep
from mcp_discovery.query.question import Question

log = logging.getLogger(__name__)

#: Seconds between two checks for clients that have left.
_DISCONNECT_CHECK = 0.5
#: Seconds after which what is waited for is asked anew in any case: the clock may change an answer,
#: or a document that becomes known. Seconds between two rounds over all that is waited for.
_TICK, _PAUSE = 2.0, 0.05
#: Of how many steps with words it is remembered what they found.
_SELECTIONS = 64
#: How many polls are woken before everything else has its turn.
_BATCH = 25


@dataclass(frozen=True, slots=True)
class NamedAnswer:
    """What the query ``definition`` found in ``view``, by words where it has ``ranks``; ``tag`` is
    the same for as long as it finds the same, in whatever order."""

    wanted: NamedQuery
    definition: QueryDefinition
    known: KnownQueries
    view: View
    found: Found[Entry]
    ranks: ServerRanks | None
    tag: str

    def why(self, entry: Entry) -> str | None:
        """Why words found ``entry``, where any were asked for."""
        return None if self.ranks is None else self.ranks.why(entry)

    @property
    def mark(self) -> object:
        """What differs wherever two answers to the same do."""
        return self.tag, list_json.caveats(self.view), self.known.caveats


@dataclass(eq=False, slots=True)
class _Watched:
    """All who wait for another answer to ``wanted`` than ``mark``."""

    wanted: NamedQuery
    mark: object
    polls: set[asyncio.Event] = field(default_factory=set)


class NamedAnswers:
    """The answers of one list to named queries, in the order of an ``arrangement``."""

    def __init__(
        self,
        catalog: LiveList,
        lists: ServerLists,
        queries: NamedQueries,
        arrangement: Arrangement[Entry],
    ) -> None:
        #: What is kept, for all lists.
        self.queries = queries
        self._catalog = catalog
        self._lists = lists
        self._arrangement = arrangement
        self._waiting = DisconnectWatch(_DISCONNECT_CHECK)
        self._groups: dict[NamedQuery, _Watched] = {}
        self._selections: LRUCache[str, ListSelection] = LRUCache(_SELECTIONS)
        self._turn = asyncio.Lock()
        self._joined = asyncio.Event()
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    async def answer(self, wanted: NamedQuery, *, usual_key: str | None = None) -> NamedAnswer:
        """What a named query finds now; ``usual_key`` is that of an asker who cannot give one.

        Raises what :meth:`NamedQueries.current`, :meth:`KnownQueries.__getitem__` and
        :func:`require_key` raise, and :class:`ProblemError` (503) until there is a first list.
        """
        known = await self.queries.current(wanted.name)
        definition = known[wanted.name]
        if definition.strategy == "consistent-hash" and wanted.key is None:
            wanted = replace(wanted, key=usual_key)
        require_key(definition.strategy, wanted.key)
        view = current_view(self._catalog)
        selections: list[ListSelection] = []

        async def select(step: QueryStep) -> Sequence[Entry]:
            selections.append(await self._selected(_list_query(step)))
            return selections[-1].entries

        found = await find(definition, select, wanted.zone)
        ranks = None if found.answered_by is None else selections[found.answered_by].ranks
        content = [
            b"".join(await made_of_each(each, attrgetter("digest")))
            for each in (found.near, found.others)
        ]
        # Its version, not what it says: who may not read that could try guesses at the tag.
        version = known.stored[wanted.name].version
        tag = tag_of(version, found.answered_by, *content, wanted.zone, wanted.key)
        return NamedAnswer(wanted, definition, known, view, found, ranks, tag)

    async def _selected(self, wanted: ServerQuery) -> ListSelection:
        """What a step finds now. Its words are searched for once while the list stays as it is:
        many ask the same, and each in turn."""
        if wanted.question is None:
            return await self._lists.selection(wanted)
        async with self._turn:
            found = self._selections.get(wanted.key)
            if (
                found is None
                or found.view is not self._catalog.view
                or found.known != self._lists.search.documents_known
                or found.due is not None
            ):
                found = self._selections[wanted.key] = await self._lists.selection(wanted)
            return found

    async def shown(self, answer: NamedAnswer, limit: int | None = None) -> list[Entry]:
        """The servers of an answer in its order, as many as the definition and ``limit`` let be."""
        wanted, definition = answer.wanted, answer.definition
        asked = f"query {wanted.name}"
        order = await self._arrangement.answer(definition, answer.found, asked, wanted.key)
        return order[: min(limit or MOST_SERVERS, definition.limit)]

    async def changed(
        self,
        request: web.Request,
        answer: NamedAnswer,
        is_other: Callable[[NamedAnswer], bool],
        seconds: float,
    ) -> NamedAnswer:
        """The answer as soon as it ``is_other`` than ``answer``, or as it is after ``seconds``.

        Returns at once when the client has left or :meth:`close` is called; raises as
        :meth:`answer` does.
        """
        poll = asyncio.Event()
        group = self._join(answer, poll)
        try:
            async with self._waiting.guard(request, seconds):
                while not self._closed and not is_other(answer):
                    await poll.wait()
                    poll.clear()
                    answer = await self.answer(answer.wanted)
        except ClientGoneError:
            pass
        finally:
            group.polls.discard(poll)
            if not group.polls:
                self._groups.pop(answer.wanted, None)
        return answer

    def _join(self, answer: NamedAnswer, poll: asyncio.Event) -> _Watched:
        group = self._groups.get(answer.wanted)
        if group is None:
            group = self._groups[answer.wanted] = _Watched(answer.wanted, answer.mark)
            self._joined.set()
        elif group.mark != answer.mark:
            poll.set()  # it was found before the others were woken
        group.polls.add(poll)
        return group

    async def run(self) -> None:
        """Wakes, for ever, those who wait, and ends the waiting of those who have left."""
        await asyncio.gather(self._waiting.run(), self._follow())

    async def _follow(self) -> None:
        while True:
            self._joined.clear()
            view = self._catalog.view
            try:
                known = await self.queries.current() if self._groups else None
                async for group in sliced(list(self._groups.values())):
                    await self._compare(group)
            except StoreError as error:
                log.debug("named queries cannot be followed now: %s", error)
                known = None
            except Exception:  # the guard that keeps polls returning
                log.exception("following named queries failed in a way it must not")
                known = None
            await self._news(view, known)
            await asyncio.sleep(_PAUSE)

    async def _compare(self, group: _Watched) -> None:
        """Asks once for all who wait for the same, and wakes them where something else is found."""
        try:
            mark: object = (await self.answer(group.wanted)).mark
        except DiscoveryError as error:
            mark = str(error)
        if mark == group.mark:
            return
        group.mark = mark
        for number, poll in enumerate(list(group.polls), start=1):
            poll.set()
            if number % _BATCH == 0:  # each writes its response before the next ones are woken
                await asyncio.sleep(0)

    async def _news(self, view: View, known: KnownQueries | None) -> None:
        """Waits until what the groups were answered by is another, or a group is new."""
        waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(self._joined.wait())]
        if self._groups:
            waits.append(asyncio.ensure_future(self._catalog.after(view)))
        if known is not None:
            waits.append(asyncio.ensure_future(self.queries.after(known)))
        try:
            await asyncio.wait(
                waits,
                timeout=_TICK if self._groups else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            for each in waits:
                each.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    def close(self) -> None:
        """Ends the waiting of all, and of those to come."""
        self._closed = True
        for group in self._groups.values():
            for poll in group.polls:
                poll.set()


def _list_query(step: QueryStep) -> ServerQuery:
    """The step as a request for a list."""
    question = Question(step.q, step.query.match) if step.q else None
    sort = Sort("relevance") if question else BY_NAME
    parts: list[Any] = ["named query", step.query.identity, step.q]
    return ServerQuery(step.query, question, sort, fingerprint=tag_of(*parts), key=tag_of(*parts))


#: The answers to named queries.
NAMED_ANSWERS: Part[NamedAnswers] = Part("answers to named queries")

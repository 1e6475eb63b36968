"""What a named query finds in one list, and waiting until it finds something else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from aiohttp import web

from mcp_discovery.adapters.live_list import LiveList
from mcp_discovery.adapters.named_queries import KnownQueries, NamedQueries
from mcp_discovery.adapters.view import Entry, View
from mcp_discovery.facade.access.parts import Part
from mcp_discovery.facade.http.disconnects import ClientGoneError, DisconnectWatch
from mcp_discovery.facade.http.etag import tag_of
from mcp_discovery.facade.http.pauses import made_of_each
from mcp_discovery.facade.servers.current_list import current_view
from mcp_discovery.facade.servers.paging import BY_NAME, Sort
from mcp_discovery.facade.servers.query import ServerQuery
from mcp_discovery.facade.servers.results import ServerLists
from mcp_discovery.query.answer import Arrangement, Found, find, require_key
from mcp_discovery.query.definition import MOST_SERVERS, NamedQuery, QueryDefinition, QueryStep
from mcp_discovery.query.question import Question

#: Seconds between two checks for clients that have left.
_DISCONNECT_CHECK = 0.5
#: Seconds after which a query is asked anew whose answer the clock changes, or a document that
#: becomes known.
_TICK = 2.0


@dataclass(frozen=True, slots=True)
class NamedAnswer:
    """What the query ``definition`` found in ``view``; ``tag`` is the same for as long as it finds
    the same, in whatever order."""

    wanted: NamedQuery
    definition: QueryDefinition
    known: KnownQueries
    view: View
    found: Found[Entry]
    tag: str


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
        self._closed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    async def answer(self, wanted: NamedQuery) -> NamedAnswer:
        """What a named query finds now.

        Raises what :meth:`NamedQueries.current`, :meth:`KnownQueries.__getitem__` and
        :func:`require_key` raise, and :class:`ProblemError` (503) until there is a first list.
        """
        known = await self.queries.current(wanted.name)
        definition = known[wanted.name]
        require_key(definition.strategy, wanted.key)
        view = current_view(self._catalog)
        found = await find(definition, self._select, wanted.zone)
        content = [
            b"".join(await made_of_each(each, attrgetter("digest")))
            for each in (found.near, found.others)
        ]
        tag = tag_of(definition.encode(), found.answered_by, *content, wanted.zone, wanted.key)
        return NamedAnswer(wanted, definition, known, view, found, tag)

    async def shown(
        self, answer: NamedAnswer, limit: int | None = None
    ) -> list[tuple[Entry, str | None]]:
        """The servers of an answer in its order, as many as the definition and ``limit`` let be;
        each with why the words of the query found it, where it has any."""
        wanted, definition = answer.wanted, answer.definition
        asked = f"query {wanted.name}"
        order = await self._arrangement.answer(definition, answer.found, asked, wanted.key)
        del order[min(limit or MOST_SERVERS, definition.limit) :]
        by = answer.found.answered_by
        if by is None or not definition.steps[by].q:
            return [(entry, None) for entry in order]
        ranks = (await self._lists.selection(_list_query(definition.steps[by]))).ranks
        return [(entry, ranks.ranking.why(entry.id) if ranks else None) for entry in order]

    async def _select(self, step: QueryStep) -> Sequence[Entry]:
        return (await self._lists.selection(_list_query(step))).entries

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
        try:
            async with self._waiting.guard(request, seconds):
                while not self._closed.is_set() and not is_other(answer):
                    await self._news(answer)
                    # A busy list wakes each of thousands no more often than all can be answered.
                    await asyncio.sleep(max(0.1, len(self) / 1000))
                    answer = await self.answer(answer.wanted)
        except ClientGoneError:
            pass
        return answer

    async def _news(self, answer: NamedAnswer) -> None:
        """Waits until what ``answer`` was made of is another."""
        moves = any(step.q or step.query.min_uptime for step in answer.definition.steps)
        waits = [
            asyncio.ensure_future(each)
            for each in (
                self._catalog.after(answer.view),
                self.queries.after(answer.known),
                self._closed.wait(),
            )
        ]
        try:
            await asyncio.wait(
                waits, timeout=_TICK if moves else None, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for each in waits:
                each.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def run(self) -> None:
        """Ends, for ever, the waiting of those who have left."""
        await self._waiting.run()

    def close(self) -> None:
        """Ends the waiting of all, and of those to come."""
        self._closed.set()


def _list_query(step: QueryStep) -> ServerQuery:
    """The step as a request for a list."""
    question = Question(step.q, step.query.match) if step.q else None
    sort = Sort("relevance") if question else BY_NAME
    parts: list[Any] = ["named query", step.query.identity, step.q]
    return ServerQuery(step.query, question, sort, fingerprint=tag_of(*parts), key=tag_of(*parts))


#: The answers to named queries.
NAMED_ANSWERS: Part[NamedAnswers] = Part("answers to named queries")

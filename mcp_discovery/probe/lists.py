"""The lists of one server: read whole, and then again a page at a time, in place of pings.

At one request for each probe the tools are asked for every other time, the rest in turn in between,
so that each page of the tools is read again within two probes, and each of the rest within two for
each of them. A list that is not read so (its answers take their time, fail, or have cursors that do
not last) is read whole, and only every so often: the server is asked for its life beside that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from mcp_discovery.mcp_messages import METHOD_NOT_FOUND
from mcp_discovery.probe.errors import BadAnswerError, NoAnswerError, UnreachableError
from mcp_discovery.probe.introspection import (
    BASE_LISTINGS,
    LISTINGS,
    TOOLS,
    ListPage,
    McpListing,
    UnreadList,
    read_page,
)
from mcp_discovery.probe.wire import Budget
from mcp_discovery.quoted import quoted

Ask = Callable[[str, str | None], Awaitable[dict[str, Any]]]
"""Asks for a page: method, cursor (None for the first page)."""

#: A list that is not read along is read whole after so many probes for each of its requests, and
#: after so many if that failed.
_SELDOM, _AGAIN = 4, 2

Trouble = BadAnswerError | NoAnswerError | UnreachableError
"""Why a list could not be read."""


@dataclass(eq=False, slots=True)
class OneList:
    """What is known of one list.

    ``pages`` are those that were read last, ``trouble`` says why they could not be read again.
    ``wanted`` says that it is to be read whole, ``along`` that its next page can stand for a ping.
    One that could not be read to its end, and begins with ``begun`` as it did then, is not read
    further before the probe ``thorough_at``.
    """

    listing: McpListing
    declared: bool
    pages: tuple[ListPage, ...] = ()
    trouble: Trouble | None = None
    wanted: bool = True
    along: bool = False
    walked: list[ListPage] = field(default_factory=list)  # of the walk along that is under way
    fleeting: bool = False  # its cursors do not last from one probe to the next
    requests: int = 1  # of the last whole reading
    readings: int = 0  # whole ones so far
    asked_at: int = 0  # the probe at which it was asked for last
    begun: ListPage | None = None
    thorough_at: int = 0

    def is_due(self, probes: int) -> bool:
        """Whether it is to be read whole when ``probes`` were made."""
        if self.trouble is not None:
            return probes - self.asked_at >= _AGAIN
        return bool(self.pages) and probes - self.asked_at >= _SELDOM * self.requests

    def leave_alone(self) -> None:
        """It cannot be read along."""
        self.fleeting = self.fleeting or bool(self.walked)
        self.walked.clear()
        self.along, self.wanted = False, True


class OfferedLists:
    """The lists of one server, by what its capabilities name."""

    def __init__(self) -> None:
        self._lists: dict[McpListing, OneList] = {}
        self._probes = 0
        self._usual_at = 0

    def declare(self, capabilities: dict[str, Any]) -> None:
        """Keep the lists that ``capabilities`` name (when they name none, all of MCP itself)."""
        wanted = [listing for listing in LISTINGS if listing.is_declared(capabilities)]
        declared = bool(wanted) or any(key in capabilities for key in ("logging", "completions"))
        before = self._lists
        self._lists = {
            listing: before.get(listing) or OneList(listing, declared)
            for listing in (wanted if declared else BASE_LISTINGS)
        }

    def want(self, capability: str | None = None) -> None:
        """Read what belongs to ``capability`` (everything without that) whole when it is time."""
        for one in self._lists.values():
            if capability in (None, one.listing.capability):
                one.wanted, one.thorough_at = True, 0

    @property
    def wanted(self) -> bool:
        """Whether a list is to be read whole."""
        return any(one.wanted for one in self._lists.values())

    @property
    def troubles(self) -> tuple[Trouble, ...]:
        """Why lists could not be read when they were read last."""
        return tuple(one.trouble for one in self._lists.values() if one.trouble is not None)

    @property
    def unread(self) -> tuple[UnreadList, ...]:
        """The lists that could not be read when they were read last."""
        return tuple(
            _unread(listing, one.trouble)
            for listing, one in self._lists.items()
            if one.trouble is not None
        )

    def pages(self, listing: McpListing) -> tuple[ListPage, ...]:
        """The pages of a list as they were read last; none where it is not there."""
        one = self._lists.get(listing)
        return () if one is None else one.pages

    def next_along(self, *, usual: bool) -> OneList | None:
        """The list that the next probe asks for; None for what probes ask for otherwise.

        ``usual`` says that this has to have its turn, too.
        """
        self._probes += 1
        others: list[OneList | None] = [None] if usual else []
        tools: OneList | None = None
        for one in self._lists.values():
            if not one.along:
                one.wanted = one.wanted or one.is_due(self._probes)
            elif one.listing is TOOLS:
                tools = one
            else:
                others.append(one)
        if tools is not None and (self._probes % 2 or not others):
            chosen: OneList | None = tools
        else:
            chosen = min(others, key=self._asked_at, default=None)
        if chosen is None:
            self._usual_at = self._probes
        else:
            chosen.asked_at = self._probes
        return chosen

    def _asked_at(self, one: OneList | None) -> int:
        return self._usual_at if one is None else one.asked_at

    async def step(self, one: OneList, ask: Ask, budget: Budget) -> bool:
        """Ask for the next page of ``one``; whether it is another list than before."""
        cursor = one.walked[-1].next_cursor if one.walked else None
        readings = one.readings
        page = read_page(await ask(one.listing.method, cursor), one.listing)
        if readings != one.readings:
            return False  # it was read whole meanwhile
        place = len(one.walked)
        known = one.pages[place] if place < len(one.pages) else None
        if page == known:
            page = known
        elif (known is None or not page.same_items(known)) and (one.walked or page.next_cursor):
            one.walked.clear()  # pages of before and after the change would not fit together
            one.wanted = True
            return True
        one.walked.append(page)
        if page.next_cursor is not None:
            budget.check_pages(len(one.walked) + 1, one.listing.method)
            return False
        before, one.pages = one.pages, tuple(one.walked)
        one.walked.clear()
        return len(before) != len(one.pages) or not all(
            page.same_items(other) for page, other in zip(before, one.pages, strict=True)
        )

    async def read(self, ask: Ask, budget: Budget, timeout: float, quick: float) -> bool:
        """Read whole what is wanted; whether anything is another than before.

        One that cannot be read keeps its pages, and is in ``troubles``; each is given half of the
        time that is left, the last one all. Lists whose answers take no longer than ``quick``
        seconds can be read along from then on. Raises UnreachableError without a connection.
        """
        changed = False
        end = time.monotonic() + timeout
        wanted = [one for one in self._lists.values() if one.wanted]
        for one in wanted:
            if budget.bytes_left <= 0:
                break  # its turn comes with the next reading
            left = max(0.0, end - time.monotonic())
            limit = left if one is wanted[-1] else left / 2
            changed |= await self._read_whole(one, ask, budget, limit, quick)
        return changed

    async def _read_whole(
        self, one: OneList, ask: Ask, budget: Budget, timeout: float, quick: float
    ) -> bool:
        method = one.listing.method
        slowest = 0.0
        pages: list[ListPage] = []
        cursors: set[str | None] = set()
        cursor: str | None = None
        trouble: Trouble | None = None
        there, items_left = True, budget.items_left
        try:
            async with asyncio.timeout(timeout) as deadline:
                while cursor not in cursors:
                    budget.check_pages(len(pages) + 1, method)
                    cursors.add(cursor)
                    began = time.monotonic()
                    page = read_page(await ask(method, cursor), one.listing)
                    slowest = max(slowest, time.monotonic() - began)
                    budget.take_items(len(page.items), method)
                    pages.append(page)
                    if (cursor := page.next_cursor) is None:
                        break
                    if len(pages) == 1 and page == one.begun and self._probes < one.thorough_at:
                        trouble = one.trouble
                        break
                else:
                    raise BadAnswerError(
                        f"{method} gives the cursor {quoted(cursor)!r} twice, so it never ends",
                        over_limit=True,
                    )
        except TimeoutError:
            if not deadline.expired():
                raise
            trouble = NoAnswerError(round(timeout, 1), method)
        except BadAnswerError as error:
            there = bool(pages) or error.code is None
            if there or (error.code != METHOD_NOT_FOUND and one.declared):
                trouble, there = error, True
        except UnreachableError as error:
            if not error.was_connected:
                raise
            trouble = error
        one.wanted = False
        one.requests, one.asked_at = max(1, len(pages)), self._probes
        one.readings += 1
        one.walked.clear()
        if trouble is not None:
            one.along = False
            budget.items_left = items_left
            if trouble is not one.trouble or len(pages) != 1:
                one.begun = pages[0] if pages else None
                one.thorough_at = self._probes + _SELDOM * len(pages)
            one.trouble = trouble
            return False
        one.begun = one.trouble = None
        # One that is declared and not there, or neither, is not asked for again.
        one.along = there and slowest <= quick and not (one.fleeting and len(pages) > 1)
        before, one.pages = one.pages, _shared(pages, one.pages)
        return [page.items for page in before] != [page.items for page in one.pages]


def _unread(listing: McpListing, trouble: Trouble) -> UnreadList:
    reason = str(trouble)
    if isinstance(trouble, NoAnswerError):  # after how long depends on the other lists
        reason = f"{listing.method} is not read to its end in time"
    refused = isinstance(trouble, BadAnswerError) and trouble.wants_credentials
    return UnreadList(listing.noun, reason, refused)


def _shared(pages: Sequence[ListPage], known: Sequence[ListPage]) -> tuple[ListPage, ...]:
    """``pages``, with those of ``known`` in the place of equal ones."""
    both = zip_longest(pages, known[: len(pages)])
    return tuple(other if page == other else page for page, other in both)

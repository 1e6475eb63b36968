"""What a server offers: its lists read page by page, and remembered so that the same need no
reading."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from mcp_discovery.probe.errors import BadAnswerError
from mcp_discovery.probe.messages import METHOD_NOT_FOUND, quoted, result_of
from mcp_discovery.probe.wire import Budget


@dataclass(frozen=True, slots=True)
class Introspection:
    """All that one server offers.

    Attributes:
        era: ``modern`` or ``legacy``.
        versions: protocol versions that the server supports, as far as known; a legacy server
            tells only the negotiated one.
        server_info, instructions, capabilities: as in its ``server/discover`` or ``initialize``.
        tools, resources, resource_templates, prompts: all pages, each item as MCP spells it, in
            the server's order.
        findings: what is wrong with the server's answers and was read all the same.
    """

    era: str
    versions: tuple[str, ...]
    server_info: dict[str, Any]
    instructions: str | None
    capabilities: dict[str, Any]
    tools: tuple[dict[str, Any], ...]
    resources: tuple[dict[str, Any], ...]
    resource_templates: tuple[dict[str, Any], ...]
    prompts: tuple[dict[str, Any], ...]
    findings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class McpListing:
    """One of MCP's lists: how it is asked for and what names its items."""

    capability: str
    method: str
    items_key: str
    name_key: str


TOOLS = McpListing("tools", "tools/list", "tools", "name")
RESOURCES = McpListing("resources", "resources/list", "resources", "uri")
RESOURCE_TEMPLATES = McpListing(
    "resources", "resources/templates/list", "resourceTemplates", "uriTemplate"
)
PROMPTS = McpListing("prompts", "prompts/list", "prompts", "name")
LISTINGS = (TOOLS, RESOURCES, RESOURCE_TEMPLATES, PROMPTS)
LISTING_OF = {listing.method: listing for listing in LISTINGS}


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page as it was read."""

    items: tuple[dict[str, Any], ...]
    next_cursor: str | None
    findings: tuple[str, ...]


def read_page(message: dict[str, Any], listing: McpListing) -> ListPage:
    """Read one page without what no reader could use; raises BadAnswerError when it is none."""
    result = result_of(message, listing.method)
    listed = result.get(listing.items_key)
    findings: Counter[str] = Counter()
    if listed is None:
        findings[f"{listing.method} answered without {listing.items_key!r}"] += 1
        listed = []
    if not isinstance(listed, list):
        raise BadAnswerError(
            f"answered, but not MCP: {listing.items_key!r} in the result of {listing.method} "
            "is not a list"
        )
    items: list[dict[str, Any]] = []
    for item in listed:
        if not isinstance(item, dict):
            findings[f"{listing.method}: dropped an item that is not an object"] += 1
        elif not isinstance(name := item.get(listing.name_key), str) or not name:
            findings[f"{listing.method}: dropped an item without {listing.name_key!r}"] += 1
        elif not encodable(item):
            findings[f"{listing.method}: dropped an item nested too deeply"] += 1
        else:
            items.append(item)
            if listing is TOOLS and not isinstance(item.get("inputSchema"), dict):
                findings["tools/list: kept a tool without an 'inputSchema' object"] += 1
    cursor = result.get("nextCursor")
    if cursor is not None and not isinstance(cursor, str):
        findings[f"{listing.method}: ignored a 'nextCursor' that is not a string"] += 1
        cursor = None
    return ListPage(tuple(items), cursor or None, counted(findings))


def joined(
    listing: McpListing, pages: list[ListPage]
) -> tuple[tuple[dict[str, Any], ...], list[str]]:
    """Put the pages of one list together; of items with one name, the first counts."""
    seen: set[str] = set()
    items: list[dict[str, Any]] = []
    findings: list[str] = []
    repeated = 0
    for page in pages:
        findings.extend(page.findings)
        for item in page.items:
            name = item[listing.name_key]
            if name in seen:
                repeated += 1
            else:
                seen.add(name)
                items.append(item)
    if repeated:
        findings.append(
            f"{listing.method}: dropped {repeated} with the {listing.name_key!r} of an earlier item"
        )
    return tuple(items), findings


def counted(findings: Counter[str]) -> tuple[str, ...]:
    """Spell each finding once, with how often it was made."""
    return tuple(
        text if times == 1 else f"{text} ({times} times)" for text, times in findings.items()
    )


def encodable(value: Any) -> bool:
    """Whether ``value`` can be written as JSON again: orjson reads deeper than it writes."""
    try:
        orjson.dumps(value)
    except orjson.JSONEncodeError:
        return False
    return True


Ask = Callable[[str, str | None], Awaitable[dict[str, Any]]]
"""Asks for a page: method, cursor (None for the first page)."""

# A server that takes longer than this for an answer is asked for its lists at the same time.
# A quicker one is asked for one after the other, over one connection: some serve only one.
QUICK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Walk:
    """All pages of all lists, and whether they are the pages of the previous walk."""

    pages: dict[McpListing, list[ListPage]]
    unchanged: bool


class Lister:
    """Reads the lists of one server, again and again."""

    def __init__(self) -> None:
        self._remembered: dict[tuple[str, str | None], ListPage] = {}
        self._slowest = 0.0
        self._trusted = False

    def short(self) -> dict[str, ListPage]:
        """For each list that the last walk found its method and its only page; nothing where a
        list has more pages, or one took its time: only a walk tells of those."""
        pages = self._remembered.values()
        if not self._trusted or any(page.next_cursor for page in pages):
            return {}
        return {method: page for (method, _), page in self._remembered.items()}

    def doubt(self) -> None:
        """A list is not what the last walk found it to be."""
        self._trusted = False

    async def walk(self, ask: Ask, capabilities: dict[str, Any], budget: Budget) -> Walk:
        """Read every page of what ``capabilities`` name (of all lists when they name none).

        Raises BadAnswerError for a list that does not end or exceeds ``budget``, and what ``ask``
        raises; a list is complete or the walk fails.
        """
        wanted = [listing for listing in LISTINGS if listing.capability in capabilities]
        declared = bool(wanted) or any(key in capabilities for key in ("logging", "completions"))
        if not declared:
            wanted = list(LISTINGS)
        pages: dict[McpListing, list[ListPage]] = {listing: [] for listing in LISTINGS}
        quick, self._slowest = self._slowest < QUICK_SECONDS, 0.0
        if quick:
            for listing in wanted:
                pages[listing] = await self._pages(ask, listing, declared, budget)
        else:
            walks = [self._pages(ask, listing, declared, budget) for listing in wanted]
            for listing, found in zip(wanted, await _all_or_none(walks), strict=True):
                pages[listing] = found
        self._trusted = self._slowest < QUICK_SECONDS
        return Walk(pages, self._remember(pages))

    def _remember(self, pages: dict[McpListing, list[ListPage]]) -> bool:
        found: dict[tuple[str, str | None], ListPage] = {}
        for listing, of_list in pages.items():
            cursor = None
            for page in of_list:
                found[listing.method, cursor] = page
                cursor = page.next_cursor
        before, self._remembered = self._remembered, found
        return before.keys() == found.keys() and all(before[key] is found[key] for key in found)

    async def _pages(
        self, ask: Ask, listing: McpListing, declared: bool, budget: Budget
    ) -> list[ListPage]:
        pages: list[ListPage] = []
        cursor: str | None = None
        cursors: set[str] = set()
        while True:
            budget.check_pages(len(pages) + 1, listing.method)
            known = self._remembered.get((listing.method, cursor))
            started = time.monotonic()
            try:
                page = read_page(await ask(listing.method, cursor), listing)
                if page == known:
                    page = known
            except BadAnswerError as error:
                if pages or error.code is None:
                    raise
                if error.code != METHOD_NOT_FOUND and declared:
                    raise
                return []  # declared but not there, or neither declared nor there
            self._slowest = max(self._slowest, time.monotonic() - started)
            budget.take_items(len(page.items), listing.method)
            pages.append(page)
            cursor = page.next_cursor
            if cursor is None:
                return pages
            if cursor in cursors:
                raise BadAnswerError(
                    f"{listing.method} gives the cursor {quoted(cursor)!r} twice, so it never ends",
                    over_limit=True,
                )
            cursors.add(cursor)


class RequestRotation:
    """Requests that are made in rotation, so that each is made in time and few at once."""

    def __init__(self) -> None:
        self._made: dict[str, float] = {}  # request → monotonic seconds, the oldest first
        self._last = math.inf

    def due(self, requests: Sequence[str], within: float) -> list[str]:
        """Which of ``requests`` to make now: the one that was made longest ago, and those that
        would not be made again ``within`` seconds, if the next time were as far as the last.

        One that is new counts as made just now.
        """
        now = time.monotonic()
        next_time = now + max(0.0, now - self._last)
        self._last = now
        made = {each: at for each, at in self._made.items() if each in requests}
        made |= {each: now for each in requests if each not in made}
        first, *rest = made
        found = [first, *(each for each in rest if next_time - made[each] > within)]
        for each in found:
            del made[each]
        self._made = made | dict.fromkeys(found, now)
        return found


async def _all_or_none(
    walks: Iterable[Coroutine[Any, Any, list[ListPage]]],
) -> list[list[ListPage]]:
    """Run ``walks`` at the same time; the first failure ends the others before it is raised."""
    tasks = [asyncio.create_task(walk) for walk in walks]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

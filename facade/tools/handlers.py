"""Tools and skills across servers: ``/tools``, ``/skills``, and each by its name."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import orjson
from aiohttp import web
from cachetools import LRUCache

from mcp_discovery.adapters.view import View
from mcp_discovery.document import KINDS, Kind
from mcp_discovery.facade.access.parts import Part, parts_of
from mcp_discovery.facade.http.etag import IF_NONE_MATCH, tag_of, tagged
from mcp_discovery.facade.http.operation import Operation, Parameter
from mcp_discovery.facade.http.parameters import flag, whole
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.facade.servers import list_json
from mcp_discovery.facade.servers.current_list import view_of
from mcp_discovery.facade.servers.filters import list_filters, parse
from mcp_discovery.facade.servers.query import WORDS, read_question
from mcp_discovery.facade.servers.search_index import SEARCH
from mcp_discovery.facade.tools.index import (
    DOCUMENTS_TIMEOUT,
    ToolDefinitions,
    ToolOffer,
    Tools,
    detail,
    digests_of,
    instance_groups,
    listed,
    tool_offers,
)
from mcp_discovery.facade.tools.models import SkillDetail, SkillList, ToolDetail, ToolListModel
from mcp_discovery.nearest import nearest
from mcp_discovery.query.query import Query

_LIMIT, _MOST = 1000, 10_000

#: For how many queries the listing is cached.
_CACHED_LISTINGS = 16


@dataclass(frozen=True)
class ToolListing:
    """The tools, or skills, of the servers that match a query in one view, and all of the
    ``documents`` that could be read; ``unread`` counts the others."""

    view: View
    offers: Mapping[str, ToolOffer]
    documents: Mapping[str, Tools]
    unread: int


class ToolListings:
    """The tools, or skills, that are offered, listed once for each view and query.

    A query by uptime is not cached: its result changes with the clock alone.
    """

    def __init__(self, definitions: ToolDefinitions) -> None:
        self._definitions = definitions
        self._cache: LRUCache[tuple[Kind, Query], ToolListing] = LRUCache(_CACHED_LISTINGS)

    async def of(self, view: View, query: Query, kind: Kind) -> ToolListing:
        """What is of ``kind`` at the servers that match ``query`` in ``view``."""
        cached = self._cache.get((kind, query))
        if cached is not None and cached.view is view and not cached.unread:
            return cached
        groups = await asyncio.to_thread(lambda: instance_groups(view.select(query), kind))
        digests = digests_of(groups)
        tools = await self._definitions.of(digests, timeout=DOCUMENTS_TIMEOUT)
        offers = await asyncio.to_thread(tool_offers, groups, tools, query[kind], kind)
        listing = ToolListing(view, offers, tools, len(digests - tools.keys()))
        if not query.min_uptime:
            self._cache[kind, query] = listing
        return listing


TOOL_DEFINITIONS: Part[ToolDefinitions] = Part("tool definitions")
TOOL_LISTINGS: Part[ToolListings] = Part("tool listings")


async def tools(request: web.Request) -> web.Response:
    """Every tool that the matching servers offer, each once, by name.

    With ``q`` only those that it finds, the best first. Where spellings differ, that of most
    instances stands for all.
    """
    return await _list(request, "tool")


async def skills(request: web.Request) -> web.Response:
    """Every skill that the matching servers have, each once, by name.

    With ``q`` only those that it finds, the best first. Names are labels: skills of one name at
    different servers may have nothing to do with each other.
    """
    return await _list(request, "skill")


async def _list(request: web.Request, kind: Kind) -> web.Response:
    query = parse(request)
    question = read_question(request, query)
    with_schema = kind == "tool" and flag(request, "schema")
    limit = whole(request, "limit", least=1, most=_MOST) or _LIMIT
    listing = await parts_of(request)[TOOL_LISTINGS].of(view_of(request), query, kind)
    view, offers = listing.view, listing.offers
    ranks = None
    if question is not None:
        ranks = await parts_of(request)[SEARCH].tools(question, listing.documents, kind)

    def serialize() -> bytes:
        if ranks is None:
            found = [listed(offers[name], with_schema) for name in heapq.nsmallest(limit, offers)]
            total = len(offers)
        else:
            best = ranks.names(offers)
            found = [
                listed(offers[name], with_schema)
                | {"server": key[1], "why": ranks.ranking.why(key)}
                for name, key in islice(best.items(), limit)
            ]
            total = len(best)
        member = KINDS[kind]
        body: dict[str, Any] = {
            member: found,
            f"total{member.title()}": total,
            "unread": listing.unread,
        }
        return orjson.dumps(body | list_json.caveats(view), default=dict)

    data = await asyncio.to_thread(serialize)
    return tagged(request, tag_of(data), data, {list_json.REVISION: list_json.position(view)})


async def tool(request: web.Request) -> web.Response:
    """Who offers one tool, its schema, and whether the replicas' schemas differ.

    Spellings are grouped by digest, that of most instances first. The filters say which servers
    are looked at: the healthy ones unless ``status`` says more.
    """
    return await _show(request, "tool")


async def skill(request: web.Request) -> web.Response:
    """Who has one skill, its files with their digests, and whether these differ.

    Entries are grouped by digest, that of most instances first. The filters say which servers are
    looked at: the healthy ones unless ``status`` says more.
    """
    return await _show(request, "skill")


async def _show(request: web.Request, kind: Kind) -> web.Response:
    name = request.match_info["name"]
    view = view_of(request)
    query = parse(request)
    having = view.select(_with(query, kind, name))
    if not having:
        raise _unknown(name, view, query, kind)
    offer, unread = await parts_of(request)[TOOL_DEFINITIONS].offer(name, having, kind)
    body = detail(offer, kind) | {"unread": unread}
    data = orjson.dumps(body | list_json.caveats(view), default=dict)
    return tagged(request, tag_of(data), data, {list_json.REVISION: list_json.position(view)})


def _with(query: Query, kind: Kind, name: str) -> Query:
    return query.but(**{kind: query[kind] | {name}})


def _unknown(name: str, view: View, query: Query, kind: Kind) -> ProblemError:
    listed = KINDS[kind]
    known = chain.from_iterable(
        getattr(entry.record.capabilities, listed) for entry in view.select(query)
    )
    near = nearest(name, set(known))
    hint = f"did you mean {near!r}? " if near else ""
    why = f"no server that matches offers a {kind} {name[:100]!r}; {hint}GET /{listed} lists them"
    for entry in view.select(_with(query, kind, name).but(status=())):
        state = f"{entry.health.status.value}: {entry.health.reason}"
        why = (
            f"no server of such a status offers a {kind} {name[:100]!r}; {entry.id} does, and is "
            f"{state}; status=all shows it"
        )
        break
    return ProblemError(
        404, f"unknown-{kind}", why, name=name[:100], **({"nearest": near} if near else {})
    )


_NAME = Parameter("name", "Its name, percent-encoded.", where="path")
_AT_MOST = Parameter(
    "limit",
    f"How many at most; {_LIMIT:,} unless it says otherwise.",
    {"type": "integer", "minimum": 1, "maximum": _MOST},
)
OPERATIONS = (
    Operation(
        "GET",
        "/tools",
        tools,
        "tools",
        answers={200: ToolListModel, 304: None},
        parameters=(
            WORDS,
            list_filters,
            Parameter(
                "schema",
                "Whether schemas stand in the list.",
                {"type": "string", "enum": ["true", "false"]},
            ),
            _AT_MOST,
            IF_NONE_MATCH,
        ),
        needs="read",
    ),
    Operation(
        "GET",
        "/tools/{name}",
        tool,
        "tools",
        answers={200: ToolDetail, 304: None},
        parameters=(_NAME, list_filters, IF_NONE_MATCH),
        errors=(404,),
        needs="read",
    ),
    Operation(
        "GET",
        "/skills",
        skills,
        "tools",
        answers={200: SkillList, 304: None},
        parameters=(WORDS, list_filters, _AT_MOST, IF_NONE_MATCH),
        needs="read",
    ),
    Operation(
        "GET",
        "/skills/{name}",
        skill,
        "tools",
        answers={200: SkillDetail, 304: None},
        parameters=(_NAME, list_filters, IF_NONE_MATCH),
        errors=(404,),
        needs="read",
    ),
)

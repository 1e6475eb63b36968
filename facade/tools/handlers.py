"""Tools across servers: ``/tools`` and ``/tools/{name}``."""

from __future__ import annotations

import asyncio
import heapq
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any

import orjson
from aiohttp import web

from mcp_discovery.adapters.view import Entry, Query, View
from mcp_discovery.facade.http.etag import IF_NONE_MATCH, tag_of, tagged
from mcp_discovery.facade.http.operation import Operation, Parameter
from mcp_discovery.facade.http.parameters import flag, nearest, once, whole
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.facade.servers import list_json
from mcp_discovery.facade.servers.filters import FILTERS, MIN_UPTIME, parse
from mcp_discovery.facade.state import facade_of
from mcp_discovery.facade.tools.definitions import Spellings
from mcp_discovery.facade.tools.index import (
    Offer,
    ToolIndex,
    alike_in,
    detail,
    digests_of,
    listed,
    offers_of,
)
from mcp_discovery.facade.tools.models import ToolDetail, ToolList
from mcp_discovery.query.search import words

#: For how many seconds one request waits for documents that were not read before.
_PATIENCE = 2.0
_LIMIT, _MOST = 1000, 10_000

#: Of so many queries it is remembered what is offered.
_QUERIES = 16
#: So many tools at most are told without leaving the event loop.
_FEW = 50


@dataclass(frozen=True)
class Offered:
    """The tools of the servers that match a query in one view; of ``unread`` documents it is not
    known how they spell them."""

    view: View
    offers: Mapping[str, Offer]
    unread: int

    @cached_property
    def index(self) -> ToolIndex:
        """Their words; made when it is first asked for."""
        return ToolIndex(self.offers)


class Offerings:
    """What is offered, worked out once for each view and query, unless the clock decides, too."""

    def __init__(self, spellings: Spellings) -> None:
        self._spellings = spellings
        self._known: OrderedDict[Query, Offered] = OrderedDict()

    async def of(self, view: View, query: Query) -> Offered:
        """What is offered in ``view`` by what matches ``query``."""
        known = self._known.get(query)
        if known is not None and known.view is view and not known.unread:
            self._known.move_to_end(query)
            return known
        alike = await asyncio.to_thread(lambda: alike_in(view.select(query)))
        digests = digests_of(alike)
        spelled = await self._spellings.of(digests, timeout=_PATIENCE)
        unread = len(digests - spelled.keys())

        def worked_out() -> Offered:
            found = Offered(view, offers_of(alike, spelled, query.tools), unread)
            _ = found.index  # here, where it holds nobody up
            return found

        made = await asyncio.to_thread(worked_out)
        if not query.min_uptime:
            self._known[query] = made
        if len(self._known) > _QUERIES:
            self._known.popitem(last=False)
        return made


SPELLINGS = web.AppKey("spellings", Spellings)
OFFERED = web.AppKey("offered", Offerings)


async def tools(request: web.Request) -> web.Response:
    """Every tool that the matching servers offer, each once, by name.

    With ``q`` only those that have all of its words in name, title or description, the best first.
    Where spellings differ, that of most instances stands for all.
    """
    facade = facade_of(request)
    query = parse(request)
    text = once(request, "q")
    with_schema = flag(request, "schema")
    limit = whole(request, "limit", least=1, most=_MOST) or _LIMIT
    offered = await request.app[OFFERED].of(facade.view(), query)
    view = offered.view

    def told() -> bytes:
        if text is None:
            found, total = heapq.nsmallest(limit, offered.offers), len(offered.offers)
        else:
            found, total = offered.index.find(words(text), limit)
        body: dict[str, Any] = {
            "tools": [listed(offered.offers[name], with_schema) for name in found],
            "totalTools": total,
            "unread": offered.unread,
        }
        return orjson.dumps(body | list_json.staleness(view), default=dict)

    # Beside the event loop where there may be many: nothing of it changes any more.
    data = told() if limit <= _FEW and text else await asyncio.to_thread(told)
    return tagged(request, tag_of(data), data, {list_json.REVISION: list_json.position(view)})


async def tool(request: web.Request) -> web.Response:
    """Who offers one tool, its schema, and whether the replicas' schemas differ.

    Spellings are grouped by digest, that of most instances first. The filters say which servers
    are looked at: the healthy ones unless ``status`` says more.
    """
    facade = facade_of(request)
    name = request.match_info["name"]
    view = facade.view()
    query = parse(request)
    having = view.select(replace(query, tools=query.tools | {name}))
    if not having:
        raise _unknown(name, view.select(query))
    alike = alike_in(having)
    known = await request.app[SPELLINGS].of(digests_of(alike), timeout=_PATIENCE)
    offer = offers_of(alike, known, frozenset({name}))[name]
    body = detail(offer) | {"unread": len(digests_of(alike) - known.keys())}
    data = orjson.dumps(body | list_json.staleness(view), default=dict)
    return tagged(request, tag_of(data), data, {list_json.REVISION: list_json.position(view)})


def _unknown(name: str, entries: Iterable[Entry]) -> ProblemError:
    known = set(chain.from_iterable(entry.record.capabilities.tools for entry in entries))
    near = nearest(name, sorted(known)[:10_000])
    hint = f"did you mean {near!r}? " if near else ""
    why = f"no server that matches offers a tool {name[:100]!r}; {hint}GET /tools lists them"
    return ProblemError(
        404, "unknown-tool", why, name=name[:100], **({"nearest": near} if near else {})
    )


_NAME = Parameter("name", "The tool's name, percent-encoded.", where="path")
_SCOPE = (*FILTERS, MIN_UPTIME)
OPERATIONS = (
    Operation(
        "GET",
        "/tools",
        tools,
        "tools",
        answers={200: ToolList, 304: None},
        parameters=(
            Parameter("q", "Words that name, title or description have, all of them."),
            *_SCOPE,
            Parameter(
                "schema",
                "Whether schemas stand in the list.",
                {"type": "string", "enum": ["true", "false"]},
            ),
            Parameter(
                "limit",
                f"How many at most; {_LIMIT:,} unless it says otherwise.",
                {"type": "integer", "minimum": 1, "maximum": _MOST},
            ),
            IF_NONE_MATCH,
        ),
    ),
    Operation(
        "GET",
        "/tools/{name}",
        tool,
        "tools",
        answers={200: ToolDetail, 304: None},
        parameters=(_NAME, *_SCOPE, IF_NONE_MATCH),
        errors=(404,),
    ),
)

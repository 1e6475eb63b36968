"""Reading connections: the list, one of them, and those to use now."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from itertools import chain
from typing import Any

import orjson
from aiohttp import web

from mcp_discovery.adapters.view import Entry, View
from mcp_discovery.balancing import USUAL, RoundRobin
from mcp_discovery.facade.access.parts import Part, PartSet, parts_of
from mcp_discovery.facade.connections import representation
from mcp_discovery.facade.connections.requests import (
    DiscoverFilters,
    LoadBalancing,
    discover_body,
    parsed,
    strings,
)
from mcp_discovery.facade.connections.responses import ConnectionDetails, ConnectionList, Discovered
from mcp_discovery.facade.connections.statuses import (
    PROTOCOLS,
    STATUSES,
    healths_of,
    status_of,
    transports_of,
)
from mcp_discovery.facade.documents.documents import DOCUMENTS
from mcp_discovery.facade.http.body import beside_loop, read_object
from mcp_discovery.facade.http.etag import tag_of, tagged
from mcp_discovery.facade.http.operation import Operation, Parameter
from mcp_discovery.facade.http.parameters import every, listed, once, one_of, whole
from mcp_discovery.facade.http.pauses import made_of_each
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.facade.registration.traits import traits_of
from mcp_discovery.facade.servers import list_json
from mcp_discovery.facade.servers.current_list import entry_in, view_of
from mcp_discovery.facade.servers.list_json import json_response
from mcp_discovery.facade.servers.paging import Cursor, Sort
from mcp_discovery.facade.usage.usage import USAGE
from mcp_discovery.probe.verdict import is_usable
from mcp_discovery.query.answer import Arrangement
from mcp_discovery.query.filters import FILTERS, InvalidFilterValueError
from mcp_discovery.query.query import Query
from mcp_discovery.record import A2A

_TYPES = ("server", "client")


async def connections(request: web.Request) -> web.Response:
    """The connections that match the filters, whatever their status unless `status` says one.

    `limit` gives pages: `nextCursor`, where there is more, is the `cursor` of the next.
    """
    view, usage = view_of(request), parts_of(request)[USAGE]
    found = _matching(request, view)
    limit, cursor_text = whole(request, "limit", least=1, most=1000), once(request, "cursor")
    filters = tag_of(
        sorted((key, value) for key, value in request.query.items() if key not in _PAGING)
    )
    page, servers = found, len(view) - view.number("transport", A2A)
    beside: dict[str, object] = {"total": servers, "filtered": len(found)}
    if limit is not None or cursor_text is not None:
        start, length = 0, limit or 100
        if cursor_text is not None:
            cursor = Cursor.decode(cursor_text, _SORT, filters)
            start, length = _SORT.after(found, cursor, None), limit or cursor.limit
        page = found[start : start + length]
        if start + length < len(found):
            last = page[-1]
            key = _SORT.key(last, None, view.as_of)
            beside["nextCursor"] = Cursor(filters, view.as_of, key, last.id, length).encode()
    beside |= list_json.caveats(view)
    shown = await made_of_each(page, lambda each: representation.listed(each, usage, view.as_of))
    # What changes with the clock alone does not change the entity tag.
    tag = tag_of(beside, [(e.digest.hex(), s["metrics"]) for e, s in zip(page, shown, strict=True)])
    return tagged(
        request,
        tag,
        lambda: orjson.dumps({"connections": shown} | beside),
        {list_json.REVISION: list_json.position(view)},
    )


async def connection(request: web.Request) -> web.Response:
    """One connection, with the descriptions and schemas of what it offers."""
    view, parts = view_of(request), parts_of(request)
    entry = entry_in(view, request.match_info["id"])
    document = await parts[DOCUMENTS].of_record(entry.record)
    body = representation.detailed(entry, document, parts[USAGE], view.as_of)
    return json_response(body | list_json.caveats(view), view)


def _matching(request: web.Request, view: View) -> list[Entry]:
    statuses = {one_of("status", each, STATUSES) for each in listed(request, "status")}
    protocols = {one_of("protocol", each, PROTOCOLS) for each in listed(request, "protocol")}
    types = {one_of("type", each, _TYPES) for each in listed(request, "type")}
    match = one_of("match", once(request, "match") or "any", ("any", "all"))
    query = Query(
        tags=map(str.lower, listed(request, "tags")),
        match=match,
        status=healths_of(statuses),
        name=listed(request, "name"),
        transport=transports_of(protocols),
    )
    wanted = set(every(request, "capability"))
    found = view.select(query, among=_able(view, wanted) if wanted else None)
    if statuses:
        found = [entry for entry in found if status_of(entry.health) in statuses]
    if types:
        found = [entry for entry in found if traits_of(entry.record).type in types]
    return found


def _able(view: View, capabilities: Iterable[str]) -> set[str]:
    """The ids of those with every one of ``capabilities``: one that they offer, a tag, or a word of
    their name, such as ``filesystem`` of ``filesystem-mcp``."""
    by_words: defaultdict[str, list[str]] = defaultdict(list)
    for name in view.keys("name"):
        for word in name.split("-"):
            by_words[word].append(name)
    able: set[str] | None = None
    for wanted in capabilities:
        by_word = (view.having("name", name) for name in by_words.get(wanted, ()))
        indexed = (view.having(index, wanted) for index in ("capability", "tags"))
        found = set(chain(*by_word, *indexed))
        able = found if able is None else able & found
    return able or set()


_SORT = Sort()
_PAGING = frozenset({"limit", "cursor"})
_STRINGS = {"type": "array", "items": {"type": "string"}}


def _words(*allowed: str) -> dict[str, object]:
    return {"type": "array", "items": {"type": "string", "enum": list(allowed)}}


ID = Parameter("id", "The connection's id.", where="path")


#: Whose turn is next, for ``round-robin``.
ROTATION: Part[RoundRobin] = Part("rotation")


async def discover(request: web.Request) -> web.Response:
    """Connections that offer all of the capabilities, in the order in which to use them.

    Unless `filters.status` is given, only those that are fit: healthy, or of stdio. With `active`
    the degraded ones stand behind all others. `loadBalancing` orders them by its strategy
    (`least-loaded` unless it names one) and gives `maxConnections` at most.
    """
    body = await read_object(request, empty=True)
    wish = await beside_loop(request, lambda: parsed(discover_body(), body))
    filters = wish.filters or DiscoverFilters()
    view, parts = view_of(request), parts_of(request)
    now = view.as_of
    found = select(view, frozenset(wish.capabilities or ()), filters, now)
    members: dict[str, object] = {"totalMatching": len(found), "loadBalanced": False}
    if (balancing := wish.load_balancing) is not None:
        strategy = balancing.strategy or USUAL
        members |= {"loadBalanced": True, "strategy": strategy}
        query = orjson.dumps([wish.capabilities, filters.model_dump()], option=orjson.OPT_SORT_KEYS)
        found = await balanced(found, balancing, parts, query.decode())
        found = found[: balancing.max_connections]
    shown = [representation.offered(entry, parts[USAGE], now) for entry in found]
    return json_response({"connections": shown} | members | list_json.caveats(view), view)


def select(
    view: View, capabilities: frozenset[str], filters: DiscoverFilters, now: datetime
) -> list[Entry]:
    """The connections that match, those that are fit first, else by name and id.

    Raises :class:`ProblemError` (422) for a range of versions that is none.
    """
    statuses = strings(filters.status) or {"active"}
    query = Query(
        tags=FILTERS["tags"].values(strings(filters.tags)),
        match=filters.match,
        capability=capabilities,
        status=healths_of(statuses),
        transport=transports_of(strings(filters.protocol)),
        min_uptime=filters.min_uptime or (),
        **{name: _values(name, texts) for name, texts in filters.others.items()},
    )
    found = [
        entry
        for entry in view.select(query, now=now)
        if status_of(entry.health) in statuses and traits_of(entry.record).type == filters.type
    ]
    if filters.status is None:
        return [entry for entry in found if is_usable(entry.health)]
    return sorted(found, key=lambda entry: not is_usable(entry.health))


async def balanced(
    entries: Iterable[Entry], balancing: LoadBalancing, parts: PartSet, query: str
) -> list[Entry]:
    """``entries`` in the strategy's order: all that are fit, then the others; of both first those
    that somebody vouches for.

    Raises :class:`ProblemError` (422) for a ``key`` that is missing or means nothing.
    """
    strategy, key = balancing.strategy or USUAL, balancing.key
    if (strategy == "consistent-hash") != (key is not None):
        problem = "is missing; consistent-hash needs one"
        if key is not None:
            problem = f"means nothing to {strategy}; it is for consistent-hash"
        field = "loadBalancing.key"
        raise ProblemError(422, "invalid-field", f"{field}: {problem}", field=field)
    return await arrangement(parts).ordered(entries, strategy, query, key)


def arrangement(parts: PartSet) -> Arrangement[Entry]:
    """How entries are put into the order of a strategy, by what ``parts`` know of their use."""
    return Arrangement(
        lambda instance: is_usable(instance.health),
        lambda entry: representation.figures_of(entry, parts[USAGE]).ratio,
        parts[ROTATION],
    )


def _values(name: str, texts: frozenset[str]) -> frozenset[Any]:
    try:
        return FILTERS[name].values(texts)
    except InvalidFilterValueError as error:
        field, syntax = f"filters.{name}", error.syntax
        detail = (
            f"{field}: is no {syntax.noun} such as {' or '.join(syntax.examples[:2])} "
            f"({error.problem})"
        )
        raise ProblemError(422, "invalid-field", detail, field=field) from error


OPERATIONS = (
    Operation(
        "GET",
        "/connections",
        connections,
        "connections",
        parameters=(
            Parameter("status", "One of these statuses.", _words(*STATUSES)),
            Parameter("type", "One of these types.", _words(*_TYPES)),
            Parameter("protocol", "One of these protocols.", _words(*PROTOCOLS)),
            Parameter(
                "capability",
                "That offer this tool, resource, prompt or skill, or have it for a tag or a word "
                "of their name; all of them where it is repeated.",
                _STRINGS,
            ),
            Parameter("name", "One of these names.", _STRINGS),
            Parameter("tags", "Connections with these tags.", _STRINGS),
            Parameter(
                "match",
                "One of the tags, or all of them.",
                {"type": "string", "enum": ["any", "all"]},
            ),
            Parameter(
                "limit", "How many a page has.", {"type": "integer", "minimum": 1, "maximum": 1000}
            ),
            Parameter("cursor", "Where the page begins: `nextCursor` of the one before."),
        ),
        answers={200: ConnectionList, 304: None},
        needs="read",
    ),
    Operation(
        "GET",
        "/connections/{id}",
        connection,
        "connections",
        parameters=(ID,),
        answers={200: ConnectionDetails},
        errors=(404,),
        needs="read",
    ),
    Operation(
        "POST",
        "/connections/discover",
        discover,
        "connections",
        body=discover_body,
        answers={200: Discovered},
        errors=(400, 408, 413, 422),
        body_optional=True,
        needs="read",
    ),
)

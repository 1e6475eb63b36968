"""Finding connections to use: ``POST /connections/discover``."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import orjson
from aiohttp import web

from mcp_discovery.adapters.view import Entry, View
from mcp_discovery.balancing import CHANCE, USUAL, Candidate, consistent_hash
from mcp_discovery.facade.connections import representation
from mcp_discovery.facade.connections.requests import (
    DiscoverFilters,
    LoadBalancing,
    discover_body,
    parsed,
    strings,
)
from mcp_discovery.facade.connections.responses import Discovered
from mcp_discovery.facade.connections.statuses import healths_of, status_of, transports_of
from mcp_discovery.facade.http.body import read_object
from mcp_discovery.facade.http.operation import Operation
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.facade.registration.traits import traits_of
from mcp_discovery.facade.servers import list_json
from mcp_discovery.facade.servers.list_json import json_response
from mcp_discovery.facade.state import Facade, facade_of
from mcp_discovery.probe.verdict import is_usable
from mcp_discovery.query.filters import FILTERS, InvalidFilterValueError
from mcp_discovery.query.query import Query

_CHANCE = random.Random()


async def discover(request: web.Request) -> web.Response:
    """Connections that offer all of the capabilities, in the order in which to use them.

    Unless `filters.status` is given, only those that are fit: healthy, or of stdio. With `active`
    the degraded ones stand behind all others. `loadBalancing` orders them by its strategy
    (`least-loaded` unless it names one) and gives `maxConnections` at most.
    """
    facade = facade_of(request)
    wish = parsed(discover_body(), await read_object(request, empty=True))
    filters = wish.filters or DiscoverFilters()
    view = facade.view()
    now = view.as_of
    found = select(view, frozenset(wish.capabilities or ()), filters, now)
    members: dict[str, object] = {"totalMatching": len(found), "loadBalanced": False}
    if (balancing := wish.load_balancing) is not None:
        strategy = balancing.strategy or USUAL
        members |= {"loadBalanced": True, "strategy": strategy}
        query = orjson.dumps([wish.capabilities, filters.model_dump()], option=orjson.OPT_SORT_KEYS)
        found = balanced(found, balancing, facade, query.decode())[: balancing.max_connections]
    shown = [representation.offered(entry, facade.usage, now) for entry in found]
    return json_response({"connections": shown} | members | list_json.staleness(view), view)


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


def balanced(
    entries: Iterable[Entry], balancing: LoadBalancing, facade: Facade, query: str
) -> list[Entry]:
    """``entries`` in the strategy's order: all that are fit, then the others.

    Raises :class:`ProblemError` (422) for a ``key`` that is missing or means nothing.
    """
    strategy, key = balancing.strategy or USUAL, balancing.key
    if (strategy == "consistent-hash") != (key is not None):
        problem = "is missing; consistent-hash needs one"
        if key is not None:
            problem = f"means nothing to {strategy}; it is for consistent-hash"
        field = "loadBalancing.key"
        raise ProblemError(422, "invalid-field", f"{field}: {problem}", field=field)
    by_id = {entry.id: entry for entry in entries}
    order: list[Candidate] = []
    for fit in (True, False):
        candidates = [
            Candidate(
                entry.id, entry.record.weight, representation.figures_of(entry, facade.usage).load
            )
            for entry in by_id.values()
            if is_usable(entry.health) is fit
        ]
        if strategy == "round-robin":
            order += facade.rotation.next(f"{fit} {query}", candidates)
        elif key is not None:
            order += consistent_hash(candidates, key)
        else:
            order += CHANCE[strategy](candidates, _CHANCE)
    return [by_id[each.id] for each in order]


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
        "POST",
        "/connections/discover",
        discover,
        "connections",
        body=discover_body,
        answers={200: Discovered},
        errors=(400, 408, 413, 422),
        body_optional=True,
    ),
)

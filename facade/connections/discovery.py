"""Finding connections to use: ``POST /connections/discover``."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import datetime

import orjson
from aiohttp import web

from mcp_discovery.adapters.view import Entry, View
from mcp_discovery.balancing import CHANCE, USUAL, Candidate, consistent_hash
from mcp_discovery.facade.connections import representation
from mcp_discovery.facade.connections.requests import Discover, DiscoverFilters, LoadBalancing
from mcp_discovery.facade.connections.responses import Discovered
from mcp_discovery.facade.connections.statuses import healths_of, is_fit, status_of, transports_of
from mcp_discovery.facade.connections.traits import traits_of
from mcp_discovery.facade.connections.validation import parsed
from mcp_discovery.facade.http.body import read_object
from mcp_discovery.facade.http.operation import Operation
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.facade.servers import list_json
from mcp_discovery.facade.state import Facade, facade_of
from mcp_discovery.facade.status.handlers import answer
from mcp_discovery.query.query import Query
from mcp_discovery.query.versions import VersionRange

_CHANCE = random.Random()


async def discover(request: web.Request) -> web.Response:
    """Connections that offer all of the capabilities, in the order in which to use them.

    Unless `filters.status` is given, only those that are fit: healthy, or of stdio. With `active`
    the degraded ones stand behind all others. `loadBalancing` orders them by its strategy
    (`least-loaded` unless it names one) and gives `maxConnections` at most.
    """
    facade = facade_of(request)
    body = await read_object(request, timeout=facade.options.body_timeout, empty=True)
    wish = parsed(Discover, body)
    filters = wish.filters or DiscoverFilters()
    view = facade.view()
    now = view.as_of
    found = select(view, frozenset(wish.capabilities or ()), filters, now)
    told: dict[str, object] = {"totalMatching": len(found), "loadBalanced": False}
    if (balancing := wish.load_balancing) is not None:
        strategy = balancing.strategy or USUAL
        told |= {"loadBalanced": True, "strategy": strategy}
        query = orjson.dumps([wish.capabilities, filters.model_dump()], option=orjson.OPT_SORT_KEYS)
        found = balanced(found, balancing, facade, query.decode())[: balancing.max_connections]
    shown = [representation.offered(entry, facade.usage, now) for entry in found]
    return answer({"connections": shown} | told | list_json.staleness(view), view)


def select(
    view: View, capabilities: frozenset[str], filters: DiscoverFilters, now: datetime
) -> list[Entry]:
    """The connections that match, those that are fit first, else by name and id.

    Raises :class:`ProblemError` (422) for a range of versions that is none.
    """
    statuses = _several(filters.status) or {"active"}
    query = Query(
        tags=frozenset(tag.lower() for tag in _several(filters.tags)),
        any_tag=filters.match == "any",
        capabilities=capabilities,
        statuses=healths_of(statuses),
        names=_several(filters.name),
        transports=transports_of(_several(filters.protocol)),
        owners=_several(filters.owner),
        zones=_several(filters.zone),
        versions=_versions(filters.version),
        min_uptime=filters.min_uptime or 0.0,
    )
    found = [
        entry
        for entry in view.select(query, now=now)
        if status_of(entry.health) in statuses and traits_of(entry.record).type == filters.type
    ]
    if filters.status is None:
        return [entry for entry in found if is_fit(entry)]
    return sorted(found, key=lambda entry: not is_fit(entry))


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
            if is_fit(entry) is fit
        ]
        if strategy == "round-robin":
            order += facade.rotation.next(f"{fit} {query}", candidates)
        elif key is not None:
            order += consistent_hash(candidates, key)
        else:
            order += CHANCE[strategy](candidates, _CHANCE)
    return [by_id[each.id] for each in order]


def _several(given: str | Iterable[str] | None) -> frozenset[str]:
    if given is None:
        return frozenset()
    return frozenset({given} if isinstance(given, str) else given)


def _versions(text: str | None) -> frozenset[VersionRange]:
    if text is None:
        return frozenset()
    try:
        return frozenset({VersionRange.parse(text)})
    except ValueError as error:
        field = "filters.version"
        detail = f"{field}: is no range of versions such as >=1.2,<2 or ^1.2 ({error})"
        raise ProblemError(422, "invalid-field", detail, field=field) from error


OPERATIONS = (
    Operation(
        "POST",
        "/connections/discover",
        discover,
        "connections",
        body=Discover,
        answers={200: Discovered},
        errors=(400, 408, 413, 422),
        body_optional=True,
    ),
)

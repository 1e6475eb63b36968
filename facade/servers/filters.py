"""The filters of a list in a query string: their parameters, and the query that they make."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aiohttp import web

from mcp_discovery.facade.http.operation import Parameter
from mcp_discovery.facade.http.parameters import every, listed, once, one_of, seconds
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.health import Status
from mcp_discovery.query.filters import FILTERS, Filter, InvalidFilterValueError
from mcp_discovery.query.query import Query


def stream_filters() -> Iterable[Parameter]:
    """The parameters of all filters that an instance passes or fails without regard to the time."""
    for each in FILTERS.values():
        if each.measure is None:
            yield Parameter(each.name, each.help, each.schema)
        if (mode := each.mode) is not None:
            yield Parameter(mode.name, mode.help, {"type": "string", "enum": list(mode.choices)})


def list_filters() -> Iterable[Parameter]:
    """The parameters of all filters."""
    yield from stream_filters()
    measuring = (each for each in FILTERS.values() if each.measure is not None)
    yield from (Parameter(each.name, each.help, each.schema) for each in measuring)


def parse(request: web.Request, **defaults: Iterable[str]) -> Query:
    """The query that the query string makes; ``defaults`` are other ones than the table's.

    Raises :class:`ProblemError` (400) for an unknown value, naming those that are known, and for
    filters that contradict each other.
    """
    wanted: dict[str, Any] = {}
    for each in FILTERS.values():
        if each.measure is not None:
            duration = seconds(request, each.name, most=each.most)
            wanted[each.name] = {duration} if duration else ()
            continue
        texts = _texts(request, each)
        wanted[each.name] = _values(each, texts) if texts else defaults.get(each.name, each.default)
        if (mode := each.mode) is not None:
            chosen = once(request, mode.name)
            if chosen is not None:
                wanted[mode.name] = one_of(mode.name, chosen, mode.choices)
    query = Query(**wanted)
    if query.min_uptime and query["status"] == {Status.DOWN}:
        raise contradiction("what is down has no uptime; leave out min_uptime or status=down")
    return query


def contradiction(detail: str) -> ProblemError:
    """The error for two parameters that exclude each other."""
    return ProblemError(400, "contradictory-parameters", detail)


def _texts(request: web.Request, filter: Filter) -> list[str]:
    match filter.split:
        case "commas":
            return listed(request, filter.name)
        case "repeats":
            return every(request, filter.name)
    # The whole text too: the name of an owner may have a comma.
    return [*every(request, filter.name), *listed(request, filter.name)]


def _values(filter: Filter, texts: Iterable[str]) -> frozenset[Any]:
    if filter.allowed:
        for text in texts:
            one_of(filter.name, text, filter.allowed)
    try:
        return filter.values(texts)
    except InvalidFilterValueError as error:
        detail = (
            f"{filter.name}={error.text[:100]!r} is no {error.syntax.noun_in_full}; write for "
            f"example {' or '.join(error.syntax.examples)} (percent-encoded in a URL)"
        )
        raise ProblemError(400, "bad-range", detail, parameter=filter.name) from error

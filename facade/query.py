"""Reads the query string of a list into a :class:`~adapters.view.Query`."""

from __future__ import annotations

from collections.abc import Collection

from aiohttp import web

from adapters.view import Query
from facade.operation import Parameter
from facade.problems import Refused
from mcp_discovery.health import Status

TRANSPORTS = ("streamable-http", "sse", "websocket", "stdio")

#: The filters of every list of servers.
FILTERS = (
    Parameter("tags", "Servers with these tags.", {"type": "array", "items": {"type": "string"}}),
    Parameter(
        "match", "One of the tags, or all of them.", {"type": "string", "enum": ["any", "all"]}
    ),
    Parameter(
        "capability",
        "That offer this tool, resource or prompt; all of them where it is repeated.",
        {"type": "array", "items": {"type": "string"}},
    ),
    Parameter("status", "healthy, degraded, draining, down or all; default healthy."),
    Parameter("name", "One of these names."),
    Parameter("transport", "One of these transports."),
)


def parse(
    request: web.Request,
    *,
    statuses: frozenset[Status] = frozenset({Status.HEALTHY}),
) -> Query:
    """The filters of ``GET /servers``; ``statuses`` where none is named.

    Raises :class:`Refused` for an unknown parameter or value, naming those that are known.
    """
    wanted = _listed(request, "status")
    for status in wanted:
        _one_of("status", status, (*(each.value for each in Status), "all"))
    if wanted:
        # No status at all leaves the field open.
        statuses = frozenset() if "all" in wanted else frozenset(map(Status, wanted))
    match = request.query.get("match") or "any"
    _one_of("match", match, ("any", "all"))
    transports = _listed(request, "transport")
    for transport in transports:
        _one_of("transport", transport, TRANSPORTS)
    return Query(
        tags=frozenset(tag.lower() for tag in _listed(request, "tags")),
        any_tag=match == "any",
        capabilities=frozenset(filter(None, request.query.getall("capability", []))),
        statuses=statuses,
        names=frozenset(_listed(request, "name")),
        transports=frozenset(transports),
    )


def _listed(request: web.Request, name: str) -> list[str]:
    """The values of a parameter, separated by commas or repeated."""
    parts = (part for value in request.query.getall(name, []) for part in value.split(","))
    return [part.strip() for part in parts if part.strip()]


def _one_of(name: str, value: str, allowed: Collection[str]) -> None:
    if value not in allowed:
        detail = f"{name}={value[:100]!r} is not known; use one of {', '.join(allowed)}"
        raise Refused(400, "unknown-value", detail, parameter=name)

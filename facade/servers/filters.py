"""Reads the filters of a list, in a query string, into a
:class:`~mcp_discovery.query.query.Query`."""

from __future__ import annotations

from aiohttp import web

from mcp_discovery.facade.http.operation import Parameter
from mcp_discovery.facade.http.parameters import every, listed, once, one_of, seconds
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.health import Status
from mcp_discovery.query.query import Query
from mcp_discovery.query.versions import VersionRange

TRANSPORTS = ("streamable-http", "sse", "websocket", "stdio")
#: The longest time, in seconds, that an instance may be asked to have been up: ten years.
MAX_UPTIME = 3650 * 86400.0

_STRINGS = {"type": "array", "items": {"type": "string"}}

#: The filters of every list of servers, and of streams.
FILTERS = (
    Parameter("tags", "Servers with these tags.", _STRINGS),
    Parameter(
        "match", "One of the tags, or all of them.", {"type": "string", "enum": ["any", "all"]}
    ),
    Parameter(
        "capability",
        "That offer this tool, resource or prompt; all of them where it is repeated.",
        _STRINGS,
    ),
    Parameter("tool", "That offer this tool; all of them where it is repeated.", _STRINGS),
    Parameter(
        "status",
        "One of these: healthy, degraded, draining, down; or all.",
        {
            "type": "array",
            "items": {"type": "string", "enum": [*(each.value for each in Status), "all"]},
        },
    ),
    Parameter("name", "One of these names.", _STRINGS),
    Parameter(
        "version",
        "In this range of semantic versions, such as `>=1.2,<2`, `^1.2` or `1.x || >=2.5`; in one "
        "of them where it is repeated.",
        _STRINGS,
    ),
    Parameter(
        "transport",
        "One of these transports.",
        {"type": "array", "items": {"type": "string", "enum": list(TRANSPORTS)}},
    ),
    Parameter("zone", "In one of these zones.", _STRINGS),
    Parameter("owner", "Of one of these owners.", _STRINGS),
)
#: The filter that an answer passes or fails by the clock alone; not for streams.
MIN_UPTIME = Parameter(
    "min_uptime",
    "Steadily in its status, and not down, for this long: `90`, `10m`, `2h`.",
    {"type": "string", "pattern": r"^\d{1,9}(\.\d{1,6})?(ms|s|m|h|d)?$"},
)


def parse(
    request: web.Request,
    *,
    statuses: frozenset[Status] = frozenset({Status.HEALTHY}),
) -> Query:
    """The filters in the query string; ``statuses`` where none is named.

    Raises :class:`ProblemError` for an unknown value, naming those that are known, and for filters
    that contradict each other.
    """
    wanted = listed(request, "status")
    for status in wanted:
        one_of("status", status, (*(each.value for each in Status), "all"))
    if wanted:
        # No status at all leaves the field open.
        statuses = frozenset() if "all" in wanted else frozenset(map(Status, wanted))
    tags = listed(request, "tags")
    match = once(request, "match")
    if match is not None:
        one_of("match", match, ("any", "all"))
    min_uptime = seconds(request, "min_uptime", most=MAX_UPTIME)
    if min_uptime and statuses == {Status.DOWN}:
        raise contradiction("what is down has no uptime; leave out min_uptime or status=down")
    return Query(
        tags=frozenset(tag.lower() for tag in tags),
        any_tag=match != "all",
        capabilities=frozenset(every(request, "capability")),
        statuses=statuses,
        names=frozenset(listed(request, "name")),
        transports=frozenset(
            one_of("transport", each, TRANSPORTS) for each in listed(request, "transport")
        ),
        tools=frozenset(every(request, "tool")),
        versions=frozenset(map(_range, every(request, "version"))),
        # The whole value too: the name of an owner may have a comma.
        zones=frozenset((*every(request, "zone"), *listed(request, "zone"))),
        owners=frozenset((*every(request, "owner"), *listed(request, "owner"))),
        min_uptime=min_uptime,
    )


def contradiction(detail: str) -> ProblemError:
    """Two parameters that cannot both be meant."""
    return ProblemError(400, "contradictory-parameters", detail)


def _range(text: str) -> VersionRange:
    try:
        return VersionRange.parse(text)
    except ValueError as error:
        detail = (
            f"version={text[:100]!r} is no range of semantic versions; write for example "
            ">=1.2,<2 or ^1.2 or 1.x || >=2.5 (percent-encoded in a URL)"
        )
        raise ProblemError(400, "bad-range", detail, parameter="version") from error

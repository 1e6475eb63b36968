"""The registry in figures: ``GET /registry/stats`` and ``GET /load-balancing/distribution``."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from mcp_discovery.adapters.view import View
from mcp_discovery.balancing import BUSY, USUAL
from mcp_discovery.document import KINDS
from mcp_discovery.facade.access.parts import parts_of
from mcp_discovery.facade.connections import representation
from mcp_discovery.facade.connections.responses import Distribution, Stats
from mcp_discovery.facade.connections.statuses import PROTOCOLS, STATUSES, protocol_of, status_of
from mcp_discovery.facade.http.operation import Operation
from mcp_discovery.facade.http.pauses import Pauses
from mcp_discovery.facade.servers import list_json
from mcp_discovery.facade.servers.current_list import view_of
from mcp_discovery.facade.servers.list_json import json_response
from mcp_discovery.facade.status.handlers import offers, performance_of
from mcp_discovery.facade.usage.usage import USAGE, Usage
from mcp_discovery.health import Status, rfc3339, utcnow
from mcp_discovery.record import A2A, SERVER

#: How many of the most used capabilities are listed.
_MOST_USED = 10
#: The load for which the recommended number of connections is computed.
_AIM = 0.6
#: The load below which all connections of a server must be to recommend fewer of them.
_QUIET = 0.2


async def stats(request: web.Request) -> web.Response:
    """Connections to servers by status and protocol, what these offer and, as far as known, how
    they do."""
    view, usage = view_of(request), parts_of(request)[USAGE]
    by_status, by_protocol = _by_status(view), _by_protocol(view)
    await usage.count()
    figures = usage.whole()
    performance: dict[str, float] = dict(performance_of(figures))
    if figures.error_rate is not None:
        performance["errorRate"] = representation.rounded(figures.error_rate)
    body = {
        "timestamp": rfc3339(utcnow()),
        "connections": {"total": sum(by_status.values())} | by_status,
        "protocols": by_protocol,
        "capabilities": {"total": _offered(view), "mostUsed": _most_used(usage)},
        "performance": performance,
    }
    return json_response(body | list_json.caveats(view), view)


async def distribution(request: web.Request) -> web.Response:
    """How the load is spread over active connections, and what to do about it.

    `strategy` is the one that discovery uses unless it is asked for another. Recommendations are
    made from loads that are known, and from nothing else.
    """
    view, usage = view_of(request), parts_of(request)[USAGE]
    shares: list[dict[str, Any]] = []
    known: defaultdict[str, list[float]] = defaultdict(list)
    pauses = Pauses()
    for entry in view:
        await pauses.pause()
        if status_of(entry.health) != "active" or entry.record.kind != SERVER:
            continue
        figures = representation.figures_of(entry, usage)
        share: dict[str, Any] = {"id": entry.id, "name": entry.record.name}
        if (load := figures.ratio) is not None:
            share["load"] = representation.rounded(load)
            known[entry.record.name].append(load)
        if figures.active is not None:
            share["activeRequests"] = figures.active
        if figures.capacity is not None:
            share["capacity"] = figures.capacity
        shares.append(share)
    shares.sort(key=lambda each: (-each.get("load", -1.0), each["name"], each["id"]))
    body: dict[str, Any] = {"strategy": USUAL, "connections": shares}
    body["recommendations"] = recommendations(known)
    return json_response(body | list_json.caveats(view), view)


def recommendations(known: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """The recommendations for the known loads, 0 to 1, by server; ordered by the servers' names."""
    found = (_recommended(name, known[name]) for name in sorted(known))
    return [each for each in found if each is not None]


def _recommended(name: str, loads: Sequence[float]) -> dict[str, Any] | None:
    """``scale-up`` where all connections together are too busy, ``rebalance`` where only some are,
    ``scale-down`` where none has much load; at least two connections stay."""
    busy = sum(load > BUSY for load in loads)
    wanted = max(1, math.ceil(sum(loads) / _AIM))
    if busy:
        reason = f"Load exceeding {BUSY:.0%} on {_counted(busy)} of {name}"
        more = wanted - len(loads)
        if more > 0:
            return _advice("scale-up", reason, name, more)
        mean = sum(loads) / len(loads)
        return _advice("rebalance", f"{reason}, while the mean is {mean:.0%}", name)
    fewer = len(loads) - max(2, wanted)
    if fewer > 0 and max(loads) < _QUIET:
        reason = f"Load below {_QUIET:.0%} on all {_counted(len(loads))} of {name}"
        return _advice("scale-down", reason, name, fewer)
    return None


def _advice(action: str, reason: str, name: str, suggested: int | None = None) -> dict[str, Any]:
    advice: dict[str, Any] = {"action": action, "reason": reason, "name": name}
    return advice if suggested is None else advice | {"suggestedConnections": suggested}


def _counted(number: int) -> str:
    return f"{number} connection{'' if number == 1 else 's'}"


def _by_status(view: View) -> dict[str, int]:
    """Counted from the index; only those that are down, and agents, are read one by one."""
    counted = dict.fromkeys(STATUSES, 0)
    for health in view.keys("status"):
        ids = view.having("status", health)
        if health == Status.DOWN.value:
            for id in ids:
                counted[status_of(view.entries[id].health)] += 1
        else:
            status = status_of(view.entries[next(ids)].health)
            counted[status] += view.number("status", health)
    for id in view.having("transport", A2A):
        counted[status_of(view.entries[id].health)] -= 1
    return {str(status): count for status, count in counted.items()}


def _by_protocol(view: View) -> dict[str, int]:
    counted = dict.fromkeys(PROTOCOLS, 0)
    for transport in view.keys("transport"):
        if (protocol := protocol_of(transport)) in counted:  # and so of no agent
            counted[protocol] += view.number("transport", transport)
    return {str(protocol): count for protocol, count in counted.items()}


def _offered(view: View) -> int:
    """How many capabilities healthy instances offer, as ``GET /capabilities`` counts them."""
    return len(
        {
            (kind, name)
            for _, lists in offers(view)
            for kind, names in zip(KINDS, lists, strict=True)
            for name in names
        }
    )


def _most_used(usage: Usage) -> list[dict[str, Any]]:
    counted = [(usage.capability(name).requests or 0, name) for name in usage.capabilities()]
    counted.sort(key=lambda each: (-each[0], each[1]))
    return [{"name": name, "requests": requests} for requests, name in counted[:_MOST_USED]]


OPERATIONS = (
    Operation(
        "GET",
        "/registry/stats",
        stats,
        "registry",
        answers={200: Stats},
        needs="read",
    ),
    Operation(
        "GET",
        "/load-balancing/distribution",
        distribution,
        "registry",
        answers={200: Distribution},
        needs="read",
    ),
)

"""The connections API's names for an instance's transport and health.

======================  ==========================================================================
connection              instance
======================  ==========================================================================
``active``              ``healthy`` or ``degraded``, as ``health.status`` says
``idle``                ``draining``: set idle with ``PATCH``, or about to leave
``error``               ``down``, reported by its registrant: probes fail; or ``quarantined``
``disconnected``        ``down`` without heartbeats: "no heartbeat for N s"
======================  ==========================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from mcp_discovery.health import Health, Status
from mcp_discovery.probe.verdict import NOT_PROBED

ConnectionStatus = Literal["active", "idle", "disconnected", "error"]
STATUSES: tuple[ConnectionStatus, ...] = ("active", "idle", "disconnected", "error")

Protocol = Literal["stdio", "http", "websocket", "a2a"]
PROTOCOLS: tuple[Protocol, ...] = ("stdio", "http", "websocket")

#: The health of a connection before its first probe.
INITIALIZING = "initializing"

_PROTOCOL_OF: Mapping[str, Protocol] = {
    "streamable-http": "http",
    "sse": "http",
    "websocket": "websocket",
    "stdio": "stdio",
    "a2a": "a2a",
}
_HEALTHS: Mapping[str, frozenset[Status]] = {
    "active": frozenset({Status.HEALTHY, Status.DEGRADED}),
    "idle": frozenset({Status.DRAINING}),
    "disconnected": frozenset({Status.DOWN}),
    "error": frozenset({Status.DOWN, Status.QUARANTINED}),
}


def status_of(health: Health) -> ConnectionStatus:
    """The connection's status for an instance's health."""
    if health.status is Status.DRAINING:
        return "idle"
    if health.status is Status.QUARANTINED:
        return "error"
    if health.status is not Status.DOWN:
        return "active"
    return "disconnected" if health.silent else "error"


def health_word(health: Health) -> str:
    """The health's status; ``initializing`` until it is first probed."""
    initial = health.status is Status.DEGRADED and health.reason == NOT_PROBED
    return INITIALIZING if initial else health.status.value


def protocol_of(transport: str) -> Protocol:
    """The connection's protocol for an endpoint's transport."""
    return _PROTOCOL_OF[transport]


def transports_of(protocols: Iterable[str]) -> frozenset[str]:
    """The transports that go by one of these protocols."""
    wanted = set(protocols)
    return frozenset(transport for transport, name in _PROTOCOL_OF.items() if name in wanted)


def healths_of(statuses: Iterable[str]) -> frozenset[Status]:
    """The healths that an instance with one of these connection statuses may have."""
    return frozenset().union(*(_HEALTHS[status] for status in statuses))

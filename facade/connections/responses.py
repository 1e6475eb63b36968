"""The answers of the connections API."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from mcp_discovery.balancing import Strategy
from mcp_discovery.document import Kind
from mcp_discovery.facade.connections.requests import Type
from mcp_discovery.facade.connections.statuses import ConnectionStatus, Protocol
from mcp_discovery.facade.http.body import Shaped


class EndpointShown(Shaped):
    """``command`` and ``args``, or ``url`` and ``transport``."""

    command: str | None = None
    args: list[str] | None = None
    url: str | None = None
    transport: str | None = None


class HealthShown(Shaped):
    """``status`` is healthy, degraded, draining, down, quarantined or initializing; ``uptime`` in
    seconds."""

    status: Literal["healthy", "degraded", "draining", "down", "quarantined", "initializing"]
    last_check: str | None = None
    uptime: int | None = None
    error_rate: float | None = None
    checks_performed: int | None = None
    failed_checks: int | None = None
    reason: str | None = None


class MetricsShown(Shaped):
    """Only what is known; latencies in milliseconds."""

    requests_per_minute: float | None = None
    average_latency: float | None = None
    active_connections: int | None = None
    total_requests: int | None = None
    success_rate: float | None = None
    p95_latency: float | None = Field(default=None, alias="p95Latency")
    error_rate: float | None = None


class _Connection(Shaped):
    id: str
    name: str
    type: Type
    protocol: Protocol
    status: ConnectionStatus
    endpoint: EndpointShown
    health: HealthShown
    metrics: MetricsShown


class ConnectionListed(_Connection):
    """A connection in the list; ``capabilities`` by name."""

    capabilities: list[str]


class ConnectionList(Shaped):
    """``total`` is how many there are, ``filtered`` how many matched the filters."""

    connections: list[ConnectionListed]
    total: int
    filtered: int
    next_cursor: str | None = None


class CapabilityShown(Shaped):
    """``schema`` is that of a tool's input."""

    name: str
    description: str | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    kind: Kind


class ConnectionDetails(_Connection):
    """A connection with all that is known of it."""

    capabilities: list[CapabilityShown]
    created_at: str
    last_active_at: str


class ConnectionBrief(Shaped):
    """A connection that was just registered."""

    id: str
    type: Type
    protocol: Protocol
    capabilities: list[str]
    health: HealthShown


class Registered(Shaped):
    """What a POST made."""

    id: str
    name: str
    status: ConnectionStatus
    connection: ConnectionBrief
    created_at: str
    warnings: list[str] | None = None


class Disconnected(Shaped):
    """What a DELETE ended."""

    id: str
    status: Literal["disconnected"]
    message: str
    disconnected_at: str


class Offered(Shaped):
    """A connection to use; ``load`` from 0 to 1 where it is known."""

    id: str
    name: str
    capabilities: list[str]
    health: HealthShown
    load: float | None = None
    endpoint: EndpointShown


class Discovered(Shaped):
    """The connections in the order in which to use them."""

    connections: list[Offered]
    total_matching: int
    load_balanced: bool
    strategy: Strategy | None = None


class CheckedHealth(Shaped):
    """What a probe found: ``error`` where there was no answer; ``responseTime`` in milliseconds."""

    status: Literal["healthy", "degraded", "error"]
    response_time: float | None = None
    timestamp: str
    reason: str | None = None


class Diagnostics(Shaped):
    """What is known of the process; ``cpuUsage`` in percent of one core."""

    process_running: bool | None = None
    memory_usage: str | None = Field(None, examples=["45MB"])
    cpu_usage: float | None = None
    active_requests: int | None = None


class Checked(Shaped):
    """One health check; ``diagnostics`` only where something is known."""

    connection_id: str
    health: CheckedHealth
    diagnostics: Diagnostics | None = None


class CheckResult(Shaped):
    """``error`` says why where ``status`` is not healthy; ``responseTime`` in milliseconds."""

    connection_id: str
    status: Literal["healthy", "degraded", "error"]
    response_time: float | None = None
    error: str | None = None


class CheckSummary(Shaped):
    """``unhealthy`` counts all that are not healthy."""

    total: int
    healthy: int
    unhealthy: int


class BatchChecked(Shaped):
    """One result for each connection, in the order in which they were named."""

    results: list[CheckResult]
    summary: CheckSummary


class StatusCounts(Shaped):
    """Connections by status."""

    total: int
    active: int
    idle: int
    disconnected: int
    error: int


class ProtocolCounts(Shaped):
    """Connections by protocol."""

    stdio: int
    http: int
    websocket: int


class Used(Shaped):
    """How often a capability was called, as far as was reported."""

    name: str
    requests: int


class CapabilityCounts(Shaped):
    """What healthy connections offer."""

    total: int
    most_used: list[Used]


class Performance(Shaped):
    """Only what is known; ``averageLatency`` in milliseconds."""

    average_latency: float | None = None
    requests_per_second: float | None = None
    error_rate: float | None = None


class Stats(Shaped):
    """The registry at a glance."""

    timestamp: str
    connections: StatusCounts
    protocols: ProtocolCounts
    capabilities: CapabilityCounts
    performance: Performance


class Exported(Shaped):
    """Every connection as it can be registered again; ``documents`` by digest."""

    version: str
    exported_at: str
    connections: list[dict[str, Any]]
    total_exported: int
    documents: dict[str, dict[str, Any]]


class Conflict(Shaped):
    """A connection that is refused: its place in the import, and why."""

    index: int
    id: str | None = None
    name: str | None = None
    reason: str
    field: str | None = None


class Imported(Shaped):
    """What an import did, by id; what it would do, where ``applied`` is false."""

    dry_run: bool
    applied: bool
    created: list[str]
    replaced: list[str]
    unchanged: list[str]
    refused: list[Conflict]
    failed: list[Conflict]


class Share(Shaped):
    """One connection's load, as far as it is known."""

    id: str
    name: str
    load: float | None = None
    active_requests: int | None = None
    capacity: int | None = None


class Recommendation(Shaped):
    """What the known figures suggest; ``name`` is the server's."""

    action: Literal["scale-up", "scale-down", "rebalance"]
    reason: str
    name: str
    suggested_connections: int | None = None


class Distribution(Shaped):
    """How the load is spread."""

    strategy: Strategy
    connections: list[Share]
    recommendations: list[Recommendation]

"""The responses of ``/capabilities``, ``/status``, ``/health`` and ``/ready``."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from mcp_discovery.facade.http.body import Shaped
from mcp_discovery.health import Status


class Capability(Shaped):
    """A tool, resource or prompt, whoever offers it."""

    name: str
    kind: Literal["tool", "resource", "prompt"] | None = None
    description: str | None = None
    providers: int = Field(ge=0, description="Instances that offer it: healthy, or of stdio.")
    total_requests: int = Field(ge=0, description="As far as clients reported them here.")
    average_latency: float | None = Field(None, ge=0, description="Milliseconds, where known.")


class CapabilityCount(Shaped):
    """All that healthy instances offer."""

    capabilities: list[Capability]
    total_capabilities: int = Field(ge=0)
    stale_since: datetime | None = None
    problem: str | None = None


class Summary(Shaped):
    """How many instances have which status."""

    total: int
    healthy: int
    degraded: int
    draining: int
    down: int


class ServerStatus(Shaped):
    """One instance at a glance."""

    id: str
    name: str
    status: Status
    reason: str
    last_seen: datetime


class SkippedModel(Shaped):
    """What lies in the store and is no instance."""

    total: int
    keys: dict[str, str] = Field(description="Key → why it was skipped.")


class StatusPage(Shaped):
    """The whole list at a glance."""

    status: Literal["operational", "degraded"]
    summary: Summary
    servers: list[ServerStatus]
    store: str
    epoch: str
    revision: int
    held: int = Field(description="Instances that were ever held back from a mass drop.")
    skipped: SkippedModel
    stale_since: datetime | None = None
    problem: str | None = None


class RegistryCount(Shaped):
    """How many connections there are."""

    connections: int
    healthy: int
    unhealthy: int


class RecentPerformance(Shaped):
    """As far as it is known; the latency in milliseconds."""

    requests_per_second: float | None = Field(None, ge=0)
    average_latency: float | None = Field(None, ge=0)


class HealthPage(Shaped):
    """That the process lives."""

    status: Literal["healthy"]
    version: str
    uptime: int = Field(ge=0, description="Seconds.")
    registry: RegistryCount
    performance: RecentPerformance | None = None


class Ready(Shaped):
    """That a first whole list was seen."""

    status: Literal["ready"]
    stale_since: datetime | None = None
    problem: str | None = None

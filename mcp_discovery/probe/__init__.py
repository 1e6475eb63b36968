"""Small, bounded, tolerant clients that ask servers whether they live and what they offer."""

from typing import Any

from mcp_discovery.probe.a2a import A2aProbe
from mcp_discovery.probe.client import Probe
from mcp_discovery.probe.errors import (
    AddressRefusedError,
    BadAnswerError,
    NoAnswerError,
    NotAskedError,
    NotOkError,
    ProbeError,
    UnreachableError,
)
from mcp_discovery.probe.introspection import Introspection
from mcp_discovery.probe.probe import McpProbe
from mcp_discovery.probe.tls import SYSTEM_TLS, ServerTls
from mcp_discovery.probe.wire import Limits, probe_health_url, probing_session
from mcp_discovery.record import A2A

__all__ = [
    "SYSTEM_TLS",
    "A2aProbe",
    "AddressRefusedError",
    "BadAnswerError",
    "Introspection",
    "Limits",
    "McpProbe",
    "NoAnswerError",
    "NotAskedError",
    "NotOkError",
    "Probe",
    "ProbeError",
    "ServerTls",
    "UnreachableError",
    "probe_health_url",
    "probe_of",
    "probing_session",
]


def probe_of(url: str, *, transport: str, **options: Any) -> Probe:
    """A probe of the server or agent at ``url``, as ``transport`` says which; ``options`` are those
    of :class:`McpProbe` and :class:`A2aProbe`."""
    kind: type[Probe] = A2aProbe if transport == A2A else McpProbe
    return kind(url, transport=transport, **options)

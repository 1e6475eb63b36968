"""A small, bounded, tolerant MCP client that asks servers whether they live and what they offer."""

from mcp_discovery.probe.errors import (
    AddressRefusedError,
    BadAnswerError,
    NoAnswerError,
    NotOkError,
    ProbeError,
    UnreachableError,
)
from mcp_discovery.probe.introspection import Introspection
from mcp_discovery.probe.probe import McpProbe
from mcp_discovery.probe.tls import SYSTEM_TLS, ServerTls
from mcp_discovery.probe.wire import Limits, probe_health_url, probing_session

__all__ = [
    "SYSTEM_TLS",
    "AddressRefusedError",
    "BadAnswerError",
    "Introspection",
    "Limits",
    "McpProbe",
    "NoAnswerError",
    "NotOkError",
    "ProbeError",
    "ServerTls",
    "UnreachableError",
    "probe_health_url",
    "probing_session",
]

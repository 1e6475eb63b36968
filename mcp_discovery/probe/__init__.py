"""A small, bounded, tolerant MCP client that asks servers whether they live and what they offer."""

from mcp_discovery.probe.errors import (
    AddressRefusedError,
    BadAnswerError,
    NoAnswerError,
    NotOkError,
    ProbeError,
    UnreachableError,
)
from mcp_discovery.probe.health_url import probe_health_url
from mcp_discovery.probe.introspection import Introspection
from mcp_discovery.probe.limits import Limits
from mcp_discovery.probe.probe import McpProbe

__all__ = [
    "AddressRefusedError",
    "BadAnswerError",
    "Introspection",
    "Limits",
    "McpProbe",
    "NoAnswerError",
    "NotOkError",
    "ProbeError",
    "UnreachableError",
    "probe_health_url",
]

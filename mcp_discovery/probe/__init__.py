"""A small, bounded, tolerant MCP client that asks servers whether they live and what they offer."""

from mcp_discovery.probe.errors import (
    AddressRefused,
    BadAnswer,
    NoAnswer,
    NotOk,
    ProbeFailed,
    Unreachable,
)
from mcp_discovery.probe.health_url import probe_health_url
from mcp_discovery.probe.introspection import Introspection
from mcp_discovery.probe.limits import Limits
from mcp_discovery.probe.probe import McpProbe

__all__ = [
    "AddressRefused",
    "BadAnswer",
    "Introspection",
    "Limits",
    "McpProbe",
    "NoAnswer",
    "NotOk",
    "ProbeFailed",
    "Unreachable",
    "probe_health_url",
]

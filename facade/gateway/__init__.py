"""One address for each MCP server that outlives its instances: a streaming reverse proxy."""

from mcp_discovery.facade.gateway.gateway import GATEWAY, Gateway

__all__ = ["GATEWAY", "Gateway"]

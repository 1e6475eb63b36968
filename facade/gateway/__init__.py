"""One address for each MCP server that outlives its instances: a streaming reverse proxy."""

from facade.gateway.gateway import GATEWAY, Gateway

__all__ = ["GATEWAY", "Gateway"]

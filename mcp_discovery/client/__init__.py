"""The library that agents import: find servers, hold MCP connections, route tool calls."""

from mcp_discovery.extras import require_extra

try:
    from mcp_discovery.client.credentials import Credentials
    from mcp_discovery.client.discovery import Discovery
    from mcp_discovery.client.source import ServerChange as Change
    from mcp_discovery.client.sync import SyncDiscovery
    from mcp_discovery.client.tool import Tool
except ImportError:
    require_extra("client", "the client library (mcp_discovery.Discovery)")
    raise

__all__ = ["Change", "Credentials", "Discovery", "SyncDiscovery", "Tool"]

"""The facade as an MCP server."""

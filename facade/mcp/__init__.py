"""The facade as an MCP server, at ``/mcp``, for clients of both eras of the protocol."""

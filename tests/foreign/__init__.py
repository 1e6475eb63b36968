"""MCP servers, bridges and clients that others wrote, beside ours."""

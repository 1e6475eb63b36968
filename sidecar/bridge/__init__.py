"""Serves an MCP server that speaks stdio alone as streamable HTTP, to clients of both eras."""

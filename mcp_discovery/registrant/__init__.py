"""What keeps one MCP server registered, whether a sidecar or a facade runs it."""

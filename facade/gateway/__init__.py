"""One address for each MCP server that outlives its instances: a streaming reverse proxy."""

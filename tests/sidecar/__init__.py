"""The sidecar against real MCP servers, and against stores in this process and real ones."""

"""The process next to an MCP server: probes it, registers it, keeps it there while it answers."""

"""The probe against real MCP servers, well-behaved ones and odd ones."""

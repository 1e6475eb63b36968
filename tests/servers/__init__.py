"""Real MCP servers for the tests, as modules to run and as processes to start and break."""

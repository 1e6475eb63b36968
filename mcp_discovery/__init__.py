"""mcp-discovery: agents find MCP servers that are alive, by tag and by capability."""

"""The MCP registry API over the live list, for hosts that know nothing of this facade."""

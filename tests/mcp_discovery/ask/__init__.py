"""Tests of ``mcp_discovery.ask``. No model can be reached: fakes on loopback speak their APIs."""

"""The facade as an MCP server, at ``/mcp``.

It serves both generations of the protocol. *Legacy* are the protocol versions before 2026-07-28,
with ``initialize`` and sessions; *modern* are those from 2026-07-28 on, in which every request
stands for itself.
"""

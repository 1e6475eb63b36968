"""The command ``mcp-discovery``: one module for each subcommand."""

from mcp_discovery.cli.main import main

__all__ = ["main"]

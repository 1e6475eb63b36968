"""``python -m mcp_discovery.cli``, where the console script is not on the path."""

from mcp_discovery.cli import main

main()

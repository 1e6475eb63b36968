"""An agent's view: find the servers with a tag, and call a tool of theirs.

    python examples/agent_find_and_call.py --tag products --tool search_products \\
        --args '{"query": "kettle"}'

needs a facade (``mcp-discovery facade``) and a server registered with that tag and tool.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys

from mcp_discovery import Discovery
from mcp_discovery.errors import DiscoveryError


async def main() -> int:
    """Find, call and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("MCP_DISCOVERY_FACADE", "http://127.0.0.1:4000")
    parser.add_argument("--facade", default=default, help="the facade's URL, or a store's")
    parser.add_argument("--tag", default="products")
    parser.add_argument("--tool", default="search_products")
    parser.add_argument("--args", type=json.loads, default={}, help="the tool's arguments, as JSON")
    given = parser.parse_args()
    try:
        async with Discovery(given.facade) as discovery:
            for server in await discovery.connect(given.tag):
                print(f"{server.id} at {server.record.endpoint.url}", file=sys.stderr)
            result = await discovery.call(given.tool, given.args)
    except DiscoveryError as error:
        print(error, file=sys.stderr)
        return 1
    if result.structured_content is not None:
        print(json.dumps(result.structured_content, indent=2, ensure_ascii=False))
    else:
        print("\n".join(getattr(each, "text", f"[{each.type}]") for each in result.content))
    return 1 if result.is_error else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))

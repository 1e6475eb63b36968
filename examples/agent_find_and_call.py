"""An agent's view: ask the facade who can do it, then call the tool at the server found.

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
from typing import Any

import aiohttp
from mcp import Client


async def find(facade: str, tag: str, tool: str) -> dict[str, Any]:
    """Return the facade's first healthy server with ``tag`` that offers ``tool``.

    Raises LookupError when there is none.
    """
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{facade.rstrip('/')}/servers", params={"tags": tag}) as response,
    ):
        response.raise_for_status()
        servers: list[dict[str, Any]] = (await response.json())["servers"]
    for server in servers:
        if tool in server.get("capabilities", {}).get("tools", []):
            return server
    raise LookupError(f"no healthy server with the tag {tag!r} offers {tool!r}")


async def call(url: str, tool: str, arguments: dict[str, Any]) -> tuple[bool, str]:
    """Call ``tool`` at the MCP server and return whether it worked, and what it said."""
    async with Client(url) as client:
        result = await client.call_tool(tool, arguments)
    if result.structured_content is not None:
        said = json.dumps(result.structured_content, indent=2, ensure_ascii=False)
    else:
        said = "\n".join(getattr(block, "text", f"[{block.type}]") for block in result.content)
    return not result.is_error, said


async def main() -> int:
    """Find, call and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("MCP_DISCOVERY_FACADE", "http://127.0.0.1:4000")
    parser.add_argument("--facade", default=default, help="the facade's URL")
    parser.add_argument("--tag", default="products")
    parser.add_argument("--tool", default="search_products")
    parser.add_argument("--args", type=json.loads, default={}, help="the tool's arguments, as JSON")
    given = parser.parse_args()
    try:
        server = await find(given.facade, given.tag, given.tool)
    except (aiohttp.ClientError, LookupError) as error:
        print(f"nothing found: {error}", file=sys.stderr)
        return 1
    print(f"{server['name']} ({server['id']}) at {server['url']} is {server['status']}")
    worked, said = await call(server["url"], given.tool, given.args)
    print(said)
    return 0 if worked else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))

"""An MCP server whose tools do what a caller at a shell has to cope with.

``python -m tests.mcp_discovery.cli.interactive_server --port 0``. ``GET /cancelled`` counts the
calls of ``wait`` that were cancelled, ``GET /waiting`` those that are running.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from typing import Annotated, Any, Literal

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

READ_ONLY = ToolAnnotations(read_only_hint=True)
HOSTILE = "red \x1b[31mred\x1b]0;title\x07 \x9b31m \u202egnp.exe\rforged\ttab\nnext"

counts = {"waiting": 0, "cancelled": 0}
server = MCPServer("talker", version="1.0.0", instructions="Talk \x1b[2J to it.")


class Filter(BaseModel):
    """What is looked for."""

    colour: str = "any"
    size: int = 0


@server.tool(annotations=READ_ONLY)
def echo(
    text: str,
    number: int = 0,
    ratio: float = 0.0,
    flag: bool = False,
    tags: Annotated[list[str] | None, Field(description="Any words")] = None,
    numbers: list[int] | None = None,
    filter: Filter | None = None,
    colour: Literal["red", "green"] = "red",
    anything: Any = None,
) -> dict[str, Any]:
    """Give back what it was given."""
    found = dict(locals())
    return found | {"filter": filter.model_dump() if filter else None}


@server.tool(annotations=READ_ONLY)
def shout() -> str:
    """Answer with \x1b[31mcontrol characters\x1b[0m."""
    return HOSTILE


@server.tool(annotations=READ_ONLY)
async def count(to: int, ctx: Context) -> str:
    """Count, and tell how far it is."""
    for number in range(1, to + 1):
        await ctx.report_progress(number, to, f"number {number}")
    return f"counted to {to}"


@server.tool()
def fail() -> str:
    """Always fail."""
    raise ToolError("the lamp is broken")


@server.tool(annotations=READ_ONLY)
async def wait(seconds: float) -> str:
    """Take its time."""
    counts["waiting"] += 1
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        counts["cancelled"] += 1
        raise
    finally:
        counts["waiting"] -= 1
    return "done"


async def _health(_: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _counts(_: Request) -> Response:
    return JSONResponse(counts)


server.custom_route("/health", methods=["GET"])(_health)
server.custom_route("/counts", methods=["GET"])(_counts)

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    server.run("streamable-http", host="127.0.0.1", port=parser.parse_args().port)

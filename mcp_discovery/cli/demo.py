"""``mcp-discovery demo``: shows a person, on this machine, what the project does."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer


def demo(
    once: Annotated[
        bool, typer.Option("--once", help="End after the show instead of leaving it all running.")
    ] = False,
    port: Annotated[
        int,
        typer.Option(
            envvar="MCP_DISCOVERY_PORT",
            min=1,
            max=65535,
            help="The facade's port; when it is in use, a free one is taken.",
        ),
    ] = 4000,
) -> None:
    """Start a facade, two MCP servers and their sidecars, and show what happens.

    The list by tag, a tool called through what was discovered, a server killed and seen as down,
    started again and seen as healthy. Everything runs on 127.0.0.1 and ends with the demo.
    """
    from mcp_discovery.cli.demo_scenario import play
    from mcp_discovery.extras import require_extra

    require_extra("client", "the demo")

    try:
        raise typer.Exit(asyncio.run(play(port, once=once)))
    except KeyboardInterrupt:
        typer.echo("\nEnded.")
        raise typer.Exit(0) from None

"""``mcp-discovery servers``: what is there now."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from mcp_discovery.cli import options


def servers(
    facade: options.Facade = options.FACADE,
    tag: options.Tags = None,
    match: Annotated[
        str, typer.Option(help="any: one of the tags is enough; all: it takes every one.")
    ] = "any",
    capability: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="A tool, resource or prompt by name; again for more, all of them."
        ),
    ] = None,
    status: Annotated[
        str,
        typer.Option(help="Which to show: healthy,degraded,draining,down, or all."),
    ] = "healthy",
    json: options.Json = False,
) -> None:
    """List the servers that a facade knows, by default the healthy ones.

    Try: mcp-discovery servers --tag products --status all
    """
    params = [("status", status)]
    if tag:
        params += [("match", match), *(("tags", each) for each in tag)]
    params += [("capability", each) for each in capability or []]
    listed, summary = asyncio.run(_ask(facade, params))
    if json:
        import orjson

        for server in listed["servers"]:
            typer.echo(orjson.dumps(server).decode())
        return
    _table(listed, summary)


async def _ask(facade: str, params: list[tuple[str, str]]) -> tuple[dict[str, Any], dict[str, int]]:
    from mcp_discovery.cli.asking import asking

    async with asking(facade) as api:
        listed = (await api.call("GET", "/servers", params=params)).json()
        status = (await api.call("GET", "/status")).json()
    return listed, status["summary"]


def _table(listed: dict[str, Any], summary: dict[str, int]) -> None:
    from mcp_discovery.cli.tables import print_servers, stale_note

    entries = listed["servers"]
    if entries:
        print_servers(entries)
    else:
        typer.echo("No server matches.")
    if (hidden := summary["total"] - len(entries)) > 0:
        counts = [f"{n} {name}" for name, n in summary.items() if n and name != "total"]
        typer.echo(
            f"{hidden} more not shown ({', '.join(counts)} in all); --status all shows every one.",
            err=True,
        )
    if listed.get("staleSince"):
        typer.echo(stale_note(listed), err=True)

"""``mcp-discovery tools``: what the servers offer, across all of them."""

from __future__ import annotations

from typing import Any

import typer

from mcp_discovery.cli import filters, options
from mcp_discovery.cli.exit_codes import run
from mcp_discovery.cli.terminal import say, say_json
from mcp_discovery.document import KINDS, Kind
from mcp_discovery.plural import counted


@filters.filtered(status="healthy")
def tools(
    words: list[str] | None = typer.Argument(
        None, metavar="WORDS", help="What the tools should do: a sentence or some words."
    ),
    facade: str = options.FACADE,
    *,
    selected: filters.Pairs,
    schema: bool = typer.Option(False, "--schema", help="With the arguments that each takes."),
    limit: int = typer.Option(1000, min=1, max=10_000, metavar="N", help="So many at most."),
    json: bool = options.JSON,
    facade_token: str | None = options.FACADE_TOKEN,
    facade_token_file: str | None = options.FACADE_TOKEN_FILE,
) -> None:
    """List the tools that healthy servers offer, or search them.

    Try: mcp-discovery tools product search --schema
    """
    params = [*selected, *([("q", " ".join(words))] if words else []), ("limit", str(limit))]
    params += [("schema", "true")] if schema else []
    run(list_offers(facade, facade_token, facade_token_file, params, "tool", json=json))


async def list_offers(
    facade: str,
    token: str | None,
    token_file: str | None,
    params: list[tuple[str, str]],
    kind: Kind,
    *,
    json: bool,
) -> None:
    """Prints what ``GET /tools`` answers, or the same of another ``kind``."""
    from mcp_discovery.cli.facade_connection import facade_api, get
    from mcp_discovery.cli.hints import tool_hints
    from mcp_discovery.cli.tables import print_staleness

    async with facade_api(facade, token, token_file) as api:
        listed = await get(api, f"/{KINDS[kind]}", params)
        found = listed[KINDS[kind]]
        hints = [] if found or json else await tool_hints(api, params, kind)
    if json:
        for tool in found:
            say_json(tool)
    elif found:
        _table(found, kind)
    else:
        say(f"No {kind} matches.")
        for each in hints:
            say(each, err=True)
    if (more := listed[f"total{KINDS[kind].title()}"] - len(found)) > 0:
        matches = "matches" if more == 1 else "match"
        say(f"{more} more {matches}; a higher --limit shows more.", err=True)
    if unread := listed.get("unread"):
        what = counted(unread, "document")
        say(f"Descriptions in {what} could not be read in time.", err=True)
    print_staleness(listed)


def _table(found: list[dict[str, Any]], kind: Kind) -> None:
    from mcp_discovery.cli.arguments import signature
    from mcp_discovery.cli.tables import print_table

    columns = [kind.upper(), "SERVERS", "INSTANCES", "DESCRIPTION"]
    searched = any("why" in each for each in found)
    if searched:
        columns.append("WHY")
    with_schema = any("inputSchema" in each for each in found)
    if with_schema:
        columns.insert(1, "ARGUMENTS")
    rows = []
    for each in found:
        servers = str(each["servers"])
        if each.get("variants", 0) > 1:
            servers += f" ({each['variants']} variants)"
        text = each.get("description") or each.get("title") or ""
        row = [each["name"], servers, str(each["providers"]), text.strip().partition("\n")[0]]
        if with_schema:
            row.insert(1, signature(each.get("inputSchema") or {}))
        if searched:
            row.append(each.get("why") or "")
        rows.append(row)
    print_table(columns, rows)

"""``mcp-discovery servers``: what is there now."""

from __future__ import annotations

import typer

from mcp_discovery.cli import filters, options
from mcp_discovery.cli.exit_codes import run
from mcp_discovery.cli.terminal import say, say_json


@filters.filtered(status="healthy")
def servers(
    facade: str = options.FACADE,
    *,
    selected: filters.Pairs,
    q: str | None = typer.Option(
        None,
        "-q",
        "--query",
        metavar="WORDS",
        help="What the servers should be able to do: a sentence or some words.",
        rich_help_panel="Filters",
    ),
    sort: str | None = typer.Option(
        None,
        metavar="FIELD",
        help="name (default), id, status, since, version, load and others; -FIELD for descending.",
    ),
    wide: bool = typer.Option(
        False, "--wide", "-w", help="More columns: zone, owner, load, since, …"
    ),
    json: bool = options.JSON,
    facade_token: str | None = options.FACADE_TOKEN,
    facade_token_file: str | None = options.FACADE_TOKEN_FILE,
) -> None:
    """List the servers that a facade knows, by default the healthy ones.

    Try: mcp-discovery servers --tag products --status all
    """
    params = [*selected, *([("q", q)] if q else []), *([("sort", sort)] if sort else [])]

    async def work() -> None:
        from mcp_discovery.cli.facade_connection import facade_api, get
        from mcp_discovery.cli.hints import hints

        async with facade_api(facade, facade_token, facade_token_file) as api:
            listed = await get(api, "/servers", params)
            if json:
                for server in listed["servers"]:
                    say_json(server)
                return
            found = await hints(api, params)
        from mcp_discovery.cli.tables import CELLS, FOUND, NARROW, print_entries, print_staleness

        if entries := listed["servers"]:
            columns = [each for each in CELLS if q or each != "WHY"]
            print_entries(entries, columns if wide else FOUND if q else NARROW)
        else:
            say("No server matches.")
        for each in found:
            say(each, err=True)
        print_staleness(listed)

    run(work())

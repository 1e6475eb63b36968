"""``mcp-discovery skills``: the skills that the servers have, across all of them."""

from __future__ import annotations

import typer

from mcp_discovery.cli import filters, options
from mcp_discovery.cli.exit_codes import run
from mcp_discovery.cli.tools import list_offers


@filters.filtered(status="healthy")
def skills(
    words: list[str] | None = typer.Argument(
        None, metavar="WORDS", help="Words that stand in a skill's name or description."
    ),
    facade: str = options.FACADE,
    *,
    selected: filters.Pairs,
    limit: int = typer.Option(1000, min=1, max=10_000, metavar="N", help="So many at most."),
    json: bool = options.JSON,
    facade_token: str | None = options.FACADE_TOKEN,
    facade_token_file: str | None = options.FACADE_TOKEN_FILE,
) -> None:
    """List the skills that healthy servers have, or search them.

    Try: mcp-discovery skills how do I refund a customer
    """
    params = [*selected, *([("q", " ".join(words))] if words else []), ("limit", str(limit))]
    run(list_offers(facade, facade_token, facade_token_file, params, "skill", json=json))

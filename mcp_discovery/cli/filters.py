"""The facade's filters as options, and as the query that they make."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from mcp_discovery.cli import completion as completing

_FILTERS = "Filters"
Several = list[str] | None

Tags = Annotated[
    Several,
    typer.Option(
        "--tag",
        "-t",
        envvar="MCP_DISCOVERY_TAG",
        metavar="TAG",
        help="A tag; give it again for more.",
        autocompletion=completing.tags,
        rich_help_panel=_FILTERS,
    ),
]
Match = Annotated[
    str,
    typer.Option(
        metavar="any|all",
        help="any: one of the tags is enough; all: it takes every one.",
        autocompletion=lambda: ["any", "all"],
        rich_help_panel=_FILTERS,
    ),
]
Status = Annotated[
    str,
    typer.Option(
        metavar="STATUS",
        help="healthy, degraded, draining, down, several separated by commas, or all.",
        autocompletion=lambda: ["healthy", "degraded", "draining", "down", "all"],
        rich_help_panel=_FILTERS,
    ),
]
Name = Annotated[
    Several,
    typer.Option(
        metavar="NAME",
        help="A server's name; again for more, one of them.",
        autocompletion=completing.names,
        rich_help_panel=_FILTERS,
    ),
]
Tool = Annotated[
    Several,
    typer.Option(
        metavar="NAME",
        help="A tool that it offers; again for more, all of them.",
        autocompletion=completing.tools,
        rich_help_panel=_FILTERS,
    ),
]
Capability = Annotated[
    Several,
    typer.Option(
        metavar="NAME",
        help="A tool, resource or prompt by name; again for more, all of them.",
        autocompletion=completing.tools,
        rich_help_panel=_FILTERS,
    ),
]
Version = Annotated[
    Several,
    typer.Option(
        metavar="RANGE",
        help="Semantic versions, such as '>=1.2,<2' or '^1.2'; again for more, one of them.",
        rich_help_panel=_FILTERS,
    ),
]
Zone = Annotated[
    Several,
    typer.Option(metavar="ZONE", help="Where it runs.", rich_help_panel=_FILTERS),
]
Owner = Annotated[
    Several,
    typer.Option(metavar="OWNER", help="Who is responsible.", rich_help_panel=_FILTERS),
]
Transport = Annotated[
    Several,
    typer.Option(
        metavar="TRANSPORT",
        help="streamable-http, sse, websocket or stdio.",
        autocompletion=lambda: ["streamable-http", "sse", "websocket", "stdio"],
        rich_help_panel=_FILTERS,
    ),
]
Query = Annotated[
    str | None,
    typer.Option(
        "-q",
        "--query",
        metavar="WORDS",
        help="Words that stand in name, title, tags, tools or descriptions.",
        rich_help_panel=_FILTERS,
    ),
]


def query(
    *,
    status: str | None,
    tag: Several = None,
    match: str = "any",
    name: Several = None,
    tool: Several = None,
    capability: Several = None,
    version: Several = None,
    zone: Several = None,
    owner: Several = None,
    transport: Several = None,
    q: str | None = None,
) -> list[tuple[str, str]]:
    """The query string of a facade's lists; the facade says what it does not take."""
    several: tuple[tuple[str, Sequence[str] | None], ...] = (
        ("tags", tag),
        ("name", name),
        ("tool", tool),
        ("capability", capability),
        ("version", version),
        ("zone", zone),
        ("owner", owner),
        ("transport", transport),
        ("status", (status,) if status else None),
        ("q", (q,) if q else None),
        ("match", (match,) if tag or match != "any" else None),
    )
    return [(each, value) for each, values in several for value in values or ()]

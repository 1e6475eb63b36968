"""``mcp-discovery describe``: everything about one server, or about one tool."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import typer

from mcp_discovery.cli import completion, options
from mcp_discovery.cli.exit_codes import run
from mcp_discovery.cli.terminal import say_json
from mcp_discovery.errors import InvalidInputError
from mcp_discovery.nearest import all_nearest

if TYPE_CHECKING:
    from mcp_discovery.adapters.remote.api import FacadeApi

Entry = Mapping[str, Any]


def describe(
    server: str | None = typer.Argument(
        None,
        metavar="SERVER",
        help="A server's name, for all of its instances, or one instance's id.",
        autocompletion=completion.names_and_ids,
    ),
    tool: str | None = typer.Option(
        None, metavar="NAME", help="A tool instead.", autocompletion=completion.tools
    ),
    schema: bool = typer.Option(
        False, "--schema", help="Whole JSON Schemas instead of lists of arguments."
    ),
    facade: str = options.FACADE,
    json: bool = options.JSON,
    facade_token: str | None = options.FACADE_TOKEN,
    facade_token_file: str | None = options.FACADE_TOKEN_FILE,
) -> None:
    """Tell everything about one server, whatever its status, or about one tool.

    Try: mcp-discovery describe product-catalog; mcp-discovery describe --tool search_products
    """
    if (server is None) == (tool is None):
        raise InvalidInputError("say what to describe: a server's name or id, or --tool NAME")

    async def work() -> None:
        from mcp_discovery.cli import descriptions as describing
        from mcp_discovery.cli.facade_connection import facade_api

        async with facade_api(facade, facade_token, facade_token_file) as api:
            if tool is not None:
                about = await _about_tool(api, tool)
                say_json(about) if json else describing.tool(about, schema=schema)
            elif server is not None:
                instances, documents = await _about_server(api, server)
                if json:
                    say_json({"instances": instances, "documents": documents})
                else:
                    describing.server(instances, documents, schema=schema)

    run(work())


async def _about_server(
    api: FacadeApi, server: str
) -> tuple[list[Entry], dict[str, dict[str, Any]]]:
    """The instances, and their capability documents by digest."""
    from mcp_discovery.cli.facade_connection import get_or_none, instances_of

    instances = await instances_of(api, server) if "," not in server else []
    if not instances:
        raise InvalidInputError(await _unknown(api, server))
    documents: dict[str, dict[str, Any]] = {}
    for each in instances:
        digest = (each.get("capabilities") or {}).get("digest")
        if digest and digest not in documents:
            path = f"/servers/{quote(each['id'], safe='')}/capabilities"
            found = await get_or_none(api, path)
            if found is not None:
                documents[digest] = found
    return instances, documents


async def _unknown(api: FacadeApi, server: str) -> str:
    from mcp_discovery.cli.facade_connection import get
    from mcp_discovery.cli.hints import EMPTY

    if "," in server:
        return f"describe takes one server; {server!r} is several"
    listed = (await get(api, "/servers", [("status", "all"), ("fields", "name")]))["servers"]
    if not listed:
        return f"there is no server {server!r}: {EMPTY}"
    hint = _nearest(server, (each[key] for each in listed for key in ("name", "id")))
    tools = (await get(api, "/tools", [("status", "all"), ("tool", server)]))["tools"]
    if tools:
        hint = f"; there is a tool of that name: describe --tool {server}"
    return f"there is no server and no instance {server!r}{hint}"


async def _about_tool(api: FacadeApi, name: str) -> dict[str, Any]:
    """``GET /tools/{name}``, with the servers that offer it beside it."""
    from mcp_discovery.cli.facade_connection import get
    from mcp_discovery.cli.hints import EMPTY

    params = [("status", "all"), ("tool", name)]
    offering = (await get(api, "/servers", params))["servers"]
    if not offering:
        listed = await get(api, "/tools", [("status", "all"), ("limit", "10000")])
        hint = _nearest(name, (each["name"] for each in listed["tools"]))
        if not hint and not (await get(api, "/servers", [("status", "all")]))["servers"]:
            hint = f": {EMPTY}"
        raise InvalidInputError(f"no server offers a tool {name!r}{hint}")
    path = f"/tools/{quote(name, safe='')}"
    about: dict[str, Any] = await get(api, path, [("status", "all")])
    keys = ("id", "name", "status", "version")
    return about | {"offeredBy": [{key: each.get(key) for key in keys} for each in offering]}


def _nearest(wanted: str, known: Iterable[str]) -> str:
    near = all_nearest(wanted, known, cutoff=0.5)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""

"""``mcp-discovery query``: what is asked by name, kept, asked, and removed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import typer

from mcp_discovery.cli import command, options
from mcp_discovery.cli.exit_codes import run
from mcp_discovery.cli.failures import with_debug
from mcp_discovery.cli.terminal import line, say, say_json
from mcp_discovery.errors import InvalidInputError
from mcp_discovery.plural import counted

_NAME = typer.Argument(metavar="NAME", help="The query's name.")

query = typer.Typer(
    cls=command.Group,
    help="Named queries: what is asked, and what else while that finds too few servers, kept for "
    "all facades of a store.",
)


@query.command("put", cls=command.Command)
@with_debug
def put(
    name: str = _NAME,
    file: str = typer.Argument(metavar="FILE", help="Its definition, JSON or YAML; - for stdin."),
    facade: str = options.FACADE,
    new: bool = typer.Option(False, "--new", help="Only where there is none of that name."),
    etag: str | None = typer.Option(
        None, metavar="VERSION", help="Only in the place of this version, as list --json tells it."
    ),
    json: bool = options.JSON,
    facade_token: str | None = options.FACADE_TOKEN,
    facade_token_file: str | None = options.FACADE_TOKEN_FILE,
) -> None:
    """Keep a query, in the place of the one of that name.

    Try: echo '{"filters": {"tags": "payments"}}' | mcp-discovery query put payments -
    """
    from mcp_discovery.host_files import read

    if new and etag is not None:
        raise InvalidInputError("--new is for where there is none, --etag for one; leave one out")
    definition = read(file)
    if not isinstance(definition, dict):
        raise InvalidInputError(f"{file} is no definition; write an object such as {{filters: …}}")
    condition = {"If-None-Match": "*"} if new else {"If-Match": f'"{etag}"'} if etag else {}

    async def work() -> None:
        from mcp_discovery.cli.facade_connection import facade_api

        async with facade_api(facade, facade_token, facade_token_file) as api:
            answer = await api.call("PUT", _path(name), definition, headers=condition)
        if json:
            say_json(answer.json())
        else:
            say(line(f"{'kept' if answer.status == 201 else 'replaced'} {name}"))

    run(work())


@query.command("get", cls=command.Command)
@with_debug
def get(
    name: str = _NAME,
    facade: str = options.FACADE,
    zone: str | None = typer.Option(None, metavar="ZONE", help="Servers of this zone come first."),
    key: str | None = typer.Option(None, metavar="KEY", help="For consistent-hash."),
    limit: int | None = typer.Option(None, min=1, max=1000, metavar="N", help="So many at most."),
    definition: bool = typer.Option(False, "--definition", help="What it asks, not its answer."),
    wide: bool = typer.Option(False, "--wide", "-w", help="More columns: zone, owner, load, …"),
    json: bool = options.JSON,
    facade_token: str | None = options.FACADE_TOKEN,
    facade_token_file: str | None = options.FACADE_TOKEN_FILE,
) -> None:
    """List the servers that a query finds, in its order, and say which of its questions answered.

    Try: mcp-discovery query get payments --zone eu-1
    """
    given = {"zone": zone, "key": key, "limit": limit}
    params = [(each, str(value)) for each, value in given.items() if value is not None]

    async def work() -> None:
        from mcp_discovery.cli import facade_connection

        async with facade_connection.facade_api(facade, facade_token, facade_token_file) as api:
            if definition:
                path = f"{_path(name)}/definition"
                say_json(await facade_connection.get(api, path), indent=not json)
                return
            answer = await facade_connection.get(api, _path(name), params)
        if json:
            for server in answer["servers"]:
                say_json(server)
            return
        from mcp_discovery.cli.tables import CELLS, NARROW, print_entries, print_staleness

        if answer["servers"]:
            print_entries(answer["servers"], tuple(CELLS) if wide else NARROW)
        else:
            say("No server matches, nor any of its fall-backs.")
        if by := answer["answeredBy"]:
            say(f"Answered by fall-back {by}.", err=True)
        if (more := answer["total"] - len(answer["servers"])) > 0:
            say(f"{counted(more, 'server')} more found; the query's limit is lower.", err=True)
        print_staleness(answer)
        _say_stale(answer)

    run(work())


@query.command("list", cls=command.Command)
@with_debug
def list_(
    facade: str = options.FACADE,
    json: bool = options.JSON,
    facade_token: str | None = options.FACADE_TOKEN,
    facade_token_file: str | None = options.FACADE_TOKEN_FILE,
) -> None:
    """List the queries that are kept, and what each is for."""

    async def work() -> None:
        from mcp_discovery.cli import facade_connection

        async with facade_connection.facade_api(facade, facade_token, facade_token_file) as api:
            answer = await facade_connection.get(api, "/queries")
        if json:
            for each in answer["queries"]:
                say_json(each)
            return
        from mcp_discovery.cli.tables import print_table

        if not answer["queries"]:
            say("No query is kept; keep one with mcp-discovery query put NAME FILE.", err=True)
        else:
            print_table(["NAME", "FALL-BACKS", "DESCRIPTION"], map(_row, answer["queries"]))
        _say_stale(answer)

    run(work())


@query.command("delete", cls=command.Command)
@with_debug
def delete(
    name: str = _NAME,
    facade: str = options.FACADE,
    facade_token: str | None = options.FACADE_TOKEN,
    facade_token_file: str | None = options.FACADE_TOKEN_FILE,
) -> None:
    """Remove a query."""

    async def work() -> None:
        from mcp_discovery.cli.facade_connection import facade_api

        async with facade_api(facade, facade_token, facade_token_file) as api:
            await api.call("DELETE", _path(name))
        say(line(f"removed {name}"))

    run(work())


def _path(name: str) -> str:
    return f"/queries/{quote(name, safe='')}"


def _row(kept: Mapping[str, Any]) -> list[str]:
    definition = kept.get("definition")
    number = "?" if definition is None else str(len(definition.get("fallbacks", ())))
    about = kept["description"] or (
        f"cannot be read: {why}" if (why := kept.get("problem")) else ""
    )
    return [kept["name"], number, about]


def _say_stale(answer: Mapping[str, Any]) -> None:
    if since := answer.get("definitionsStaleSince"):
        why = answer.get("definitionsProblem", "store away")
        say(f"The queries are those of {since}: {why}", err=True)

"""``mcp-discovery call``: one call of a tool, at whichever server offers it."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mcp_discovery.cli import completion, filters, options
from mcp_discovery.cli.exit_codes import DONE, TIMED_OUT, TOOL_ERROR, run
from mcp_discovery.cli.terminal import line, say, say_json
from mcp_discovery.errors import (
    AmbiguousToolError,
    DiscoveryError,
    InvalidInputError,
    NoReplicaError,
    UnknownToolError,
)

if TYPE_CHECKING:
    from mcp_types import CallToolResult

    from mcp_discovery import Credentials, Discovery, Instance, Tool
    from mcp_discovery.client.settings import OnProgress

#: Seconds at least between two lines of progress that differ in a number only.
_LINE_INTERVAL = 0.5


@filters.filtered(only=("tags",))
def call(
    tool: str = typer.Argument(
        metavar="TOOL",
        help="A tool's name; SERVER.TOOL where several servers have one of that name.",
        autocompletion=completion.tools,
        show_default=False,
    ),
    arguments: list[str] | None = typer.Argument(
        None,
        metavar="KEY=VALUE",
        help="Its arguments, read by its schema: limit=5 tags='[\"a\"]' filter.colour=red; "
        "a list's key may be given again.",
    ),
    json_args: str | None = typer.Option(
        None, metavar="JSON|@FILE|-", help="Arguments as a JSON object; KEY=VALUE goes over it."
    ),
    server: str | None = typer.Option(
        None,
        metavar="NAME",
        help="Whose tool: a server's name, or an instance's id.",
        autocompletion=completion.names_and_ids,
    ),
    facade: str = options.FACADE,
    *,
    selected: filters.Pairs,
    timeout: float = options.timeout(30.0, "For the whole call: 30, 30s, 5m.", "30s"),
    allow_stdio: list[str] | None = typer.Option(
        None,
        parser=options.single,
        metavar="NAME",
        help="A stdio server that may be started on this machine; again for more.",
        autocompletion=completion.names,
    ),
    server_token: str | None = typer.Option(
        None,
        metavar="TOKEN",
        envvar="MCP_DISCOVERY_SERVER_TOKEN",
        help="Bearer token for the server that --server names. Better given by the environment.",
    ),
    server_token_file: str | None = typer.Option(
        None,
        metavar="FILE",
        envvar="MCP_DISCOVERY_SERVER_TOKEN_FILE",
        help="A file that holds that token instead.",
    ),
    server_origin: str | None = typer.Option(
        None,
        metavar="URL",
        envvar="MCP_DISCOVERY_SERVER_ORIGIN",
        help="Where that token may be sent, such as https://payments.example.com: a server of that "
        "name that is elsewhere does not get it.",
    ),
    max_answer_bytes: int = typer.Option(
        64 * 2**20,
        min=1,
        metavar="BYTES",
        envvar="MCP_DISCOVERY_MAX_ANSWER_BYTES",
        help="The largest answer that is taken, in bytes, unpacked: 64 MiB.",
    ),
    json: bool = options.JSON,
    facade_token: str | None = options.FACADE_TOKEN,
    facade_token_file: str | None = options.FACADE_TOKEN_FILE,
) -> None:
    """Call a tool at one of the healthy servers that offer it.

    Prints the text of the result; with --json the whole result on one line, as MCP spells it.
    Progress goes to standard error. Exit code 7: the tool answered with an error; 8: no answer in
    time. Ctrl-C cancels the call at the server.

    Try: mcp-discovery call search_products query=kettle
    """
    from mcp_discovery.cli import logs
    from mcp_discovery.cli.arguments import from_json

    options.check_url(facade)
    if (server_token or server_token_file) and server is None:
        raise InvalidInputError("--server-token is for one server; say which with --server NAME")
    if (server_token or server_token_file) and server_origin is None:
        raise InvalidInputError(
            "--server-token is for one place, since anybody may register a name; say where with "
            "--server-origin https://payments.example.com"
        )
    given = from_json(json_args) if json_args is not None else {}
    logs.start("error", json=False)

    async def work() -> int:
        from mcp_discovery import Credentials, Discovery
        from mcp_discovery.cli.facade_connection import token_of

        token = Path(server_token_file) if server_token_file else server_token
        credentials = Credentials(token, server_origin) if token and server_origin else None

        def auth(instance: Instance) -> Credentials | None:
            return credentials if server in (instance.record.name, instance.id) else None

        async with Discovery(
            facade,
            token=token_of(facade, facade_token, facade_token_file),
            token_file=facade_token_file,
            allow_stdio=allow_stdio or (),
            deadline=timeout,
            max_answer_bytes=max_answer_bytes,
            auth=None if credentials is None else auth,
        ) as discovery:
            tags = [value for name, value in selected if name == "tags"]
            find = {"tags": tags, "match": dict(selected)["match"]} if tags else {}
            return await _call(
                discovery, tool, arguments or [], given, server, find, timeout, json=json
            )

    run(work())


async def _call(
    discovery: Discovery,
    name: str,
    pairs: list[str],
    given: Mapping[str, Any],
    server: str | None,
    find: Mapping[str, Any],
    timeout: float,
    *,
    json: bool,
) -> int:
    from mcp.shared.exceptions import MCPError

    from mcp_discovery.cli.arguments import read

    try:
        async with asyncio.timeout(timeout) as deadline:
            tool = await _tool(discovery, name, server, find)
    except TimeoutError:
        if not deadline.expired():
            raise
        say(f"mcp-discovery: no list of tools within {timeout:g} s", err=True)
        return TIMED_OUT
    try:
        arguments = read(pairs, given, tool.input_schema)
    except InvalidInputError as error:
        see = f"`mcp-discovery describe --tool {tool.own_name}`"
        raise InvalidInputError(f"{error}; {see} tells all of it") from error
    try:
        with _progress_display(tool.name) as on_progress:
            result = await discovery.call(
                tool.name, arguments, server=server, timeout=timeout, on_progress=on_progress
            )
    except MCPError as error:
        if json:
            say_json({"error": error.error.model_dump(exclude_none=True)})
        from mcp_discovery.client.attempt import server_error_text

        text = f"{tool.name} of {tool.server} answered with {server_error_text(error)}"
        say(f"mcp-discovery: {text}", err=True)
        return TOOL_ERROR
    _print(result, json=json)
    if result.is_error:
        say(f"mcp-discovery: {tool.name} of {tool.server} answered with an error", err=True)
        return TOOL_ERROR
    return DONE


async def _tool(
    discovery: Discovery, name: str, server: str | None, find: Mapping[str, Any]
) -> Tool:
    """The tool with that name; raises :class:`UnknownToolError` with the nearest names."""
    # First only those that name it, so that others need not be read; a server's list may be longer
    # than what its record names, and a name may be SERVER.TOOL.
    narrow: Mapping[str, Any] = {"tool": name}
    for more in (narrow, {}):
        found = await discovery.connect(**find, **more)
        if not found and more:
            continue
        tools = await discovery.tools()
        if server is not None:
            ids = {each.id: each.record.name for each in found}
            tools = [each for each in tools if each.server == ids.get(server, server)]
        matches = [each for each in tools if name in _names_of(each)]
        if len(matches) > 1:
            exact = [each for each in matches if each.name == name]
            if len(exact) != 1:
                raise AmbiguousToolError(name, tuple(each.name for each in matches))
            matches = exact
        if matches:
            return matches[0]
    await _require_allowed(discovery, name, server, find)
    raise await _unknown(discovery, name, server, find)


def _names_of(tool: Tool) -> tuple[str, ...]:
    """The names by which a tool may be called."""
    return tool.name, tool.own_name, f"{tool.server}.{tool.own_name}"


async def _unknown(
    discovery: Discovery, name: str, server: str | None, find: Mapping[str, Any]
) -> DiscoveryError:
    """Why the tool cannot be had where it is offered, or else the names most like it."""
    from mcp_discovery.cli.hints import EMPTY
    from mcp_discovery.nearest import all_nearest, nearest

    everyone = await discovery.servers(status="all")
    if not everyone:
        return UnknownToolError(name, EMPTY)
    fitting = {each.id for each in await discovery.servers(**find, status="all")}
    wanted = [(server, name)]
    if server is None and "." in name:
        owner, _, own = name.partition(".")
        wanted.append((owner, own))
    for at, own in wanted:
        offering = [each for each in everyone if own in each.record.capabilities.tools]
        meant = [each for each in offering if at in (None, each.record.name, each.id)]
        for each in meant:
            if each.id in fitting:
                state = f"{each.id} offers it and is {each.health.status}: {each.health.reason}"
                return NoReplicaError(own, each.record.name, state)
        if meant:
            record = meant[0].record
            tags = ", ".join(record.tags) or "none"
            why = f"no server with these tags offers it; {record.name} does, whose tags are {tags}"
            return UnknownToolError(name, why)
    of_server = [each for each in everyone if server in (each.record.name, each.id)]
    why = "no server offers it"
    if server is not None and of_server:
        why = f"server {server!r} does not offer it"
    elif server is not None:
        near = nearest(server, {each.record.name for each in everyone})
        why = f"there is no server {server!r}" + (f" (did you mean {near!r}?)" if near else "")
    offering = [each for each in everyone if name in each.record.capabilities.tools]
    if others := sorted({each.record.name for each in offering}):
        return UnknownToolError(name, f"{why}; it is offered by {', '.join(others)}")
    names = {tool for each in of_server or everyone for tool in each.record.capabilities.tools}
    return UnknownToolError(name, why, all_nearest(name, names, cutoff=0.5))


async def _require_allowed(
    discovery: Discovery, tool: str, server: str | None, find: Mapping[str, Any]
) -> None:
    """Raises :class:`InvalidInputError` where a command would have to be allowed first."""
    for each in await discovery.servers(**find, status="all", transport="stdio"):
        record = each.record
        if server in (record.name, each.id) if server else tool in record.capabilities.tools:
            if discovery.allows(each):
                continue
            raise InvalidInputError(
                f"{record.name} is a command that would be started on this machine; if you trust "
                f"it, allow it with --allow-stdio {record.name}"
            )


def _print(result: CallToolResult, *, json: bool) -> None:
    whole = result.model_dump(mode="json", by_alias=True, exclude_none=True)
    if json:
        say_json(whole)
        return
    for block in whole["content"]:
        say(_text_of(block))
    if not whole["content"] and "structuredContent" in whole:
        say_json(whole["structuredContent"], indent=True)


def _text_of(block: Mapping[str, Any]) -> str:
    resource = block.get("resource") or {}
    if "text" in block:
        return str(block["text"])
    if "text" in resource:
        return str(resource["text"])
    if block.get("type") == "resource_link":
        return f"{block.get('name')}: {block.get('uri')}"
    data = str(block.get("data") or resource.get("blob") or "")
    kind = block.get("mimeType") or resource.get("mimeType") or "of no type"
    return f"[{block.get('type')} {kind}, {len(data) * 3 // 4:,} bytes; --json has it]"


@contextmanager
def _progress_display(tool: str) -> Iterator[OnProgress]:
    """A callback for progress: on standard error, a bar on a terminal, lines elsewhere."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    from mcp_discovery.cli.tables import console

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console(err=True), transient=True) as bar:
        task = bar.add_task(line(tool), total=None)

        async def on_progress(
            progress: float, total: float | None = None, message: str | None = None
        ) -> None:
            description = line(message or tool)
            bar.update(task, completed=progress, total=total, description=description)

        yield on_progress


def _lines() -> OnProgress:
    last: tuple[float, str | None] = (float("-inf"), None)

    async def on_progress(
        progress: float, total: float | None = None, message: str | None = None
    ) -> None:
        nonlocal last
        now = time.monotonic()
        finished = total is not None and progress >= total
        if message == last[1] and now - last[0] < _LINE_INTERVAL and not finished:
            return
        last = now, message
        share = f"{progress / total:4.0%}" if total else f"{progress:g}"
        say(f"{share}  {line(message or '')}".rstrip(), err=True)

    return on_progress

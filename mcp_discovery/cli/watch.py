"""``mcp-discovery watch``: every change, as it happens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from mcp_discovery.cli import options

Entry = Mapping[str, Any]


def watch(
    facade: options.Facade = options.FACADE,
    tag: options.Tags = None,
    status: Annotated[
        str,
        typer.Option(help="Which to follow: healthy,degraded,draining,down, or all."),
    ] = "all",
    once: Annotated[bool, typer.Option("--once", help="End after what is there now.")] = False,
    json: options.Json = False,
) -> None:
    """Follow a facade's list: first what is there, then every change. Ctrl-C ends it.

    When the facade goes away it is asked again until it is back; nothing that lasted is missed.
    """
    params = {"status": status} | ({"tags": ",".join(tag)} if tag else {})
    show = _json_line if json else _text_line()
    try:
        asyncio.run(_follow(facade, params, show, once))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


async def _follow(
    facade: str,
    params: Mapping[str, str],
    show: Callable[[str, Entry | None, Entry | None], None],
    once: bool,
) -> None:
    import orjson

    from adapters.backoff import Backoff
    from mcp_discovery.cli.asking import asking
    from mcp_discovery.errors import StoreUnavailable

    seen: dict[str, Entry] = {}

    def take(id: str, entry: Entry | None) -> None:
        before = seen.pop(id, None)
        if entry is not None:
            seen[id] = entry
        if _visible(before) != _visible(entry):
            show(id, before, entry)

    backoff = Backoff()
    connected = False
    while True:
        try:
            async with asking(facade) as api:
                async for event in api.events(params):
                    data = orjson.loads(event.data)
                    connected = True
                    backoff.reset()
                    if event.name == "snapshot":
                        now = {entry["id"]: entry for entry in data["servers"]}
                        for id in [id for id in seen if id not in now]:
                            take(id, None)
                        for id, entry in now.items():
                            take(id, entry)
                    elif event.name == "change":
                        take(data["id"], data["server"])
                    elif event.name == "stale":
                        typer.echo(f"the list is stale: {data.get('problem')}", err=True)
                    if once:
                        return
        except StoreUnavailable as error:
            if not connected:
                raise
            typer.echo(f"mcp-discovery: {error}; trying again", err=True)
        await asyncio.sleep(backoff.next())


def _visible(entry: Entry | None) -> Entry | None:
    """The entry without the field that moves by itself."""
    return entry and {key: value for key, value in entry.items() if key != "lastSeen"}


def _json_line(id: str, before: Entry | None, entry: Entry | None) -> None:
    import orjson

    typer.echo(orjson.dumps({"id": id, "server": entry}).decode())


def _text_line() -> Callable[[str, Entry | None, Entry | None], None]:
    from datetime import datetime

    from rich.text import Text

    from mcp_discovery.cli.tables import address, coloured, console

    out = console()

    def line(id: str, before: Entry | None, entry: Entry | None) -> None:
        text = Text(f"{datetime.now():%H:%M:%S}  ")
        if entry is None:
            text.append("gone".ljust(10)).append(id)
        else:
            status = coloured(entry["status"])
            status.pad_right(10 - len(status))
            text.append(status).append(f"{id}  {entry['reason']}  ").append(address(entry))
        out.print(text)

    return line

"""``mcp-discovery watch``: every change, as it happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import typer

from mcp_discovery.cli import filters, options
from mcp_discovery.cli.exit_codes import DONE, TIMED_OUT, run
from mcp_discovery.cli.tables import print_staleness
from mcp_discovery.cli.terminal import line, say, say_json
from mcp_discovery.errors import StoreUnavailableError, UnauthenticatedError

Entry = Mapping[str, Any]
Show = Callable[[str, Entry | None], None]


@filters.filtered(status="all")
def watch(
    facade: str = options.FACADE,
    *,
    selected: filters.Pairs,
    once: bool = typer.Option(False, "--once", help="End after what is there now."),
    count: int | None = typer.Option(
        None, "--count", "-n", min=1, metavar="N", help="End after N lines."
    ),
    last: float | None = typer.Option(
        None,
        "--for",
        parser=options.positive,
        metavar="TIME",
        help="End after so long: 30, 30s, 5m. With --count: exit code 8 when fewer came.",
    ),
    json: bool = options.JSON,
    facade_token: str | None = options.FACADE_TOKEN,
    facade_token_file: str | None = options.FACADE_TOKEN_FILE,
) -> None:
    """Follow a facade's list: first what is there, then every change. Ctrl-C ends it.

    When the facade goes away it is asked again until it is back; nothing that lasted is missed.

    Wait for a server: mcp-discovery watch --name shop --status healthy --count 1 --for 30s
    """
    show = _json_line if json else _text_line()

    async def work() -> int:
        # Imported before the clock runs: that takes a while.
        import mcp_discovery.cli.facade_connection  # noqa: F401

        changes = _changes(
            facade, facade_token, facade_token_file, selected, once=once, hinting=not json
        )
        try:
            async with asyncio.timeout(last) as deadline, aclosing(changes):
                shown = 0
                async for id, entry in changes:
                    show(id, entry)
                    shown += 1
                    if shown == count:
                        return DONE
        except TimeoutError:
            if not deadline.expired():
                raise
            return TIMED_OUT if count is not None else DONE
        return DONE

    run(work())


async def _changes(
    facade: str,
    token: str | None,
    token_file: str | None,
    params: Sequence[tuple[str, str]],
    *,
    once: bool,
    hinting: bool,
) -> AsyncGenerator[tuple[str, Entry | None], None]:
    """Ids with their entries, ``None`` for what is gone: what is there, then what changes."""
    import orjson

    from mcp_discovery.adapters.backoff import Backoff
    from mcp_discovery.cli.facade_connection import facade_api
    from mcp_discovery.cli.hints import hints

    seen: dict[str, Entry] = {}
    backoff = Backoff()
    connected = away = False
    while True:
        try:
            async with facade_api(facade, token, token_file) as api:
                async for event in api.events(params):
                    data = orjson.loads(event.data)
                    if away:
                        say("the facade is back", err=True)
                    first, connected, away = not connected, True, False
                    backoff.reset()
                    news: dict[str, Entry | None] = {}
                    if event.name == "snapshot":
                        print_staleness(data)
                        now = {entry["id"]: entry for entry in data["servers"]}
                        news = {id: None for id in seen if id not in now} | now
                        if first and hinting and not now:
                            for each in await hints(api, params):
                                say(each, err=True)
                    elif event.name == "change":
                        news = {data["id"]: data["server"]}
                    elif event.name == "stale":
                        say(f"the list is stale: {data.get('problem')}", err=True)
                    elif event.name == "fresh":
                        say("the list is fresh again", err=True)
                    for id, entry in news.items():
                        before = seen.pop(id, None)
                        if entry is not None:
                            seen[id] = entry
                        if _visible(before) != _visible(entry):
                            yield id, entry
                    if once:
                        return
        except (StoreUnavailableError, UnauthenticatedError) as error:
            # A token in a file may be written anew in a moment; another one is not.
            if not connected or (isinstance(error, UnauthenticatedError) and token_file is None):
                raise
            if not away:
                say(f"mcp-discovery: {error}; trying again", err=True)
            away = True
        await asyncio.sleep(backoff.next())


def _visible(entry: Entry | None) -> Entry | None:
    """The entry without ``lastSeen``, which changes with every heartbeat."""
    return entry and {key: value for key, value in entry.items() if key != "lastSeen"}


def _json_line(id: str, entry: Entry | None) -> None:
    say_json({"id": id, "server": entry})


def _text_line() -> Show:
    from datetime import datetime

    from rich.text import Text

    from mcp_discovery.cli.tables import address, coloured, console

    out = console()

    def show(id: str, entry: Entry | None) -> None:
        text = Text(f"{datetime.now():%H:%M:%S}  ")
        if entry is None:
            text.append("gone".ljust(10)).append(line(id))
        else:
            status = coloured(entry["status"])
            status.pad_right(10 - len(status))
            description = f"{line(entry['id'])}  {line(entry['reason'])}  {address(entry)}"
            text.append(status).append(description)
        # However narrow the terminal is: one change is one line, which it breaks itself.
        out.print(text, soft_wrap=True)

    return show

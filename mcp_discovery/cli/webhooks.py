"""``mcp-discovery webhooks``: who is told of changes, and what became of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import typer

from mcp_discovery.cli import command, options
from mcp_discovery.cli.exit_codes import DONE, FAILED, run
from mcp_discovery.cli.failures import with_debug
from mcp_discovery.cli.terminal import line, say, say_json
from mcp_discovery.errors import InvalidInputError

if TYPE_CHECKING:
    from mcp_discovery.adapters.remote.api import FacadeApi

#: Seconds that a test may take: longer than a facade waits for a receiver.
_TIMEOUT = 30.0
#: How many dead messages are sent again at once.
_MOST = 1000

_NAME: Any = typer.Argument(metavar="RECEIVER", help="Its name in the file of facade --webhooks.")

webhooks = typer.Typer(
    cls=command.Group,
    help="Tell what receivers are sent, test them, and send again what they did not get.",
)


@webhooks.command("list", cls=command.Command)
@with_debug
def list_(
    receiver: str | None = typer.Argument(
        None, metavar="RECEIVER", help="List what was sent to this one, and what waits."
    ),
    state: str | None = typer.Option(
        None, metavar="STATE", help="With a receiver: pending, delivered or dead ones alone."
    ),
    facade: str = options.FACADE,
    json: bool = options.JSON,
    facade_token: str | None = options.FACADE_TOKEN,
    facade_token_file: str | None = options.FACADE_TOKEN_FILE,
) -> None:
    """List receivers, or the messages for one of them, the newest first.

    Try: mcp-discovery webhooks list RECEIVER --state dead
    """
    if state is not None and receiver is None:
        raise InvalidInputError("--state is for the messages of a receiver; name one")

    async def work(api: FacadeApi) -> int:
        from mcp_discovery.cli.facade_connection import get

        if receiver is None:
            found = await get(api, "/webhooks")
            rows = found["receivers"]
        else:
            params = [("state", state)] if state else []
            found = await get(api, f"{_path(receiver)}/deliveries", [*params, ("limit", "1000")])
            rows = found["deliveries"]
        if json:
            for each in rows:
                say_json(each)
        elif rows:
            _print(rows, of_one=receiver is not None)
        else:
            say("No message is there." if receiver else "There is no receiver.")
        return DONE

    _run(facade, facade_token, facade_token_file, work)


@webhooks.command("test", cls=command.Command)
@with_debug
def test(
    receiver: str = _NAME,
    facade: str = options.FACADE,
    json: bool = options.JSON,
    facade_token: str | None = options.FACADE_TOKEN,
    facade_token_file: str | None = options.FACADE_TOKEN_FILE,
) -> None:
    """Send a receiver a message that says nothing, and tell how that ended.

    The exit code is 1 where it was not taken.
    """

    async def work(api: FacadeApi) -> int:
        sent = (await api.call("POST", f"{_path(receiver)}/test")).json()
        if json:
            say_json(sent)
        elif sent["state"] == "delivered":
            say(line(f"{receiver}: delivered ({sent['status']})"))
        else:
            say(line(f"{receiver}: {sent['error']}"), err=True)
        return DONE if sent["state"] == "delivered" else FAILED

    _run(facade, facade_token, facade_token_file, work)


@webhooks.command("redeliver", cls=command.Command)
@with_debug
def redeliver(
    receiver: str = _NAME,
    ids: list[str] | None = typer.Argument(None, metavar="ID", help="The ids of messages."),
    dead: bool = typer.Option(False, "--dead", help="All that could not be delivered."),
    facade: str = options.FACADE,
    json: bool = options.JSON,
    facade_token: str | None = options.FACADE_TOKEN,
    facade_token_file: str | None = options.FACADE_TOKEN_FILE,
) -> None:
    """Send messages again soon, with the ids that they had."""
    if bool(ids) is dead:
        raise InvalidInputError("name the ids of messages, or give --dead for all dead ones")

    async def work(api: FacadeApi) -> int:
        from mcp_discovery.cli.facade_connection import get

        path = f"{_path(receiver)}/deliveries"
        wanted = list(ids or ())
        if dead:
            params = [("state", "dead"), ("limit", str(_MOST))]
            wanted = [each["id"] for each in (await get(api, path, params))["deliveries"]]
        for id in wanted:
            again = (await api.call("POST", f"{path}/{quote(id, safe='')}/redeliver")).json()
            say_json(again) if json else say(line(f"{id}: waits to be sent"))
        if not wanted:
            say("No message is dead.", err=True)
        return DONE

    _run(facade, facade_token, facade_token_file, work)


def _run(
    facade: str,
    token: str | None,
    token_file: str | None,
    work: Callable[[FacadeApi], Awaitable[int]],
) -> None:
    async def asking() -> int:
        from mcp_discovery.cli.facade_connection import facade_api

        async with facade_api(facade, token, token_file, timeout=_TIMEOUT) as api:
            return await work(api)

    run(asking())


def _path(receiver: str) -> str:
    return f"/webhooks/{quote(receiver, safe='')}"


def _print(rows: Sequence[Mapping[str, Any]], *, of_one: bool) -> None:
    from mcp_discovery.cli.tables import print_table

    if of_one:
        columns: tuple[str, ...] = ("ID", "TYPE", "STATE", "ATTEMPTS", "CREATED", "WHY")
        members: tuple[str, ...] = ("id", "type", "state", "attempts", "createdAt", "error")
    else:
        columns = ("NAME", "STATE", "PENDING", "DEAD", "DROPPED", "URL", "WHY")
        members = ("name", "state", "pending", "dead", "dropped", "url", "error")
    found = ({**(each.get("last") or {}), **each} for each in rows)
    print_table(columns, ([str(each.get(name) or "") for name in members] for each in found))

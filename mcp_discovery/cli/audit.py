"""``mcp-discovery audit``: what happened, and whether the log of it is whole."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import typer

from mcp_discovery.cli import command, options
from mcp_discovery.cli.exit_codes import DONE, FAILED, UNAVAILABLE, run
from mcp_discovery.cli.failures import with_debug
from mcp_discovery.cli.terminal import line, say, say_json
from mcp_discovery.errors import InvalidInputError

if TYPE_CHECKING:
    from mcp_discovery.adapters.remote.api import FacadeApi
    from mcp_discovery.facade.access.audit.chain import ChainHead
    from mcp_discovery.facade.access.audit.database import DatabaseLog

#: Seconds between two looks for new events, and how many are looked at.
_EVERY, _AT_ONCE = 2.0, 200
#: How many faults of a log are told.
_MOST_FAULTS = 20
_COLUMNS = ("TIME", "WHO", "ADDRESS", "WHAT", "TARGET", "OUTCOME", "WHY", "EVENT")

#: Parameters of ``GET /audit``, which its refusals begin with, and the options that give them.
_OPTIONS: Mapping[str, str] = {
    "userId": "--user",
    "operation": "--operation",
    "name": "--name",
    "tool": "--tool",
    "eventType": "--type",
    "outcome": "--outcome",
    "from": "--from",
    "to": "--to",
    "limit": "--limit",
}

_USER: Any = typer.Option(None, "--user", metavar="SUBJECT", help="What this caller did.")
_OPERATION: Any = typer.Option(
    None, metavar="NAME", help="register, update, drain, deregister, call and others."
)
_NAME: Any = typer.Option(None, metavar="SERVER", help="What happened to the server of this name.")
_TOOL: Any = typer.Option(None, metavar="TOOL", help="Calls of this tool.")
_TYPE: Any = typer.Option(
    None, metavar="TYPE", help="change, status, call, refusal or system events alone."
)
_OUTCOME: Any = typer.Option(None, metavar="RESULT", help="done, refused, failed or unknown.")
_STORE: Any = typer.Option(
    None,
    metavar="URL",
    envvar="MCP_DISCOVERY_AUDIT_STORE",
    help="The database of the audit: sqlite:////path/audit.db or postgresql://USER@HOST/DATABASE.",
)
_PASSWORD: Any = typer.Option(
    None,
    envvar="MCP_DISCOVERY_AUDIT_PASSWORD",
    help="Its password. Better given by the environment.",
)
_PASSWORD_FILE: Any = typer.Option(
    None,
    metavar="FILE",
    envvar="MCP_DISCOVERY_AUDIT_PASSWORD_FILE",
    help="A file that holds that password instead.",
)

audit = typer.Typer(
    cls=command.Group,
    help="Tell what happened: changes, refusals and calls; and verify the log of it.",
)


@audit.command("list", cls=command.Command)
@with_debug
def list_(
    facade: str = options.FACADE,
    user: str | None = _USER,
    operation: str | None = _OPERATION,
    name: str | None = _NAME,
    tool: str | None = _TOOL,
    type: str | None = _TYPE,
    outcome: str | None = _OUTCOME,
    since: str | None = typer.Option(
        None, "--from", metavar="TIME", help="From this time on: 2026-01-31T12:00:00Z or a day."
    ),
    until: str | None = typer.Option(None, "--to", metavar="TIME", help="Before this time."),
    limit: int = typer.Option(50, min=1, max=1000, help="How many events, the newest first."),
    json: bool = options.JSON,
    facade_token: str | None = options.FACADE_TOKEN,
    facade_token_file: str | None = options.FACADE_TOKEN_FILE,
) -> None:
    """List what happened, the newest first. It needs the right to administer the facade.

    Try: mcp-discovery audit list --outcome refused --from 2026-01-31
    """
    params = _params(user, operation, name, tool, type, outcome)
    params += [(key, value) for key, value in (("from", since), ("to", until)) if value]

    async def work() -> None:
        from mcp_discovery.cli.facade_connection import facade_api

        async with facade_api(facade, facade_token, facade_token_file) as api:
            logs = await _logs(api, [*params, ("limit", str(limit))])
        if json:
            for each in logs:
                say_json(each)
        elif logs:
            _print(logs)
        else:
            say("No event matches.")

    run(work())


@audit.command("tail", cls=command.Command)
@with_debug
def tail(
    facade: str = options.FACADE,
    user: str | None = _USER,
    operation: str | None = _OPERATION,
    name: str | None = _NAME,
    tool: str | None = _TOOL,
    type: str | None = _TYPE,
    outcome: str | None = _OUTCOME,
    json: bool = options.JSON,
    facade_token: str | None = options.FACADE_TOKEN,
    facade_token_file: str | None = options.FACADE_TOKEN_FILE,
) -> None:
    """Print what happens from now on, until Ctrl-C; an event whose outcome comes later twice."""
    params = [*_params(user, operation, name, tool, type, outcome), ("limit", str(_AT_ONCE))]

    async def work() -> None:
        from mcp_discovery.cli.facade_connection import facade_api

        seen: set[tuple[str, str]] | None = None
        async with facade_api(facade, facade_token, facade_token_file) as api:
            while True:
                logs = await _logs(api, params)
                found = {_key(each): each for each in reversed(logs)}
                for key, each in found.items():
                    if seen is not None and key not in seen:
                        say_json(each) if json else say(line("  ".join(_row(each)[:-1])))
                seen = set(found)
                await asyncio.sleep(_EVERY)

    run(work())


@audit.command("verify", cls=command.Command)
@with_debug
def verify(
    files: list[str] | None = typer.Argument(
        None, metavar="FILE", help="Files of --audit, the oldest first; otherwise --store."
    ),
    store: str | None = _STORE,
    audit_password: str | None = _PASSWORD,
    audit_password_file: str | None = _PASSWORD_FILE,
    anchor: list[str] | None = typer.Option(
        None,
        metavar="HEAD",
        help="What audit head has printed before: an entry that has to be there. May be repeated.",
    ),
    json: bool = options.JSON,
) -> None:
    """Find entries that were changed, removed, put in or moved, and a log that was cut off.

    The log is read where it is, without a facade. Without FILE and --store it is the SQLite file
    that a facade with --auth keeps. The exit code is 1 where something is wrong, and 2 where there
    is no log, or no entry in it.
    """
    parameters = {"audit_password": audit_password, "audit_password_file": audit_password_file}

    async def work() -> int:
        from mcp_discovery.facade.access.audit.chain import ChainCheck
        from mcp_discovery.facade.access.audit.verify import verify_files, verify_store

        check = ChainCheck()
        check.expect(map(_head, anchor or ()))
        if files:
            where = ", ".join(files)
            faults = list(verify_files(files, check))
        else:
            async with _store(store, parameters) as log:
                faults = [each async for each in verify_store(log, check)]
                where = log.name
        if not (check.entries or faults):
            raise InvalidInputError(f"there is no entry in {where}, and so nothing to verify")
        if json:
            heads = [str(each) for each in check.heads.values()]
            told = [{"where": each.where, "what": each.what} for each in faults]
            say_json({"entries": check.entries, "faults": told, "heads": heads})
        else:
            for each in faults[:_MOST_FAULTS]:
                say(line(str(each)), err=True)
            if len(faults) > _MOST_FAULTS:
                say(f"and {len(faults) - _MOST_FAULTS} further faults", err=True)
            state = "not whole" if faults else "whole"
            say(f"{check.entries} entries; the log is {state}.")
            for head in check.heads.values():
                say(f"head {head}")
        return FAILED if faults else DONE

    run(_answering(work()))


@audit.command("head", cls=command.Command)
@with_debug
def head(
    file: str | None = typer.Argument(None, metavar="FILE", help="A file of --audit."),
    store: str | None = _STORE,
    audit_password: str | None = _PASSWORD,
    audit_password_file: str | None = _PASSWORD_FILE,
) -> None:
    """Print the last entry's place and hash. Kept elsewhere, it shows later that the log up to here
    is still the same: audit verify --anchor HEAD.
    """
    parameters = {"audit_password": audit_password, "audit_password_file": audit_password_file}

    async def work() -> int:
        from mcp_discovery.facade.access.audit.verify import NO_HEAD, head_of_file

        if file is not None:
            say(str(head_of_file(file)))
            return DONE
        async with _store(store, parameters) as log:
            await log.require_tables()
            found = await log.head()
            where = log.name
        if found is None:
            say(line(f"mcp-discovery: {where}: {NO_HEAD}"), err=True)
            return FAILED
        say(str(found))
        return DONE

    run(_answering(work()))


async def _answering(work: Any) -> int:
    from mcp_discovery.facade.access.audit.journal import AuditLogError

    try:
        found: int = await work
    except AuditLogError as error:
        say(line(f"mcp-discovery: the audit cannot be read: {error}"), err=True)
        return UNAVAILABLE
    return found


@asynccontextmanager
async def _store(url: str | None, parameters: Mapping[str, Any]) -> AsyncIterator[DatabaseLog]:
    """The log in the database at ``url``, to be read, until it is left."""
    log = _database(url, parameters)
    try:
        yield log
    finally:
        await log.close()


def _database(url: str | None, parameters: Mapping[str, Any]) -> DatabaseLog:
    """Raises :class:`InvalidInputError` where there can be no log at ``url``."""
    from pathlib import Path

    from mcp_discovery.credential_files import Secret
    from mcp_discovery.facade.access.audit.audit import database_log
    from mcp_discovery.facade.access.audit.settings import AuditSettings, default_store
    from mcp_discovery.facade.access.audit.verify import require_sqlite

    password = options.secret(parameters, "audit_password")
    secret = Secret("audit password", *password, in_header=False) if any(password) else None
    try:
        log = database_log(AuditSettings(store=url or default_store(), password=secret))
    except InvalidInputError as error:
        raise InvalidInputError(f"--store: {error}") from error
    if (path := log.path) is not None:
        if not Path(path).exists():
            raise InvalidInputError(f"there is no audit in {path}; name its FILE, or --store URL")
        require_sqlite(path)
    return log


def _head(text: str) -> ChainHead:
    from mcp_discovery.facade.access.audit.chain import ChainHead

    try:
        return ChainHead.parse(text)
    except ValueError:
        problem = f"--anchor {text[:100]!r} is nothing that audit head prints"
        raise InvalidInputError(f"{problem}; it is CHAIN:NUMBER:HASH") from None


async def _logs(api: FacadeApi, params: Sequence[tuple[str, str]]) -> Sequence[Mapping[str, Any]]:
    """The events that ``params`` ask for.

    Raises :class:`InvalidInputError` for a value that the facade does not understand, by the option
    that it was given with.
    """
    from mcp_discovery.cli.facade_connection import get

    try:
        found: Sequence[Mapping[str, Any]] = (await get(api, "/audit", params))["logs"]
    except InvalidInputError as error:
        said = str(error)
        name = next((each for each in _OPTIONS if re.match(rf"{each}\b", said)), None)
        if name is None:
            raise
        rest = said[len(name) :]
        raise InvalidInputError(f"{_OPTIONS[name]} {rest.lstrip(' =')}") from error
    return found


def _params(*given: str | None) -> list[tuple[str, str]]:
    names = ("userId", "operation", "name", "tool", "eventType", "outcome")
    return [(name, value) for name, value in zip(names, given, strict=True) if value]


def _key(event: Mapping[str, Any]) -> tuple[str, str]:
    return event["eventId"], event["outcome"]["result"]


def _print(logs: Iterable[Mapping[str, Any]]) -> None:
    from mcp_discovery.cli.tables import print_table

    print_table(_COLUMNS, map(_row, logs))


def _row(event: Mapping[str, Any]) -> list[str]:
    actor, target = event.get("actor") or {}, event.get("target") or {}
    outcome = event["outcome"]
    tool = target.get("tool")
    who = actor.get("userId") or actor.get("by") or "the facade"
    what = (event.get("operation") or {}).get("name") or event["eventType"]
    if event["eventType"] == "refusal":
        what = f"{what} (refused)"
    result = str(outcome["result"])
    if status := outcome.get("status"):
        result += f" {status}"
    if count := outcome.get("count"):
        result += f" ×{count}"
    return [
        event["time"][:19] + "Z",
        who,
        actor.get("address") or "",
        what,
        "/".join(filter(None, (target.get("id") or target.get("name"), tool))),
        result,
        outcome.get("error") or "",
        event["eventId"],
    ]

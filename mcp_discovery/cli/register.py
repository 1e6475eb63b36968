"""``mcp-discovery register FILE``: servers that have no sidecar, from a file."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import typer

from mcp_discovery.cli import options
from mcp_discovery.cli.exit_codes import CHANGES, DONE, code_of, run
from mcp_discovery.cli.terminal import line, say, say_json
from mcp_discovery.errors import DiscoveryError, InvalidInputError, StoreError
from mcp_discovery.plural import counted

if TYPE_CHECKING:
    from mcp_discovery.adapters.remote.api import FacadeApi
    from mcp_discovery.cli.register_plan import PlannedServer, PlannedServers, RegistrationPlan


def register(
    file: str = typer.Argument(
        metavar="FILE", help="YAML or JSON: one server, or a list of them; - for stdin."
    ),
    dry_run: bool = typer.Option(
        False, "--dry-run", help="Only tell what would change; exit code 9 if anything."
    ),
    prune: bool = typer.Option(
        False, "--prune", help="Remove servers of the same source that FILE no longer names."
    ),
    source: str | None = typer.Option(
        None,
        metavar="NAME",
        help="Whose servers these are, for --prune; FILE may say it as source: NAME.",
    ),
    allow_empty: bool = typer.Option(
        False, "--allow-empty", help="With --prune: FILE may name no server at all."
    ),
    introspect: bool = typer.Option(
        False,
        "--introspect",
        help="Start each command of FILE that names no capabilities once, on this machine, and "
        "register what it offers. Shows the commands first, and asks.",
    ),
    introspect_timeout: float = typer.Option(
        60.0,
        parser=options.positive,
        metavar="TIME",
        show_default="1m",
        help="How long each of these may take to start and to answer.",
    ),
    yes: bool = typer.Option(
        False, "--yes", "-y", help="Do not ask: neither on a terminal nor before commands start."
    ),
    facade: str = options.FACADE,
    json: bool = options.JSON,
    facade_token: str | None = options.FACADE_TOKEN,
    facade_token_file: str | None = options.FACADE_TOKEN_FILE,
) -> None:
    """Register servers that have no sidecar; the facade probes them itself.

    FILE holds what POST /servers takes: an object with name and url at least, a list of such
    objects, {"servers": [...]}, or a host's {"mcpServers": {...}}. First it tells what changes;
    what is registered already and the same is left alone, so that running it again is harmless.
    Every server is tried; the exit code is not 0 when one was refused.

    Example: {"name": "product-catalog", "url": "http://10.0.0.5:8000/mcp", "tags": ["products"]}
    """
    from mcp_discovery.cli.register_plan import asked, read_list

    if allow_empty and not prune:
        raise InvalidInputError("--allow-empty goes with --prune")
    wanted = read_list(file, source=source, empty=allow_empty)
    if prune and wanted.source is None:
        raise InvalidInputError(
            f"--prune has to know which servers are this file's: write source: NAME into {file}, "
            "or give --source NAME"
        )
    ask = not (yes or json) and sys.stdin.isatty() and sys.stdout.isatty() and file != "-"
    allowed = _allowed(wanted, file, ask=ask, yes=yes) if introspect else ()

    async def work() -> int:
        from mcp_discovery.cli.facade_connection import every_entry, facade_api
        from mcp_discovery.cli.register_plan import compare

        async with facade_api(facade, facade_token, facade_token_file) as api:
            listed = await every_entry(api)
            known = await asked(wanted, allowed, file, introspect_timeout)
            plan = compare(known, listed, prune=prune)
            if not json:
                _print_plan(plan)
            _print_warnings(plan)
            refused = plan.refused[0].refused if plan.refused else None
            code = DONE if refused is None else code_of(refused)
            for each in plan.refused:
                _print_outcome(json, "refused", each.name, problem=_all_of(each.refused))
            if dry_run:
                if json:
                    _print_plan_json(plan)
                return code or (CHANGES if plan.changes else DONE)
            if not plan.changes or (ask and not typer.confirm("Go on?")):
                return code
            return await _apply(api, plan, json=json) or code

    run(work())


def _allowed(
    wanted: PlannedServers, file: str, *, ask: bool, yes: bool
) -> Collection[PlannedServer]:
    """The servers of ``wanted`` whose commands may be started; raises :class:`InvalidInputError`
    where nobody can be asked."""
    from mcp_discovery.cli.introspection import command_line

    commands = [each for each in wanted.servers if each.is_unasked]
    if commands and not (ask or yes):
        raise InvalidInputError(
            f"--introspect starts {counted(len(commands), 'command')} of {file} on this machine, "
            "and nobody is there to be asked; allow it with --yes"
        )
    allowed = []
    for each in commands:
        assert each.started is not None
        say(line(f"{each.name}: {command_line(each.started)}"), err=True)
        if yes or typer.confirm("Start it once?", err=True):
            allowed.append(each)
    return allowed


async def _apply(api: FacadeApi, plan: RegistrationPlan, *, json: bool) -> int:
    """Makes the planned changes; returns the exit code of the first refusal."""
    from mcp_discovery.adapters.remote.api import server_path

    code = DONE
    work: list[tuple[str, str, str, str, Mapping[str, Any] | None]] = [
        *(("registered", each.name, "POST", "/servers", each.body) for each in plan.added),
        *(
            ("changed", each.name, "PUT", server_path(each.name), each.body)
            for each, _ in plan.changed
        ),
        *(("removed", id, "DELETE", server_path(id), None) for id in plan.pruned),
    ]
    for outcome, name, method, path, body in work:
        try:
            await api.call(method, path, body)
        except StoreError:
            raise
        except DiscoveryError as error:
            code = code or code_of(error)
            _print_outcome(json, "refused", name, problem=str(error))
        else:
            _print_outcome(json, outcome, name)
    return code


def _all_of(refused: DiscoveryError | None) -> str:
    """Everything that is wrong with a server, where more than one fault is known."""
    others = refused.others if isinstance(refused, InvalidInputError) else ()
    return "; ".join(map(str, (refused, *others)))


def _print_outcome(json: bool, outcome: str, name: str, *, problem: str | None = None) -> None:
    if json:
        say_json({"id": name, "outcome": outcome} | ({"error": problem} if problem else {}))
    else:
        say(line(f"{name}: {outcome}" + (f": {problem}" if problem else "")), err=bool(problem))


def _print_plan(plan: RegistrationPlan) -> None:
    """The plan as a diff, on standard error: standard output tells what was done."""
    for server in plan.added:
        assert server.record is not None
        url = server.record.endpoint.url
        where = ", which its clients start" if url is None else f" at {url}"
        say(line(f"+ {server.name}{where}"), err=True)
    for server, differences in plan.changed:
        say(line(f"~ {server.name}"), err=True)
        for name, before, after in differences:
            say("    " + line(f"{name}: {_short(before)} → {_short(after)}"), err=True)
    for id in plan.pruned:
        say(line(f"- {id}"), err=True)
    counts = [
        f"{len(plan.added)} to add",
        f"{len(plan.changed)} to change",
        f"{len(plan.unchanged)} the same",
    ]
    counts += [f"{len(plan.pruned)} to remove"] if plan.pruned else []
    counts += [f"{len(plan.refused)} refused"] if plan.refused else []
    say(", ".join(counts) + ".", err=True)


def _print_warnings(plan: RegistrationPlan) -> None:
    from mcp_discovery.cli.introspection import say_what_names_nothing

    posted = (*plan.added, *(each for each, _ in plan.changed))
    say_what_names_nothing([each.name for each in posted if each.names_nothing])


def _print_plan_json(plan: RegistrationPlan) -> None:
    for each in plan.added:
        say_json({"id": each.name, "outcome": "to add"})
    for each, differences in plan.changed:
        fields = {name: {"before": before, "after": after} for name, before, after in differences}
        say_json({"id": each.name, "outcome": "to change", "fields": fields})
    for id in plan.pruned:
        say_json({"id": id, "outcome": "to remove"})


def _short(value: Any) -> str:
    """A value on one line; what is long is cut."""
    import orjson

    text = "none" if value in (None, "", [], {}) else orjson.dumps(value).decode()
    return text if len(text) <= 200 else f"{text[:199]}…"

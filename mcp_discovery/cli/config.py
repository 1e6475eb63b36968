"""``mcp-discovery config``: checks configuration files, and tells what they may hold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from mcp_discovery.cli import command, facade, options, settings_file, sidecar
from mcp_discovery.cli.exit_codes import DONE, INVALID_INPUT
from mcp_discovery.cli.failures import with_debug
from mcp_discovery.cli.terminal import line, say, say_json
from mcp_discovery.errors import DiscoveryError, InvalidInputError

ROLES: Mapping[str, Callable[..., None]] = {"facade": facade.facade, "sidecar": sidecar.sidecar}
#: Stands in for required options that the environment or the command line may give at the start.
_PLACEHOLDERS = {"store": "consul://127.0.0.1:8500", "url": "http://127.0.0.1:8000/mcp"}

#: A file with one of these keys is a list of servers, or one server.
_SERVER_FILE_KEYS = frozenset({"servers", "mcpServers", "connections", "name", "source"})

config = typer.Typer(
    cls=command.Group,
    help="Check configuration files, and tell what they may hold.",
)


@config.command("check", cls=command.Command)
@with_debug
def check(
    files: list[str] = typer.Argument(
        metavar="FILE", help="YAML for a role, a list of servers, or the file of facade --auth."
    ),
    show: bool = typer.Option(
        False, "--show", help="Also tell each setting and its value, defaults included."
    ),
) -> None:
    """Say whether files can be used as they are: by --config, by register, or by facade --auth.

    Nothing is connected, and the environment is not looked at. The exit code is 2 when one of them
    cannot be used; all that is wrong with them is told.
    """
    code = DONE
    for file in files:
        lines, faults = _check(file, show=show)
        for text in lines:
            say(line(text) if not text.startswith(" ") else text)
        for message in dict.fromkeys(map(str, faults)):
            say(line(message if message.startswith(f"{file}:") else f"{file}: {message}"), err=True)
            code = INVALID_INPUT
    raise typer.Exit(code)


@config.command("schema", cls=command.Command)
@with_debug
def schema(
    auth: bool = typer.Option(False, "--auth", help="Of the file of facade --auth instead."),
    gateway_credentials: bool = typer.Option(
        False,
        "--gateway-credentials",
        help="Of the file of facade --gateway-credentials instead.",
    ),
    webhooks: bool = typer.Option(
        False, "--webhooks", help="Of the file of facade --webhooks instead."
    ),
) -> None:
    """Print the JSON Schema of configuration files, for editors and pipelines."""
    from mcp_discovery.facade.access import auth_file
    from mcp_discovery.facade.gateway import credentials
    from mcp_discovery.facade.webhooks import receivers

    found = settings_file.schema(ROLES)
    if auth:
        found = auth_file.schema()
    if gateway_credentials:
        found = credentials.schema()
    if webhooks:
        found = receivers.schema()
    say_json(found, indent=True)


def _check(file: str, *, show: bool) -> tuple[list[str], list[Exception]]:
    """The lines to print about ``file``, and all that is wrong with it."""
    from mcp_discovery.host_files import entries_in

    try:
        content = _content(file)
        keys = content.keys() if isinstance(content, dict) else ()
        if _is_auth_file(keys):
            return _check_auth_file(file)
        if "receivers" in keys:
            return _check_webhooks(file)
        if (entries := entries_in(content)) is not None:
            return _check_host_file(file, entries)
        if isinstance(content, list) or _SERVER_FILE_KEYS.intersection(keys):
            return _check_servers(file)
        sections, wrong = settings_file.sections(file, ROLES)
    except (DiscoveryError, ValueError) as error:
        return [], [error]
    lines: list[str] = []
    faults: list[Exception] = [*wrong]
    for role, section in sections.items():
        given, bad = settings_file.values(section, ROLES[role], file)
        known = settings_file.settings(ROLES[role])
        there = {*given, *(known[key].parameter for key in bad if key in known)}
        missing = [each for each in known.values() if each.required and each.parameter not in there]
        required = {each.key for each in known.values() if each.required}
        parameters = {each.parameter: each.default for each in known.values()}
        parameters |= {key: text for key, text in _PLACEHOLDERS.items() if key in required}
        needed = [each.key for each in missing]
        if role == "sidecar" and not {"url", "command", "servers"} & there:
            parameters["url"] = _PLACEHOLDERS["url"]
            needed.insert(0, "url (or a command, or servers)")
        parameters |= given
        # Times are compared with each other: what a bad one would be is not known.
        times = [key for key in bad if key in known and known[key].kind is float]
        built = [
            each
            for each in _faults(role, parameters)
            if not any(
                key.replace("-", " ") in str(each).lower().replace("-", " ") for key in times
            )
        ]
        faults += [*bad.values(), *built]
        if bad or built:
            continue
        still = f"; it still needs {' and '.join(needed)} to start" if needed else ""
        lines.append(f"{file}: {role}: fine{still}")
        if show:
            lines += [
                f"  {each.key}: {_shown(parameters[each.parameter])}"
                for _, each in sorted(known.items())
                if parameters[each.parameter] not in (None, "")
                and each not in missing
                and each.key not in needed
            ]
    return lines, faults


def _content(file: str) -> Any:
    """What a file of any kind says: hosts have JSON that is no YAML."""
    from mcp_discovery import host_files
    from mcp_discovery.yaml_files import parse, read_bytes

    data = read_bytes(file)
    try:
        content = parse(data, file)
    except InvalidInputError:
        return host_files.parse(data, file)
    return None if content is None else content.value()


def _faults(role: str, parameters: Mapping[str, Any]) -> Iterator[Exception]:
    """What is wrong with the parameters: builds from them what the role would."""
    from mcp_discovery.adapters import open_store
    from mcp_discovery.cli import logs

    steps: list[Callable[[], Any]] = [lambda: logs.require_level(parameters["log_level"])]
    if role == "sidecar":
        read = sidecar.store_options_of
        steps += [
            lambda: sidecar.file_settings_of(parameters) or sidecar.settings_of(parameters),
            lambda: sidecar.require_no_embedded(parameters["store"]),
        ]
    else:
        read = options.store_options
        steps.append(lambda: facade.options_of(parameters))
    # Files of secrets need not be on the machine on which a configuration is checked.
    oauth = "store_oauth_client_secret"
    checked = {**parameters}
    if checked[f"{oauth}_file"] is not None and checked[oauth] is None:
        checked |= {oauth: "in a file", f"{oauth}_file": None}
    steps.append(
        lambda: open_store(
            checked["store"], replace(read(checked), token_file=None, password_file=None)
        )
    )
    for step in steps:
        try:
            step()
        except InvalidInputError as error:
            yield from (error, *error.others)
        except (DiscoveryError, ValueError) as error:
            yield error


def _is_auth_file(keys: Iterable[str]) -> bool:
    from mcp_discovery.facade.access.auth_file import AuthFile

    return not AuthFile.model_fields.keys().isdisjoint(keys)


def _check_auth_file(file: str) -> tuple[list[str], list[Exception]]:
    from mcp_discovery.facade.access.auth_file import NOBODY, read
    from mcp_discovery.plural import counted
    from mcp_discovery.yaml_files import read_bytes

    found = read(read_bytes(file), file)
    named = (found.roles, "role"), (found.tokens, "token"), (found.issuers, "issuer")
    counts = ", ".join(counted(len(each), name) for each, name in named)
    fine = f"{file}: access rules ({counts}): fine"
    if found.knows_nobody:
        return [f"{fine}, but {NOBODY.format(file='it')}"], []
    if missing := [each.issuer for each in found.issuers if not each.audience]:
        fine += f", with --public-url: there is no audience for {', '.join(missing)}"
    return [fine], []


def _check_webhooks(file: str) -> tuple[list[str], list[Exception]]:
    from mcp_discovery.facade.webhooks.receivers import follow
    from mcp_discovery.plural import counted

    found = follow(file).current().by_name
    return [f"{file}: webhooks ({counted(len(found), 'receiver')}): fine"], []


def _check_host_file(file: str, entries: Mapping[str, Any]) -> tuple[list[str], list[Exception]]:
    """What ``sidecar --servers`` would refuse where all variables are set."""
    from mcp_discovery.host_files import servers_in
    from mcp_discovery.host_variables import HostVariables
    from mcp_discovery.plural import counted

    known = settings_file.settings(ROLES["sidecar"]).values()
    usual = {each.parameter: each.default for each in known}
    process = sidecar.file_settings_of(usual | {"servers": file})
    assert process is not None
    variables = HostVariables(Path(file), defaultdict(lambda: "value"))
    found = servers_in(entries)
    faults: list[Exception] = [*found.refused.values()]
    for entry in found.entries.values():
        try:
            filled = variables.filled(entry)
            if filled.url != entry.url:  # it is none before the variables are known
                filled = replace(filled, url=_PLACEHOLDERS["url"])
            process.of(filled)
        except InvalidInputError as error:
            faults += [error, *error.others]
    return [] if faults else [f"{file}: {counted(len(found.entries), 'server')}: fine"], faults


def _check_servers(file: str) -> tuple[list[str], list[Exception]]:
    from mcp_discovery.cli.register_plan import read_list
    from mcp_discovery.cli.server_files import require_known

    found = read_list(file)
    faults: list[Exception] = []
    for each in found.servers:
        try:
            require_known(each.body, each.name)
        except InvalidInputError as error:
            faults.append(error)
        if each.refused is not None:
            others = each.refused.others if isinstance(each.refused, InvalidInputError) else ()
            faults += [InvalidInputError(f"{each.name}: {one}") for one in (each.refused, *others)]
    if faults:
        return [], faults
    of = f" of {found.source}" if found.source else ""
    count = len(found.servers)
    return [f"{file}: {count} server{'s' * (count != 1)}{of}: fine"], []


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)

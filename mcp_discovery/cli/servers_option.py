"""``mcp-discovery sidecar --servers FILE``: the options beside it, and those in the file's entries.

An option of the command line is for every server of the file, unless it is of one alone; an entry
has its own in ``"mcp-discovery": {…}``, by the names that configuration files have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from mcp_discovery.cli import options, settings_file
from mcp_discovery.cli.sidecar import BRIDGE, settings_of, sidecar
from mcp_discovery.errors import InvalidInputError, raise_all
from mcp_discovery.host_files import OPTIONS, HostEntry
from mcp_discovery.record import Auth
from mcp_discovery.sidecar.servers_file import ServersFileSettings
from mcp_discovery.sidecar.settings import SidecarSettings
from mcp_discovery.yaml_files import node_of

#: Options that say where servers are, and are in the file.
_SERVERS = ("url", "command", "transport", "kind")
#: Options of one server, which stand in its entry.
_OF_ONE = frozenset(
    {
        *("name", "id", "registry_name", "title", "description", "version", "example_query"),
        *("advertise_url", "health_url", "server_name"),
        *("server_token", "server_token_file", "health_token", "health_token_file"),
    }
)
#: Options of where all commands are served, and who may come in there.
_OF_LISTENER = frozenset(
    {"listen", "allowed_host", "bridge_open", "bridge_token_file", "bridge_client_ca"}
    | {"bridge_cert", "bridge_key"}
)
#: Options of the process, which stand in no entry: these, and all of the store.
_OF_PROCESS = _OF_LISTENER | {
    *("servers", "only", "store", "health_port", "health_host", "config", "json", "log_level"),
    *("consul_tag", "consul_meta"),
}

Parameters = Mapping[str, Any]


def file_settings(parameters: Parameters) -> ServersFileSettings:
    """What the command's ``parameters`` say; raises :class:`InvalidInputError`."""
    file: str = parameters["servers"]
    raise_all(map(InvalidInputError, _needless(parameters)))
    return ServersFileSettings(
        file=file,
        only=tuple(parameters["only"] or ()),
        # Checks what is for all, too.
        process=settings_of({**parameters, "url": "", "command": [file], "server_ca": None}),
        of=partial(_of_entry, parameters),
    )


def _needless(parameters: Parameters) -> Iterator[str]:
    """A sentence for each option that does nothing beside ``--servers``."""
    usual = _usual()
    for name in (*_SERVERS, *sorted(_OF_ONE)):
        if parameters.get(name) in (usual.get(name), None, [], "", ()):
            continue
        option = "--" + name.replace("_", "-")
        if name in _SERVERS:
            what = "COMMAND" if name == "command" else option
            yield f"--servers names the servers; leave {what} out, or --servers"
        else:
            yield (
                f"{option} is of one server, and --servers names several; write it into the "
                f'entry of that one in the file: "{OPTIONS}": {{"{option[2:]}": …}}'
            )


def _of_commands() -> Iterator[str]:
    """The options that are for servers over stdio alone."""
    for name, each in options.parameters(sidecar).items():
        if getattr(each.default, "rich_help_panel", None) in BRIDGE:
            yield name


def _usual() -> dict[str, Any]:
    return {each.parameter: each.default for each in settings_file.settings(sidecar).values()}


def _of_entry(parameters: Parameters, entry: HostEntry) -> SidecarSettings:
    """The settings of one entry of the file, filled in; raises :class:`InvalidInputError`."""
    options = {"tag" if key == "tags" else key: each for key, each in entry.options.items()}
    nodes = {key: node_of(each) for key, each in options.items()}
    found, problems = settings_file.given_values(nodes, sidecar)
    for key in options:
        name = key.replace("-", "_")
        if name in _SERVERS:
            problems[key] = f"{key} is what the entry itself says; leave it out"
        elif name in _OF_PROCESS or name.startswith("store_"):
            problems[key] = f"{key} is of the whole process; give it as --{key}"
    raise_all(
        InvalidInputError(f'{entry.key!r}: "{OPTIONS}": {problem}') for problem in problems.values()
    )
    given = {**parameters, "title": entry.title, **found, "name": entry.name}
    given["tag"] = list(dict.fromkeys([*(parameters["tag"] or ()), *(found.get("tag") or ())]))
    command = [] if entry.command is None else [entry.command, *entry.args]
    given |= {"url": entry.url or "", "command": command}
    if entry.url is not None:
        usual = _usual()
        given |= {name: usual[name] for name in _of_commands() if name not in found}
        given["transport"] = entry.transport
    else:
        given["server_ca"] = found.get("server_ca")  # that of the command is for remote ones
    try:
        settings = settings_of(given)
    except InvalidInputError as error:
        faults = (error, *error.others)
        raise_all(InvalidInputError(f"{entry.key!r}: {each}") for each in faults)
        raise
    if not entry.headers:
        return settings
    bearer = Auth(type="bearer") if "authorization" in map(str.lower, entry.headers) else None
    return replace(settings, server_headers=entry.headers, auth=settings.auth or bearer)

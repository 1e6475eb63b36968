"""``mcp-discovery config``: checks configuration files, and tells what they may hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import typer

from mcp_discovery.cli import facade, options, sidecar
from mcp_discovery.cli.exit_codes import DONE, INVALID_INPUT
from mcp_discovery.cli.terminal import line, say, say_json
from mcp_discovery.errors import DiscoveryError

ROLES: Mapping[str, Callable[..., None]] = {"facade": facade.facade, "sidecar": sidecar.sidecar}
#: Stands in for required options that the environment or the command line may give at the start.
_PLACEHOLDERS = {"store": "consul://127.0.0.1:8500", "url": "http://127.0.0.1:8000/mcp"}

#: A file with one of these keys is a list of servers, or one server.
_SERVER_FILE_KEYS = frozenset({"servers", "mcpServers", "connections", "name", "source"})

config = typer.Typer(
    no_args_is_help=True, help="Check configuration files, and tell what they may hold."
)


@config.command("check")
def check(
    files: list[str] = typer.Argument(
        metavar="FILE...", help="YAML for a role, or a list of servers."
    ),
    show: bool = typer.Option(
        False, "--show", help="Also tell each setting and its value, defaults included."
    ),
) -> None:
    """Say whether files can be used as they are: by --config, or by register.

    Nothing is connected, and the environment is not looked at. The exit code is 2 when one of them
    cannot be used.
    """
    code = DONE
    for file in files:
        try:
            for text in _check(file, show=show):
                say(line(text) if not text.startswith(" ") else text)
        except (DiscoveryError, ValueError) as error:
            message = str(error)
            say(line(message if message.startswith(f"{file}:") else f"{file}: {message}"), err=True)
            code = INVALID_INPUT
    raise typer.Exit(code)


@config.command("schema")
def schema() -> None:
    """Print the JSON Schema of configuration files, for editors and pipelines."""
    from mcp_discovery.cli import settings_file

    say_json(settings_file.schema(ROLES), indent=True)


def _check(file: str, *, show: bool) -> list[str]:
    """The lines to print about ``file``; raises what is wrong with it."""
    from mcp_discovery.cli import settings_file
    from mcp_discovery.cli.yaml_files import Items, Table, parse, read_bytes

    content = parse(read_bytes(file), file)
    keys = content.entries.keys() if isinstance(content, Table) else ()
    if isinstance(content, Items) or _SERVER_FILE_KEYS.intersection(keys):
        return [_checked_servers(file)]
    lines = []
    for role, section in settings_file.sections(file, ROLES).items():
        given = settings_file.values(section, ROLES[role], file)
        known = settings_file.settings(ROLES[role])
        missing = [each for each in known.values() if each.required and each.parameter not in given]
        parameters = {each.parameter: each.default for each in known.values()}
        parameters |= {each.parameter: _PLACEHOLDERS[each.key] for each in missing} | given
        _build(role, parameters)
        needed = " and ".join(each.key for each in missing)
        still = f"; it still needs {needed} to start" if needed else ""
        lines.append(f"{file}: {role}: fine{still}")
        if show:
            lines += [
                f"  {each.key}: {_shown(parameters[each.parameter])}"
                for _, each in sorted(known.items())
                if parameters[each.parameter] is not None and each not in missing
            ]
    return lines


def _build(role: str, parameters: Mapping[str, Any]) -> None:
    """Builds from the parameters what the role would, which validates them."""
    from mcp_discovery.adapters import open_store
    from mcp_discovery.cli import logs

    logs.require_level(parameters["log_level"])
    if role == "sidecar":
        sidecar.settings_of(parameters)
        sidecar.require_no_embedded(parameters["store"])
    else:
        facade.options_of(parameters)
    read = sidecar.store_options_of if role == "sidecar" else options.store_options
    # Files of secrets need not be on the machine on which a configuration is checked.
    given = replace(read(parameters), token_file=None, password_file=None)
    open_store(parameters["store"], given)


def _checked_servers(file: str) -> str:
    from mcp_discovery.cli.register_plan import read_list
    from mcp_discovery.cli.server_files import require_known

    found = read_list(file)
    for each in found.servers:
        if each.refused is not None:
            raise each.refused
        require_known(each.body, each.name)
    of = f" of {found.source}" if found.source else ""
    count = len(found.servers)
    return f"{file}: {count} server{'s' * (count != 1)}{of}: fine"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)

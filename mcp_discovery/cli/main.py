"""Puts the subcommands together and turns errors into one sentence and an exit code."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

import typer

from mcp_discovery.cli import (
    call,
    config,
    demo,
    describe,
    doctor,
    exporting,
    facade,
    health,
    importing,
    register,
    servers,
    sidecar,
    tools,
    watch,
)
from mcp_discovery.cli.exits import EXPLAINED, INVALID_INPUT, code_of
from mcp_discovery.cli.terminal import forgiving, say
from mcp_discovery.errors import DiscoveryError

app = typer.Typer(
    name="mcp-discovery",
    help="Agents find MCP servers that are alive, by tag and by capability.\n\n"
    "A sidecar next to each MCP server registers it in a store and keeps it there only while it "
    "really answers; a facade watches the store and serves the live list over HTTP.\n\n"
    "Options can also be given by the environment, as their help says: --reap-after is "
    "MCP_DISCOVERY_REAP_AFTER.",
    epilog=EXPLAINED,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _add(name: str, command: Callable[..., None], **settings: Any) -> None:
    """Adds a command; of its docstring, typer would keep the line breaks inside of paragraphs."""
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    told = "\n\n".join(each.replace("\n", " ") for each in paragraphs)
    app.command(name, help=told, **settings)(command)


_add("facade", facade.facade)
_add("sidecar", sidecar.sidecar, context_settings={"allow_interspersed_args": False})
_add("servers", servers.servers)
_add("tools", tools.tools)
_add("describe", describe.describe)
_add("watch", watch.watch)
_add("call", call.call)
_add("register", register.register)
_add("export", exporting.export)
_add("import", importing.import_)
_add("doctor", doctor.doctor)
_add("health", health.health)
app.add_typer(config.app, name="config")
_add("demo", demo.demo)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"mcp-discovery {version('mcp-discovery')}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    pass


def main() -> None:
    """Runs the command line; ends the process with its exit code."""
    forgiving()
    try:
        app()
    except DiscoveryError as error:
        say(f"mcp-discovery: {error}", err=True)
        sys.exit(code_of(error))
    except ValueError as error:
        if type(error) is not ValueError:
            raise
        say(f"mcp-discovery: {error}", err=True)
        sys.exit(INVALID_INPUT)

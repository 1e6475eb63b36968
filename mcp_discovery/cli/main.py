"""Puts the subcommands together and turns errors into one sentence and an exit code."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import typer
from typer.main import get_command

from mcp_discovery.cli import command, failures, options
from mcp_discovery.cli.exit_codes import EXPLAINED, INTERRUPTED
from mcp_discovery.cli.terminal import escape_unencodable

#: The subcommands in the order of the help: the names of modules here, and of functions in these.
_COMMANDS = (
    *("facade", "sidecar", "servers", "tools", "skills", "describe", "history", "watch", "call"),
    *("ask", "query", "register"),
    *("export", "import", "login", "logout", "whoami", "audit", "webhooks", "sync"),
    *("doctor", "health", "config", "token", "demo"),
)
#: Each option of a role is also read from the environment: --ttl from MCP_DISCOVERY_TTL.
_ENVIRONMENT = {"auto_envvar_prefix": "MCP_DISCOVERY"}
_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "facade": {"context_settings": _ENVIRONMENT},
    "sidecar": {"context_settings": {"allow_interspersed_args": False, **_ENVIRONMENT}},
}


def command_line(*names: str) -> typer.Typer:
    """The command line with the subcommands ``names``, by default all of them.

    Only their modules are imported: a sidecar runs beside every MCP server, and pays for no other
    subcommand.
    """
    app = typer.Typer(
        name="mcp-discovery",
        help="Agents find MCP servers that are alive, by tag and by capability.\n\n"
        "A sidecar next to each MCP server registers it in a store and keeps it there only while "
        "it really answers; a facade watches the store and serves the live list over HTTP.\n\n"
        "Options can also be given by the environment, as their help says: --reap-after is "
        "MCP_DISCOVERY_REAP_AFTER.",
        epilog=EXPLAINED,
        cls=command.Group,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    for name in names or _COMMANDS:
        own = "import_" if name == "import" else name
        found = getattr(import_module(f"mcp_discovery.cli.{own}"), own)
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=name)
        else:
            own_and_debug = failures.with_debug(found)
            options.parameters(own_and_debug)
            settings = _SETTINGS.get(name, {})
            app.command(name, cls=command.Command, help=_help(found), **settings)(own_and_debug)
    return app


def _help(command: Callable[..., None]) -> str:
    """A command's docstring, without the line breaks in paragraphs that typer would keep."""
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    return "\n\n".join(each.replace("\n", " ") for each in paragraphs)


def _version(wanted: bool) -> None:
    if wanted:
        from mcp_discovery.version import installed_version

        typer.echo(f"mcp-discovery {installed_version()}")
        raise typer.Exit


def _options(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
    debug: bool = failures.DEBUG,
) -> None:
    pass


def main() -> None:
    """Runs the command line; ends the process with its exit code.

    The one way in of every command, and so the one place where an error is turned into a sentence.
    """
    escape_unencodable()
    failures.install()
    try:
        run = get_command(command_line(*(name for name in sys.argv[1:2] if name in _COMMANDS)))
        sys.exit(run(prog_name="mcp-discovery", standalone_mode=False))
    except typer.Abort:  # Ctrl-C at a question
        sys.exit(INTERRUPTED)
    except Exception as error:  # noqa: BLE001  no command shows a traceback without --debug
        sys.exit(failures.ended_by(error))

"""Puts the subcommands together and turns errors into one sentence and an exit code."""

from __future__ import annotations

import sys

import typer

from mcp_discovery.cli import demo, facade, register, servers, sidecar, watch
from mcp_discovery.cli.exits import EXPLAINED, INVALID_INPUT, code_of
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
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("facade")(facade.facade)
app.command("sidecar", context_settings={"allow_interspersed_args": False})(sidecar.sidecar)
app.command("servers")(servers.servers)
app.command("watch")(watch.watch)
app.command("register")(register.register)
app.command("demo")(demo.demo)


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
    try:
        app()
    except DiscoveryError as error:
        print(f"mcp-discovery: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(code_of(error))
    except ValueError as error:
        if type(error) is not ValueError:
            raise
        print(f"mcp-discovery: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(INVALID_INPUT)

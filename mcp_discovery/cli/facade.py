"""``mcp-discovery facade``: serves the live list over HTTP."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mcp_discovery.cli import options
from mcp_discovery.cli.exit_codes import INVALID_INPUT, PORT_IN_USE
from mcp_discovery.errors import InvalidInputError
from mcp_discovery.extras import require_extra

if TYPE_CHECKING:
    from mcp_discovery.adapters.store import StoreOptions
    from mcp_discovery.facade.options import FacadeOptions


def facade(
    context: typer.Context,
    store: options.Store = "embedded:",
    host: Annotated[
        str,
        typer.Option("--host", envvar="MCP_DISCOVERY_HOST", help="The address to listen on."),
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            "--port",
            envvar="MCP_DISCOVERY_PORT",
            min=0,
            max=65535,
            help="The port to listen on; 0 for a free one, which the log names.",
        ),
    ] = 4000,
    workers: Annotated[
        int,
        typer.Option(
            "--workers",
            envvar="MCP_DISCOVERY_WORKERS",
            min=1,
            max=64,
            help="How many processes serve the port, each a facade of its own over the store, "
            "which they must share: Consul or etcd. For agents that read: registrations with "
            "heartbeats over HTTP need one.",
        ),
    ] = 1,
    probe_public_only: Annotated[
        bool,
        typer.Option(
            "--probe-public-only",
            envvar="MCP_DISCOVERY_PROBE_PUBLIC_ONLY",
            help="Probe posted servers at public addresses only: not on loopback, nor in private "
            "ranges. Link-local and cloud metadata addresses are never probed.",
        ),
    ] = False,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(
            "--cors-origin",
            metavar="ORIGIN",
            envvar="MCP_DISCOVERY_CORS_ORIGIN",
            help="An origin whose pages may read the answers, such as https://console.example.com; "
            "* for all. May be repeated; in the environment separated by spaces.",
        ),
    ] = None,
    public_url: Annotated[
        str | None,
        typer.Option(
            "--public-url",
            metavar="URL",
            envvar="MCP_DISCOVERY_PUBLIC_URL",
            help="Where hosts reach this facade, such as https://mcp.example.com; otherwise the "
            "address that each request went to.",
        ),
    ] = None,
    registry_address: Annotated[
        str,
        typer.Option(
            "--registry-address",
            metavar="instance|facade|URL",
            envvar="MCP_DISCOVERY_REGISTRY_ADDRESS",
            help="Which address the MCP registry API publishes for a server: that of one of its "
            "instances, that of this facade's gateway (with --public-url), or a URL with {name} in "
            "it, such as https://{name}.mcp.example.com/mcp.",
        ),
    ] = "instance",
    gateway: Annotated[
        bool,
        typer.Option(
            "--gateway",
            envvar="MCP_DISCOVERY_GATEWAY",
            help="Pass MCP on to the servers in the list: /gateway/NAME/mcp is one address for all "
            "replicas of a server, whichever of them are alive.",
        ),
    ] = False,
    mcp_call_tool: Annotated[
        bool,
        typer.Option(
            "--mcp-call-tool",
            envvar="MCP_DISCOVERY_MCP_CALL_TOOL",
            help="Offer call_tool to MCP clients of /mcp: they call any tool of any server in the "
            "list through this facade.",
        ),
    ] = False,
    config: options.Config = None,
    json: options.JsonLogs = False,
    log_level: options.LogLevel = "info",
    store_token: options.StoreToken = None,
    store_token_file: options.StoreTokenFile = None,
    store_user: options.StoreUser = None,
    store_password: options.StorePassword = None,
    store_password_file: options.StorePasswordFile = None,
    store_ca: options.StoreCa = None,
    store_cert: options.StoreCert = None,
    store_key: options.StoreKey = None,
) -> None:
    """Watch a store and serve the live list over HTTP.

    With no --store it keeps the list itself, in this process: enough to try it, and for sidecars
    started with --store http://THIS-FACADE:4000. With embedded:///path/file.db the list survives
    a restart. Over Consul or etcd any number of facades are equal, and so are --workers.

    Try: curl 'http://127.0.0.1:4000/servers?tags=products'
    """
    from mcp_discovery.cli import logs

    logs.start(log_level, json=json)
    settings = options_of(context.params)
    given = options.store_options(context.params)
    if workers > 1:
        code = _exit_code_of(lambda: _supervise(workers, store, given, host, port, settings))
    else:
        code = _exit_code_of(lambda: _run(_serve(store, given, host, port, settings)))
    raise typer.Exit(code)


def _exit_code_of(serve: Callable[[], int]) -> int:
    """The exit code of ``serve``, or of its failure to listen, which is printed."""
    try:
        return serve()
    except OSError as error:
        typer.echo(f"mcp-discovery: {error.strerror}; see --host and --port", err=True)
        return PORT_IN_USE if error.errno == errno.EADDRINUSE else INVALID_INPUT


def options_of(parameters: Mapping[str, Any]) -> FacadeOptions:
    """What the command's parameters say; raises :class:`InvalidInputError`."""
    from mcp_discovery.adapters.stores import kind_of
    from mcp_discovery.facade.options import FacadeOptions

    if parameters["workers"] > 1 and kind_of(parameters["store"]).shared_by == "process":
        raise InvalidInputError(
            f"--workers {parameters['workers']} needs a store that they share, and an embedded one "
            "is of one process alone; name Consul or etcd with --store, or leave out --workers"
        )
    if parameters["mcp_call_tool"]:
        require_extra("client", "--mcp-call-tool")
    return FacadeOptions(
        probe_private=not parameters["probe_public_only"],
        cors_origins=tuple(parameters["cors_origin"] or ()),
        registry_address=parameters["registry_address"],
        public_url=parameters["public_url"],
        gateway=parameters["gateway"],
        mcp_call_tool=parameters["mcp_call_tool"],
    )


def _supervise(
    count: int, url: str, given: StoreOptions, host: str, port: int, settings: FacadeOptions
) -> int:
    from mcp_discovery.facade.workers import free_port, supervise

    async def serve(life: int) -> int:
        return await _serve(url, given, host, found, settings, life)

    asyncio.run(_require_usable(url, given))
    found = free_port(host, port)
    return supervise(count, lambda life: _exit_code_of(lambda: _run(serve(life))))


def _run(serving: Coroutine[Any, Any, int]) -> int:
    from mcp_discovery.facade.run import run_in_loop

    return run_in_loop(serving)


async def _require_usable(url: str, given: StoreOptions) -> None:
    """Raises what is wrong with the store's URL and options, once for all workers."""
    from mcp_discovery.adapters import open_store

    async with open_store(url, given):
        pass


async def _serve(
    url: str,
    given: StoreOptions,
    host: str,
    port: int,
    settings: FacadeOptions,
    life: int | None = None,
) -> int:
    from mcp_discovery.adapters import open_store
    from mcp_discovery.adapters.store import new_holder
    from mcp_discovery.facade.run import run

    async with open_store(url, given, holder=new_holder("facade")) as store:
        return await run(store, host, port, options=settings, life=life)

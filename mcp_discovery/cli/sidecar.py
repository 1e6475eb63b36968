"""``mcp-discovery sidecar``: keeps one MCP server registered while it answers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import typer

from mcp_discovery.cli import options, service_links
from mcp_discovery.errors import InvalidInputError, InvalidStoreURLError
from mcp_discovery.telemetry.setup import prepare, telemetry

if TYPE_CHECKING:
    from mcp_discovery.adapters.store import StoreOptions
    from mcp_discovery.sidecar.servers_file import ServersFileSettings
    from mcp_discovery.sidecar.settings import SidecarSettings

#: Titles of the help, where an option stands below what it is for.
_FILE = "Many servers"
_STDIO = "A server that speaks stdio"
_PROCESS = "A server that speaks stdio: its process"
_ENTRANCE = "A server that speaks stdio: who may come in"
_URL = "A server with a URL"
_RECORD = "What is said of the server"
_PROBED = "How the server is probed"
_OWN = "The sidecar's own health"
_CONSUL = "What other programs read in Consul's catalog"
#: Those of options that are for a command that speaks stdio.
BRIDGE = frozenset({_STDIO, _PROCESS, _ENTRANCE})
#: An option that says something of the server, and one that takes seconds.
_fact = partial(typer.Option, rich_help_panel=_RECORD)
_time = partial(
    typer.Option, parser=options.seconds, metavar="TIME", rich_help_panel="Times: 30, 30s, 5m"
)


@options.with_credentials
def sidecar(
    context: typer.Context,
    url: str = typer.Option(
        "",
        show_default=False,
        help="The MCP server's URL as this sidecar reaches it, such as "
        "http://127.0.0.1:8000/mcp. Without a path, /mcp is tried first. Without this option "
        "COMMAND is spoken to over stdio, and served over HTTP.",
    ),
    store: str = typer.Option(metavar="URL", help=options.STORE_HELP),
    command: list[str] | None = typer.Argument(
        None,
        metavar="-- COMMAND",
        help="Starts the MCP server itself. With --url it speaks HTTP: signals are passed on, and "
        "its exit code is the sidecar's. Without --url it speaks stdio: it is kept running and "
        "served over HTTP.",
    ),
    servers: str | None = typer.Option(
        None,
        metavar="FILE",
        help="Instead of one server all those in a host's configuration file, such as "
        "claude_desktop_config.json or .vscode/mcp.json: each is served at /NAME/mcp and "
        "registered by itself. The file is followed.",
        rich_help_panel=_FILE,
    ),
    only: list[str] | None = typer.Option(
        None,
        metavar="NAME",
        help="Only this one of that file; give it again for more. In the environment: separated "
        "by spaces.",
        rich_help_panel=_FILE,
    ),
    listen: str | None = typer.Option(
        None,
        metavar="HOST:PORT",
        help="Where a command that speaks stdio is served, at /mcp. Default: a free port at the "
        "advertised address.",
        rich_help_panel=_STDIO,
    ),
    sessions: str = typer.Option(
        "auto",
        metavar="auto|shared|each",
        help="shared: one process for all sessions. each: a process for every session. auto: a "
        "process for those sessions whose clients can be asked something, one for all others.",
        rich_help_panel=_STDIO,
    ),
    max_sessions: int | None = typer.Option(
        None,
        min=1,
        metavar="N",
        help="How many sessions there may be. Default: 1000, of which 32 have a process.",
        rich_help_panel=_STDIO,
    ),
    idle_timeout: float = typer.Option(
        1800.0,
        parser=options.seconds,
        metavar="TIME",
        help="A session ends after so long without its client.",
        rich_help_panel=_STDIO,
    ),
    env: list[str] | None = typer.Option(
        None,
        metavar="NAME",
        parser=options.single,
        help="Gives the command this variable of the sidecar's environment; it has no other but "
        "PATH, HOME and the like. Give it again for more. In the environment: separated by spaces.",
        rich_help_panel=_PROCESS,
    ),
    env_file: str | None = typer.Option(
        None,
        metavar="FILE",
        help="Gives the command the variables in it, NAME=VALUE a line; read at each start of a "
        "process.",
        rich_help_panel=_PROCESS,
    ),
    cwd: str | None = typer.Option(
        None,
        metavar="DIR",
        help="Where the command runs. Default: where the sidecar does.",
        rich_help_panel=_PROCESS,
    ),
    memory_max: int | None = typer.Option(
        None,
        metavar="SIZE",
        parser=options.size,
        help="A process that has more in memory, with all that it started, is ended and started "
        "again, such as 512m or 2g.",
        rich_help_panel=_PROCESS,
    ),
    cpu_seconds: float | None = typer.Option(
        None,
        metavar="TIME",
        parser=options.seconds,
        help="A process that has used more processor time, with all that it started, is ended and "
        "started again.",
        rich_help_panel=_PROCESS,
    ),
    restart_after: float | None = typer.Option(
        None,
        metavar="TIME",
        parser=options.seconds,
        help="A process that answers nothing for so long is ended and started again; five times as "
        "long while it has a client's request. 0: never. Default: 60.",
        rich_help_panel=_PROCESS,
    ),
    allowed_host: list[str] | None = typer.Option(
        None,
        metavar="HOST",
        help="A name by which clients call it there, such as memory.example.com; addresses, "
        "localhost and the hosts of --listen and --advertise-url are allowed by themselves. Give "
        "it again for more. In the environment: separated by spaces.",
        rich_help_panel=_ENTRANCE,
    ),
    bridge_token_file: str | None = typer.Option(
        None,
        metavar="FILE",
        help="Bearer tokens that let clients in, one a line; followed. Away from loopback this, "
        "--bridge-client-ca or --bridge-open has to be given.",
        rich_help_panel=_ENTRANCE,
    ),
    bridge_client_ca: str | None = typer.Option(
        None,
        metavar="FILE",
        help="PEM file of the CA whose certificates let clients in; followed.",
        rich_help_panel=_ENTRANCE,
    ),
    bridge_cert: str | None = typer.Option(
        None,
        metavar="FILE",
        help="PEM file of the certificate that it is served with, over HTTPS; followed.",
        rich_help_panel=_ENTRANCE,
    ),
    bridge_key: str | None = typer.Option(
        None, metavar="FILE", help="PEM file of its key; followed.", rich_help_panel=_ENTRANCE
    ),
    bridge_open: bool = typer.Option(
        False,
        "--bridge-open",
        help="Let in everybody who reaches it, where a mesh or a network policy asks who comes.",
        rich_help_panel=_ENTRANCE,
    ),
    transport: str = typer.Option(
        "streamable-http",
        help="streamable-http, sse or websocket.",
        rich_help_panel=_URL,
    ),
    server_token: str | None = typer.Option(
        None,
        help="Bearer token for the MCP server; sent to it alone. Better given by the environment.",
        rich_help_panel=_URL,
    ),
    server_token_file: str | None = typer.Option(
        None,
        metavar="FILE",
        help="A file that holds that token instead; it is followed.",
        rich_help_panel=_URL,
    ),
    server_ca: str | None = typer.Option(
        None,
        metavar="FILE",
        help="PEM file of the CA that signed the MCP server's certificate, or of that certificate; "
        "followed. Default: the system's CAs.",
        rich_help_panel=_URL,
    ),
    server_name: str | None = typer.Option(
        None,
        help="The name in the MCP server's certificate, where --url has another host.",
        rich_help_panel=_URL,
    ),
    name: str | None = _fact(
        None, help="The server's name, a DNS label. Default: what the server calls itself."
    ),
    id: str | None = _fact(
        None,
        help="The instance's id, a DNS label. Default: the name and 8 hex digits of the "
        "advertised host and port.",
    ),
    advertise_url: str | None = _fact(
        None,
        help="The URL that agents are given. Default: --url, where a loopback host is replaced "
        "by POD_IP, HOST_IP or the address of the route to the store, unless the store is "
        "local too.",
    ),
    try_advertised: bool = _fact(
        True,
        help="Try now and then whether that URL leads to the server: what answers otherwise there "
        "makes it degraded. Off where this machine is led elsewhere than agents are.",
    ),
    tag: list[str] | None = typer.Option(
        None,
        metavar="TAG",
        parser=options.single,
        help="A tag, a DNS label; give it again for more. In the environment: separated by spaces.",
        rich_help_panel=_RECORD,
    ),
    example_query: list[str] | None = typer.Option(
        None,
        metavar="SENTENCE",
        callback=options.lines,
        help="A question that the server answers, as people ask it: registries find it by that. "
        "Give 2 to 5. In the environment: one a line.",
        rich_help_panel=_RECORD,
    ),
    registry_name: str | None = _fact(
        None,
        metavar="PUBLISHER/NAME",
        help="Its name in MCP registries. Default: local/ and the name.",
    ),
    title: str | None = _fact(None, help="A title for people."),
    description: str | None = _fact(None, help="Default: what the server says of itself."),
    version: str | None = _fact(None, help="A semantic version. Default: the server's."),
    metadata: list[str] | None = typer.Option(
        None,
        metavar="KEY=VALUE",
        help="Anything else, never a secret; give it again for more.",
        rich_help_panel=_RECORD,
    ),
    weight: int = _fact(
        1, min=0, max=65535, metavar="N", help="Its share among the replicas; 0 for a reserve."
    ),
    zone: str | None = _fact(None, help="Where it runs."),
    owner: str | None = _fact(None, help="Who is responsible."),
    kind: str = _fact(
        "server",
        metavar="server|agent",
        help="server: it speaks MCP. agent: it speaks A2A, and --url is where its agent card is.",
    ),
    health_url: str | None = typer.Option(
        None,
        help="A plain HTTP health endpoint that is probed as well.",
        rich_help_panel=_PROBED,
    ),
    health_token: str | None = typer.Option(
        None,
        help="Bearer token for --health-url; sent there alone. Default: the MCP server's, where "
        "both have the same scheme, host and port.",
        rich_help_panel=_PROBED,
    ),
    health_token_file: str | None = typer.Option(
        None,
        metavar="FILE",
        help="A file that holds that token instead; followed.",
        rich_help_panel=_PROBED,
    ),
    fail_after: int | None = options.fail_after(_PROBED),
    ttl: float = _time(10.0, help="An instance unheard of for so long is down."),
    reap_after: float = _time(300.0, help="A down instance unheard of for so long is gone."),
    drain: float = _time(
        5.0,
        help="How long it stays listed as draining after SIGTERM, unless another sidecar with the "
        "same id takes its place.",
    ),
    probe_interval: float | None = _time(
        None,
        help="A server is asked once in so long, and a failure shows within it. Default: a third "
        "of the TTL.",
    ),
    slow_after: float | None = _time(
        None,
        help="A probe that takes longer makes it degraded. Default: a quarter of the probe "
        "interval, at most 1.",
    ),
    health_port: int | None = typer.Option(
        None,
        min=0,
        max=65535,
        help="Answer /healthz, /readyz, /metrics and POST /drain on this port of --health-host.",
        rich_help_panel=_OWN,
    ),
    health_host: str = typer.Option(
        "127.0.0.1",
        help="The address for --health-port; 0.0.0.0 where others look, such as Kubernetes. "
        "/drain is answered to this machine or pod alone.",
        rich_help_panel=_OWN,
    ),
    consul_tag: list[str] | None = typer.Option(
        None,
        metavar="TAG",
        help="A tag for other programs that read Consul, such as traefik.enable=true or "
        "urlprefix-/shop; no tag of the record. Give it again for more. In the environment: "
        "separated by spaces.",
        rich_help_panel=_CONSUL,
    ),
    consul_meta: list[str] | None = typer.Option(
        None,
        metavar="KEY=VALUE",
        help="A value for them in the service's Meta; give it again for more.",
        rich_help_panel=_CONSUL,
    ),
    otlp_endpoint: str | None = options.OTLP_ENDPOINT,
    config: str | None = options.CONFIG,
    json: bool = options.JSON_LOGS,
    log_level: str = options.LOG_LEVEL,
) -> None:
    """Keep one MCP server registered in a store while it really answers MCP.

    Waits for the server, reads what it offers, registers it, and renews the registration only
    after a real MCP round trip. SIGTERM drains, waits and deregisters.

    Beside a running server: mcp-discovery sidecar --store consul://127.0.0.1:8500
    --url http://127.0.0.1:8000/mcp --tag products

    Around it: mcp-discovery sidecar --store … --url … -- python server.py --port 8000

    Around one that speaks stdio: mcp-discovery sidecar --store … --tag memory --
    npx -y @modelcontextprotocol/server-memory

    All of a host: mcp-discovery sidecar --store … --servers ~/.cursor/mcp.json
    """
    from mcp_discovery.cli import logs

    logs.start(log_level, json=json)
    service_links.warn(os.environ)
    prepare(otlp_endpoint)
    settings = file_settings_of(context.params) or settings_of(context.params)
    require_no_embedded(store)
    given = store_options_of(context.params)
    raise typer.Exit(asyncio.run(_run(settings, store, given)))


def file_settings_of(parameters: Mapping[str, Any]) -> ServersFileSettings | None:
    """What they say of a file of servers; ``None`` without one.

    Raises :class:`InvalidInputError`.
    """
    if parameters["servers"] is None:
        if parameters["only"]:
            raise InvalidInputError("--only is for a file of servers; give --servers, too")
        return None
    from mcp_discovery.cli.servers_option import file_settings

    return file_settings(parameters)


def settings_of(parameters: Mapping[str, Any]) -> SidecarSettings:
    """What the command's parameters say; raises :class:`InvalidInputError`."""
    from mcp_discovery.sidecar.settings import SidecarSettings

    given = {
        each.name: parameters[each.name]
        for each in fields(SidecarSettings)
        if each.name in parameters
    }
    token, token_file = options.secret(parameters, "server_token")
    health_token, health_token_file = options.secret(parameters, "health_token")
    given |= {
        "tags": tuple(parameters["tag"] or ()),
        "example_queries": tuple(parameters["example_query"] or ()),
        "metadata": _pairs(parameters, "metadata", "team=shop"),
        "server_token": token,
        "server_token_file": token_file,
        "health_token": health_token,
        "health_token_file": health_token_file,
        "command": tuple(parameters["command"] or ()),
        "allowed_hosts": tuple(parameters["allowed_host"] or ()),
        "env": tuple(parameters["env"] or ()),
    }
    return SidecarSettings(**given)


def require_no_embedded(store: str) -> None:
    """Raises :class:`InvalidStoreURLError` for a store that no sidecar can use."""
    from mcp_discovery.adapters.stores import kind_of

    if kind_of(store).shared_by == "process":
        raise InvalidStoreURLError(
            store,
            "an embedded store lives inside a facade; start `mcp-discovery facade` and give the "
            "sidecar --store http://127.0.0.1:4000",
        )


async def _run(
    settings: SidecarSettings | ServersFileSettings, url: str, given: StoreOptions
) -> int:
    from mcp_discovery.adapters import open_store
    from mcp_discovery.sidecar.run import run
    from mcp_discovery.sidecar.settings import SidecarSettings

    async with telemetry("mcp-discovery-sidecar"), open_store(url, given) as store:
        if isinstance(settings, SidecarSettings):
            return await run(settings, store)
        from mcp_discovery.sidecar.run_file import run_file

        return await run_file(settings, store)


def store_options_of(parameters: Mapping[str, Any]) -> StoreOptions:
    """How the store is opened; raises :class:`InvalidInputError`."""
    return replace(
        options.store_options(parameters),
        catalog_tags=tuple(parameters["consul_tag"] or ()),
        catalog_meta=_pairs(parameters, "consul_meta", "team=shop"),
    )


def _pairs(parameters: Mapping[str, Any], name: str, example: str) -> dict[str, str]:
    given: list[str] = parameters[name] or []
    pairs = dict(each.partition("=")[::2] for each in given)
    if "" in pairs or len(pairs) < len(given) or any("=" not in each for each in given):
        option = "--" + name.replace("_", "-")
        raise InvalidInputError(f"{option} takes KEY=VALUE, each key once, such as {example}")
    return pairs

"""``mcp-discovery sidecar``: keeps one MCP server registered while it answers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mcp_discovery.cli import durations, options

if TYPE_CHECKING:
    from mcp_discovery.adapters.store import StoreOptions
    from mcp_discovery.sidecar.settings import SidecarSettings

_RECORD = "What is said of the server"
_TIMES = "Times: 30, 30s, 5m"


def sidecar(
    context: typer.Context,
    url: Annotated[
        str,
        typer.Option(
            "--url",
            envvar="MCP_DISCOVERY_URL",
            help="The MCP server's URL as this sidecar reaches it, such as "
            "http://127.0.0.1:8000/mcp. Without a path, /mcp is tried first.",
        ),
    ],
    store: options.Store,
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="-- COMMAND",
            help="Starts the MCP server itself, passes signals on and ends with its exit code.",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            envvar="MCP_DISCOVERY_NAME",
            help="The server's name, a DNS label. Default: what the server calls itself.",
            rich_help_panel=_RECORD,
        ),
    ] = None,
    id: Annotated[
        str | None,
        typer.Option(
            "--id",
            envvar="MCP_DISCOVERY_ID",
            help="The instance's id, a DNS label. Default: the name and 8 hex digits of the "
            "advertised host and port.",
            rich_help_panel=_RECORD,
        ),
    ] = None,
    advertise_url: Annotated[
        str | None,
        typer.Option(
            "--advertise-url",
            envvar="MCP_DISCOVERY_ADVERTISE_URL",
            help="The URL that agents are given. Default: --url, where a loopback host is replaced "
            "by POD_IP, HOST_IP or the address of the route to the store, unless the store is "
            "local too.",
            rich_help_panel=_RECORD,
        ),
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(
            "--tag",
            envvar="MCP_DISCOVERY_TAG",
            metavar="TAG",
            help="A tag, a DNS label; give it again for more. In the environment: separated by "
            "spaces.",
            rich_help_panel=_RECORD,
        ),
    ] = None,
    registry_name: Annotated[
        str | None,
        typer.Option(
            envvar="MCP_DISCOVERY_REGISTRY_NAME",
            metavar="PUBLISHER/NAME",
            help="Its name in MCP registries. Default: local/ and the name.",
            rich_help_panel=_RECORD,
        ),
    ] = None,
    title: Annotated[
        str | None,
        typer.Option(
            envvar="MCP_DISCOVERY_TITLE", help="A title for people.", rich_help_panel=_RECORD
        ),
    ] = None,
    description: Annotated[
        str | None,
        typer.Option(
            envvar="MCP_DISCOVERY_DESCRIPTION",
            help="Default: what the server says of itself.",
            rich_help_panel=_RECORD,
        ),
    ] = None,
    version: Annotated[
        str | None,
        typer.Option(
            envvar="MCP_DISCOVERY_VERSION",
            help="A semantic version. Default: the server's.",
            rich_help_panel=_RECORD,
        ),
    ] = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option(
            envvar="MCP_DISCOVERY_METADATA",
            metavar="KEY=VALUE",
            help="Anything else, never a secret; give it again for more.",
            rich_help_panel=_RECORD,
        ),
    ] = None,
    weight: Annotated[
        int,
        typer.Option(
            envvar="MCP_DISCOVERY_WEIGHT",
            help="Its share among the replicas.",
            rich_help_panel=_RECORD,
        ),
    ] = 1,
    zone: Annotated[
        str | None,
        typer.Option(envvar="MCP_DISCOVERY_ZONE", help="Where it runs.", rich_help_panel=_RECORD),
    ] = None,
    owner: Annotated[
        str | None,
        typer.Option(
            envvar="MCP_DISCOVERY_OWNER", help="Who is responsible.", rich_help_panel=_RECORD
        ),
    ] = None,
    transport: Annotated[
        str,
        typer.Option(
            envvar="MCP_DISCOVERY_TRANSPORT",
            help="streamable-http, sse or websocket.",
            rich_help_panel=_RECORD,
        ),
    ] = "streamable-http",
    health_url: Annotated[
        str | None,
        typer.Option(
            envvar="MCP_DISCOVERY_HEALTH_URL",
            help="A plain HTTP health endpoint that is probed as well.",
        ),
    ] = None,
    server_token: Annotated[
        str | None,
        typer.Option(
            envvar="MCP_DISCOVERY_SERVER_TOKEN",
            help="Bearer token for the MCP server; sent to it alone. Better given by the "
            "environment.",
        ),
    ] = None,
    server_token_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            envvar="MCP_DISCOVERY_SERVER_TOKEN_FILE",
            help="A file that holds that token instead; read at the start.",
        ),
    ] = None,
    ttl: Annotated[
        float,
        typer.Option(
            "--ttl",
            envvar="MCP_DISCOVERY_TTL",
            parser=durations.seconds,
            metavar=durations.METAVAR,
            help="An instance unheard of for so long is down.",
            rich_help_panel=_TIMES,
        ),
    ] = 10.0,
    reap_after: Annotated[
        float,
        typer.Option(
            "--reap-after",
            envvar="MCP_DISCOVERY_REAP_AFTER",
            parser=durations.seconds,
            metavar=durations.METAVAR,
            help="A down instance unheard of for so long is gone.",
            rich_help_panel=_TIMES,
        ),
    ] = 300.0,
    drain: Annotated[
        float,
        typer.Option(
            "--drain",
            envvar="MCP_DISCOVERY_DRAIN",
            parser=durations.seconds,
            metavar=durations.METAVAR,
            help="How long it stays listed as draining after SIGTERM.",
            rich_help_panel=_TIMES,
        ),
    ] = 5.0,
    probe_interval: Annotated[
        float | None,
        typer.Option(
            envvar="MCP_DISCOVERY_PROBE_INTERVAL",
            parser=durations.seconds,
            metavar=durations.METAVAR,
            help="The time within which a failure shows. Default: a third of the TTL.",
            rich_help_panel=_TIMES,
        ),
    ] = None,
    slow_after: Annotated[
        float | None,
        typer.Option(
            envvar="MCP_DISCOVERY_SLOW_AFTER",
            parser=durations.seconds,
            metavar=durations.METAVAR,
            help="A probe that takes longer makes it degraded. Default: a quarter of the probe "
            "interval, at most 1.",
            rich_help_panel=_TIMES,
        ),
    ] = None,
    health_port: Annotated[
        int | None,
        typer.Option(
            envvar="MCP_DISCOVERY_HEALTH_PORT",
            help="Answer /healthz, /readyz, /metrics and POST /drain on this port of "
            "--health-host.",
        ),
    ] = None,
    health_host: Annotated[
        str,
        typer.Option(
            envvar="MCP_DISCOVERY_HEALTH_HOST",
            help="The address for --health-port; 0.0.0.0 where others look, such as Kubernetes. "
            "/drain is answered to this machine or pod alone.",
        ),
    ] = "127.0.0.1",
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
    """Keep one MCP server registered in a store while it really answers MCP.

    Waits for the server, reads what it offers, registers it, and renews the registration only
    after a real MCP round trip. SIGTERM drains, waits and deregisters.

    Beside a running server: mcp-discovery sidecar --store consul://127.0.0.1:8500
    --url http://127.0.0.1:8000/mcp --tag products

    Around it: mcp-discovery sidecar --store … --url … -- python server.py --port 8000
    """
    from mcp_discovery.cli import logs

    logs.start(log_level, json=json)
    require_no_embedded(store)
    settings = settings_of(context.params)
    given = options.store_options(context.params)
    raise typer.Exit(asyncio.run(_run(settings, store, given)))


def settings_of(parameters: Mapping[str, Any], *, read: bool = True) -> SidecarSettings:
    """What the command's parameters say; without ``read``, files of secrets are left alone.

    Raises :class:`InvalidInputError`.
    """
    from mcp_discovery.sidecar.settings import SidecarSettings

    given = {
        each.name: parameters[each.name]
        for each in fields(SidecarSettings)
        if each.name in parameters
    }
    given |= {
        "tags": tuple(parameters["tag"] or ()),
        "metadata": _pairs(parameters["metadata"] or []),
        "server_token": options.secret(parameters, "server_token", read=read),
        "command": tuple(parameters["command"] or ()),
    }
    return SidecarSettings(**given)


def require_no_embedded(store: str) -> None:
    """Raises :class:`InvalidStoreURLError` for a store that no sidecar can use."""
    from mcp_discovery.adapters.stores import kind_of
    from mcp_discovery.errors import InvalidStoreURLError

    if kind_of(store).shared_by == "process":
        raise InvalidStoreURLError(
            store,
            "an embedded store lives inside a facade; start `mcp-discovery facade` and give the "
            "sidecar --store http://127.0.0.1:4000",
        )


async def _run(settings: SidecarSettings, url: str, given: StoreOptions) -> int:
    from mcp_discovery.adapters import open_store
    from mcp_discovery.sidecar.run import run

    async with open_store(url, given) as store:
        return await run(settings, store)


def _pairs(given: list[str]) -> dict[str, str]:
    from mcp_discovery.errors import InvalidInputError

    pairs = dict(each.partition("=")[::2] for each in given)
    if "" in pairs or len(pairs) < len(given) or any("=" not in each for each in given):
        raise InvalidInputError("--metadata takes KEY=VALUE, each key once, such as team=shop")
    return pairs

"""``mcp-discovery doctor``: what is wrong between here and the servers, and what to do about it."""

from __future__ import annotations

from typing import Annotated

import typer

from mcp_discovery.adapters import stores
from mcp_discovery.cli import completion, durations, options
from mcp_discovery.cli.exit_codes import run

_STORE = "Which store to check as well"


def doctor(
    context: typer.Context,
    facade: options.Facade = options.FACADE,
    facade_token: options.FacadeToken = None,
    server: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Check this server end to end, by its name or an instance's id.",
            autocompletion=completion.names_and_ids,
        ),
    ] = None,
    server_token: Annotated[
        str | None,
        typer.Option(
            metavar="TOKEN",
            envvar="MCP_DISCOVERY_SERVER_TOKEN",
            help="Bearer token for that server. Better given by the environment.",
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            metavar="URL",
            envvar="MCP_DISCOVERY_STORE",
            help=f"Check this store, as sidecars are given it: {stores.help_text()}",
        ),
    ] = None,
    read_only: Annotated[
        bool,
        typer.Option(
            "--read-only",
            help="Do not try whether the store can be written to; otherwise an instance is "
            "registered as draining for a moment and removed again.",
        ),
    ] = False,
    dns: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="Check this DNS server of Consul or CoreDNS: 127.0.0.1:8600."
        ),
    ] = None,
    dns_domain: Annotated[
        str, typer.Option(metavar="DOMAIN", help="What follows a tag in DNS names.")
    ] = "mcp.service.consul",
    tag: Annotated[
        str | None,
        typer.Option(
            metavar="TAG",
            help="The tag to ask DNS for. Default: one that the facade lists.",
            autocompletion=completion.tags,
        ),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option(
            parser=durations.positive,
            metavar=durations.METAVAR,
            help="For each check.",
            show_default="5s",
        ),
    ] = 5.0,
    json: options.Json = False,
    store_token: options.StoreToken = None,
    store_token_file: options.StoreTokenFile = None,
    store_user: options.StoreUser = None,
    store_password: options.StorePassword = None,
    store_password_file: options.StorePasswordFile = None,
    store_ca: options.StoreCa = None,
    store_cert: options.StoreCert = None,
    store_key: options.StoreKey = None,
) -> None:
    """Check facade, store, clock, DNS and one server, and say what is wrong in words.

    A check that could not be made is said to be so, and never counts as passed. The exit code is 1
    when anything is wrong.

    Try: mcp-discovery doctor --store consul://127.0.0.1:8500 --dns 127.0.0.1:8600 --server shop
    """
    from mcp_discovery.cli import logs
    from mcp_discovery.cli.doctor.case import Case, endpoint_of_dns

    options.check_url(facade)
    logs.start("error", json=False)
    case = Case(
        facade=facade.rstrip("/"),
        facade_token=facade_token,
        store=store,
        credentials=options.store_options(context.params),
        read_only=read_only,
        server=server,
        server_token=server_token,
        dns=endpoint_of_dns(dns) if dns else None,
        dns_domain=dns_domain.strip("."),
        tag=tag,
        timeout=timeout,
    )

    async def work() -> int:
        from mcp_discovery.cli.doctor.checks import examine

        return await examine(case, json=json)

    run(work())

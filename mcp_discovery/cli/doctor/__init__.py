"""``mcp-discovery doctor``: what is wrong between here and the servers, and what to do about it."""

from __future__ import annotations

import typer

from mcp_discovery.adapters import stores
from mcp_discovery.cli import completion, options
from mcp_discovery.cli.exit_codes import run
from mcp_discovery.errors import InvalidInputError

_STORE = "Which store to check as well"


@options.with_credentials
def doctor(
    context: typer.Context,
    command: list[str] | None = typer.Argument(
        None,
        metavar="-- COMMAND",
        help="Start this MCP server, which speaks stdio, once, and check it alone.",
    ),
    env: list[str] | None = typer.Option(
        None,
        metavar="NAME",
        parser=options.single,
        help="Give COMMAND this variable; it has no other but PATH, HOME and the like. Again for "
        "more.",
    ),
    env_file: str | None = typer.Option(
        None, metavar="FILE", help="Give COMMAND the variables in it, NAME=VALUE a line."
    ),
    facade: str = options.FACADE,
    facade_token: str | None = options.FACADE_TOKEN,
    facade_token_file: str | None = options.FACADE_TOKEN_FILE,
    server: str | None = typer.Option(
        None,
        metavar="NAME",
        help="Check this server end to end, by its name or an instance's id.",
        autocompletion=completion.names_and_ids,
    ),
    server_token: str | None = typer.Option(
        None,
        metavar="TOKEN",
        envvar="MCP_DISCOVERY_SERVER_TOKEN",
        help="Bearer token for that server. Better given by the environment.",
    ),
    server_token_file: str | None = typer.Option(
        None,
        metavar="FILE",
        envvar="MCP_DISCOVERY_SERVER_TOKEN_FILE",
        help="A file that holds that token instead.",
    ),
    server_ca: str | None = typer.Option(
        None,
        metavar="FILE",
        envvar="MCP_DISCOVERY_SERVER_CA",
        help="PEM file of the CA that signed that server's certificate.",
    ),
    store: str | None = typer.Option(
        None,
        metavar="URL",
        envvar="MCP_DISCOVERY_STORE",
        help=f"Check this store, as sidecars are given it: {stores.help_text()}",
    ),
    role: str = typer.Option(
        "sidecar",
        "--as",
        metavar="sidecar|facade",
        help="Check the store's credentials as a sidecar's, which registers one server, or as a "
        "facade's, which reads the list.",
    ),
    name: str | None = typer.Option(
        None,
        metavar="NAME",
        help="The server whose sidecar is meant, where the credentials are for that one alone; "
        "with each --tag of it where DNS names are in etcd.",
    ),
    read_only: bool = typer.Option(
        False,
        "--read-only",
        help="Do not try whether the store can be written to, but ask it; otherwise an instance "
        "of that server is registered as draining for a moment and removed again.",
    ),
    dns: str | None = typer.Option(
        None,
        metavar="HOST:PORT",
        help="Check this DNS server of Consul or CoreDNS: 127.0.0.1:8600.",
    ),
    dns_domain: str | None = typer.Option(
        None,
        metavar="DOMAIN",
        help="What follows a tag in DNS names. Default: by --store, such as mcp.service.consul.",
    ),
    tag: list[str] | None = typer.Option(
        None,
        metavar="TAG",
        help="The tag to ask DNS for, the first where there are several. Default: one that the "
        "facade lists.",
        autocompletion=completion.tags,
    ),
    timeout: float = options.timeout(5.0, "For each check.", "5s"),
    json: bool = options.JSON,
) -> None:
    """Check facade, store, clock, DNS and one server, and say what is wrong in words.

    A check that could not be made is said to be so, and never counts as passed. The exit code is 1
    when anything is wrong.

    With a COMMAND, such as `-- npx -y @modelcontextprotocol/server-memory`, that alone is checked:
    whether it is an MCP server over stdio, and why not.

    Try: mcp-discovery doctor --store consul://127.0.0.1:8500 --dns 127.0.0.1:8600 --server shop
    """
    from mcp_discovery.cli import logs
    from mcp_discovery.cli.doctor.case import Case, endpoint_of_dns, parse_role

    options.check_url(facade)
    logs.start("error", json=False)
    case = Case(
        facade=facade.rstrip("/"),
        facade_token=facade_token,
        facade_token_file=facade_token_file,
        store=store,
        credentials=options.store_options(context.params),
        role=parse_role(role),
        name=name,
        read_only=read_only,
        server=server,
        server_token=server_token,
        server_token_file=server_token_file,
        server_ca=server_ca,
        dns=endpoint_of_dns(dns) if dns else None,
        dns_domain=dns_domain.strip(".") if dns_domain else None,
        tags=tuple(tag or ()),
        command=tuple(command or ()),
        env=tuple(env or ()),
        env_file=env_file,
        timeout=timeout,
    )

    if case.command:
        case.program()  # raises where a variable is not set
    elif env or env_file:
        raise InvalidInputError("--env and --env-file go with a COMMAND")
    case.probe()  # raises where name or tag can be none

    async def work() -> int:
        from mcp_discovery.cli.doctor.checks import examine

        return await examine(case, json=json)

    run(work())

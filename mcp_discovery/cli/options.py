"""Options that several subcommands share, and what they make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mcp_discovery.errors import InvalidInput

if TYPE_CHECKING:
    from adapters.store import StoreOptions

_CREDENTIALS = "Credentials for the store"

Store = Annotated[
    str,
    typer.Option(
        "--store",
        metavar="URL",
        envvar="MCP_DISCOVERY_STORE",
        help="Where registrations are kept: consul://host:8500, "
        "etcd://host1:2379,host2:2379/prefix, http://facade:4000 (a facade's own list), "
        "embedded: or embedded:///path/file.db (facade only). With TLS: consul+https://, "
        "etcd+https://, https://.",
    ),
]
StoreToken = Annotated[
    str | None,
    typer.Option(
        "--store-token",
        envvar="MCP_DISCOVERY_STORE_TOKEN",
        show_envvar=True,
        help="Consul ACL token, or bearer token of a facade. Better given by the environment.",
        rich_help_panel=_CREDENTIALS,
    ),
]
StoreUser = Annotated[
    str | None,
    typer.Option(
        "--store-user",
        envvar="MCP_DISCOVERY_STORE_USER",
        help="etcd user.",
        rich_help_panel=_CREDENTIALS,
    ),
]
StorePassword = Annotated[
    str | None,
    typer.Option(
        "--store-password",
        envvar="MCP_DISCOVERY_STORE_PASSWORD",
        help="etcd password. Better given by the environment.",
        rich_help_panel=_CREDENTIALS,
    ),
]
StoreCa = Annotated[
    str | None,
    typer.Option(
        "--store-ca",
        metavar="FILE",
        envvar="MCP_DISCOVERY_STORE_CA",
        help="PEM file of the CA that signed the store's certificate.",
        rich_help_panel=_CREDENTIALS,
    ),
]
StoreCert = Annotated[
    str | None,
    typer.Option(
        "--store-cert",
        metavar="FILE",
        envvar="MCP_DISCOVERY_STORE_CERT",
        help="PEM file of the client certificate.",
        rich_help_panel=_CREDENTIALS,
    ),
]
StoreKey = Annotated[
    str | None,
    typer.Option(
        "--store-key",
        metavar="FILE",
        envvar="MCP_DISCOVERY_STORE_KEY",
        help="PEM file of the client certificate's key.",
        rich_help_panel=_CREDENTIALS,
    ),
]
Facade = Annotated[
    str,
    typer.Option(
        "--facade",
        metavar="URL",
        envvar="MCP_DISCOVERY_FACADE",
        help="The facade to ask.",
    ),
]
FacadeToken = Annotated[
    str | None,
    typer.Option(
        "--facade-token",
        metavar="TOKEN",
        envvar="MCP_DISCOVERY_FACADE_TOKEN",
        help="Bearer token that a proxy before the facade asks for. Better given by the "
        "environment.",
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", envvar="MCP_DISCOVERY_JSON", help="One JSON object a line."),
]
JsonLogs = Annotated[
    bool,
    typer.Option(
        "--json", envvar="MCP_DISCOVERY_JSON", help="Log one JSON object a line instead of text."
    ),
]
LogLevel = Annotated[
    str,
    typer.Option(
        "--log-level",
        metavar="LEVEL",
        envvar="MCP_DISCOVERY_LOG_LEVEL",
        help="debug, info, warning or error.",
    ),
]
FACADE = "http://127.0.0.1:4000"


def check_url(facade: str) -> None:
    """Raises :class:`InvalidInput` when ``facade`` is no HTTP URL."""
    if not facade.startswith(("http://", "https://")):
        raise InvalidInput(f"--facade {facade!r} is not an HTTP URL; write http://127.0.0.1:4000")


def store_options(
    token: str | None,
    user: str | None,
    password: str | None,
    ca: str | None,
    cert: str | None,
    key: str | None,
) -> StoreOptions:
    """What the credential options say."""
    from adapters.store import StoreOptions

    return StoreOptions(token=token, user=user, password=password, ca=ca, certificate=cert, key=key)

"""Options that several subcommands share, and what they make."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mcp_discovery.adapters import stores
from mcp_discovery.errors import InvalidInputError

if TYPE_CHECKING:
    from mcp_discovery.adapters.store import StoreOptions

_CREDENTIALS = "Credentials for the store"


def _use_config(context: typer.Context, file: str | None) -> str | None:
    if file is not None and not context.resilient_parsing:
        from mcp_discovery.cli import config, settings_file

        settings_file.use(context, config.ROLES[str(context.info_name)], file)
    return file


Store = Annotated[
    str,
    typer.Option(
        "--store",
        metavar="URL",
        envvar="MCP_DISCOVERY_STORE",
        help=f"Where registrations are kept: {stores.help_text()}",
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
StoreTokenFile = Annotated[
    str | None,
    typer.Option(
        "--store-token-file",
        metavar="FILE",
        envvar="MCP_DISCOVERY_STORE_TOKEN_FILE",
        help="A file that holds the token instead, as mounted secrets do; read at the start.",
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
StorePasswordFile = Annotated[
    str | None,
    typer.Option(
        "--store-password-file",
        metavar="FILE",
        envvar="MCP_DISCOVERY_STORE_PASSWORD_FILE",
        help="A file that holds the password instead; read at the start.",
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
Config = Annotated[
    str | None,
    typer.Option(
        "--config",
        metavar="FILE",
        envvar="MCP_DISCOVERY_CONFIG",
        help="YAML with these options by their names, below facade: or sidecar:. The command line "
        "and the environment go before it. See: mcp-discovery config schema.",
        is_eager=True,
        callback=_use_config,
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
    """Raises :class:`InvalidInputError` when ``facade`` is no HTTP URL."""
    if not facade.startswith(("http://", "https://")):
        raise InvalidInputError(
            f"--facade {facade!r} is not an HTTP URL; write http://127.0.0.1:4000"
        )


def store_options(parameters: Mapping[str, Any], *, read: bool = True) -> StoreOptions:
    """What the credential options say; without ``read``, files of secrets are left alone.

    Raises :class:`InvalidInputError`.
    """
    from mcp_discovery.adapters.store import StoreOptions

    return StoreOptions(
        token=secret(parameters, "store_token", read=read),
        user=parameters["store_user"],
        password=secret(parameters, "store_password", read=read),
        ca=parameters["store_ca"],
        certificate=parameters["store_cert"],
        key=parameters["store_key"],
    )


def secret(parameters: Mapping[str, Any], name: str, *, read: bool = True) -> str | None:
    """The secret that is given itself, or in a file; raises :class:`InvalidInputError`."""
    given, file = parameters[name], parameters[f"{name}_file"]
    option = "--" + name.replace("_", "-")
    if given is not None and file is not None:
        raise InvalidInputError(f"{option} and {option}-file are both given; give one of them")
    if file is None or not read:
        return given if file is None else None
    try:
        text = Path(file).read_text().strip()
    except OSError as error:
        raise InvalidInputError(f"{option}-file: cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{option}-file: {file} is not text") from error
    if not text:
        raise InvalidInputError(f"{option}-file: {file} is empty")
    return text

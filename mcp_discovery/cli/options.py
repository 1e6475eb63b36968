"""Options that several subcommands share, and what they make."""

from __future__ import annotations

import functools
import inspect
import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import typer
from typer.models import ParameterInfo, ParamMeta
from typer.utils import get_params_from_function

from mcp_discovery import health
from mcp_discovery.adapters import stores
from mcp_discovery.errors import DiscoveryError, InvalidInputError

if TYPE_CHECKING:
    from mcp_discovery.adapters.store import StoreOptions
    from mcp_discovery.oauth import ClientCredentials

#: Spans of time as options take them: ``30``, ``30s``, ``5m``.
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
#: How a flag's value is written in the environment or a file.
_TRUTH = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|m|h|d)?", re.ASCII)

_SIZE = re.compile(r"(\d{1,18}(?:\.\d*)?)\s*([bkmg])?(?:i?b)?", re.ASCII)


def seconds(text: str | float) -> float:
    """How many seconds ``text`` is: a number, alone or with ms, s, m, h or d.

    Raises :class:`typer.BadParameter`.
    """
    if isinstance(text, int | float):
        return float(text)
    found = _DURATION.fullmatch(text.strip().lower())
    if found is None:
        raise typer.BadParameter(f"{text[:40]!r} is no time; write 30 (seconds), 30s, 5m or 2h")
    return float(found[1]) * _UNITS[found[2] or "s"]


def size(text: str | int) -> int:
    """How many bytes ``text`` is: a number, alone or with k, m or g (of 1024), as Docker has them.

    Raises :class:`typer.BadParameter`.
    """
    found = _SIZE.fullmatch(str(text).strip().lower())
    if found is None:
        raise typer.BadParameter(f"{str(text)[:40]!r} is no size; write 512m or 2g")
    return int(float(found[1]) * 1024 ** "bkmg".index(found[2] or "b"))


def positive(text: str | float) -> float:
    """As :func:`seconds`, above 0."""
    found = seconds(text)
    if found <= 0:
        raise typer.BadParameter("it has to be above 0")
    return found


def probe_interval(text: str | float) -> float:
    """As :func:`seconds`, from 1 second to a day."""
    found = seconds(text)
    if not 1 <= found <= 86400:
        raise typer.BadParameter("give 1 second to 1 day, such as 10s")
    return found


class SeveralValuesError(DiscoveryError, typer.BadParameter):
    """Several values, separated by commas, where an option is given again for each."""

    def __init__(self, parts: list[str]) -> None:
        typer.BadParameter.__init__(self, f"give each by itself: {', '.join(parts)}")
        self.parts = parts


def single(text: str) -> str:
    """``text``, of an option that may be given again, and whose values have no comma.

    Raises :class:`SeveralValuesError`.
    """
    parts = [each.strip() for each in text.split(",")]
    if len(parts) > 1:
        raise SeveralValuesError(list(filter(None, parts)))
    return text


def lines(
    context: typer.Context, option: typer.CallbackParam, value: Sequence[str] | None
) -> list[str]:
    """A callback for texts with blanks, of an option that may be given again: in the environment
    they stand one a line, where typer would take each word for one."""
    name = str(option.name)
    source = context.get_parameter_source(name)
    if source is None or source.name != "ENVIRONMENT":
        return list(value or ())
    text = os.environ[f"MCP_DISCOVERY_{name.upper()}"]
    return [each for each in text.splitlines() if each.strip()]


def whole(least: float | None, most: float | None) -> Callable[[str | int], int]:
    """A parser of whole numbers from ``least`` to ``most``; it raises
    :class:`typer.BadParameter`."""
    hint = "write it in digits"
    if least is not None:
        hint = f"give {least:g} " + ("or more" if most is None else f"to {most:g}")

    def parse(text: str | int) -> int:
        if re.fullmatch(r"[-+]?\d{1,18}", str(text).strip(), re.ASCII) is None:
            raise typer.BadParameter(f"{str(text)[:40]!r} is no whole number; {hint}")
        number = int(text)
        if (least is not None and number < least) or (most is not None and number > most):
            raise typer.BadParameter(f"{number} is out of range; {hint}")
        return number

    return parse


def truth(text: str | bool) -> bool:
    """Whether a flag is set in the environment or a file; raises :class:`typer.BadParameter`."""
    if isinstance(text, bool):
        return text
    if (found := _TRUTH.get(text.strip().lower())) is None:
        raise typer.BadParameter(f"{text[:40]!r} is neither true nor false")
    return found


def parameters(command: Callable[..., Any]) -> dict[str, ParamMeta]:
    """The parameters of a command. Those that take a whole number or a truth value get the parser
    of their kind: so a value is refused in the same words wherever it is given."""
    for each in inspect.signature(command, eval_str=True).parameters.values():
        info = each.default
        if not isinstance(info, ParameterInfo):
            continue
        kinds = {each.annotation, *get_args(each.annotation)}
        if info.parser is None and int in kinds:
            info.parser = whole(info.min, info.max)
        elif info.parser is None and bool in kinds:
            info.parser = truth
        elif info.parser in _TIMES and info.show_default is True and info.default is not None:
            info.show_default = f"{info.default:g}s"
    return get_params_from_function(command)


def _use_config(context: typer.Context, file: str | None) -> str | None:
    if file is not None and not context.resilient_parsing:
        from mcp_discovery.cli import config, settings_file

        settings_file.use(context, config.ROLES[str(context.info_name)], file)
    return file


_TIMES = (seconds, positive, probe_interval)

FACADE_URL = "http://127.0.0.1:4000"
STORE_HELP = f"Where registrations are kept: {stores.help_text()}"
CONFIG: Any = typer.Option(
    None,
    metavar="FILE",
    help="YAML with these options by their names, below facade: or sidecar:. The command line "
    "and the environment go before it. See: mcp-discovery config schema.",
    is_eager=True,
    callback=_use_config,
)
FACADE: Any = typer.Option(
    FACADE_URL, metavar="URL", envvar="MCP_DISCOVERY_FACADE", help="The facade to ask."
)
FACADE_TOKEN: Any = typer.Option(
    None,
    metavar="TOKEN",
    envvar="MCP_DISCOVERY_FACADE_TOKEN",
    help="Bearer token for the facade, or a proxy before it. Better given by the environment. "
    "Default: that of mcp-discovery login.",
)
FACADE_TOKEN_FILE: Any = typer.Option(
    None,
    metavar="FILE",
    envvar="MCP_DISCOVERY_FACADE_TOKEN_FILE",
    help="A file that holds that token instead; it is followed.",
)
JSON: Any = typer.Option(
    False, "--json", envvar="MCP_DISCOVERY_JSON", help="One JSON object a line."
)
OTLP_ENDPOINT: Any = typer.Option(
    None,
    metavar="URL",
    help="Send traces, metrics and logs there over OTLP/HTTP, to a collector such as "
    "http://127.0.0.1:4318; wants the extra otel. All else is set by OpenTelemetry's own variables "
    "(such as OTEL_TRACES_SAMPLER), which turn it on, too.",
)
JSON_LOGS: Any = typer.Option(False, "--json", help="Log one JSON object a line instead of text.")
LOG_LEVEL: Any = typer.Option("info", metavar="LEVEL", help="debug, info, warning or error.")
#: Name, metavar and help of the options for the store's credentials.
_CREDENTIALS = (
    (
        "store_token",
        None,
        "Consul ACL token, or bearer token of a facade. Better given by the environment.",
    ),
    (
        "store_token_file",
        "FILE",
        "A file that holds the token instead, as mounted secrets do; it is followed.",
    ),
    (
        "store_oauth_issuer",
        "URL",
        "OAuth issuer that this asks for its token for a facade, as a client of its own (client "
        "credentials).",
    ),
    ("store_oauth_client_id", "ID", "That client."),
    ("store_oauth_client_secret", None, "Its secret. Better given by the environment."),
    ("store_oauth_client_secret_file", "FILE", "A file that holds it instead; it is followed."),
    ("store_oauth_scope", "SCOPES", "The scopes to ask for, separated by blanks."),
    (
        "store_oauth_resource",
        "URI",
        "Whom the token is for. Default: the store's URL; none sends none, for issuers that take "
        "scopes alone.",
    ),
    ("store_user", None, "etcd user."),
    ("store_password", None, "etcd password. Better given by the environment."),
    ("store_password_file", "FILE", "A file that holds the password instead; it is followed."),
    ("store_ca", "FILE", "PEM file of the CA that signed the store's certificate; followed."),
    ("store_cert", "FILE", "PEM file of the client certificate; followed."),
    ("store_key", "FILE", "PEM file of the client certificate's key; followed."),
)


def fail_after(panel: str | None = None) -> Any:
    """``--fail-after``, below the title ``panel`` of the help."""
    return typer.Option(
        None,
        metavar="N",
        min=health.FAIL_AFTER[0],
        max=health.FAIL_AFTER[-1],
        help="After how many bad answers in a row it is down; until then it is degraded, with the "
        "reason. Default: 2 for HTTP 502, 503, 504 and time-outs, 1 for all others. HTTP 429 never "
        "makes it down.",
        rich_help_panel=panel,
    )


def timeout(default: float, help: str, shown: str) -> Any:
    """``--timeout`` in seconds, above 0, of which the help shows the default as ``shown``."""
    return typer.Option(default, parser=positive, metavar="TIME", help=help, show_default=shown)


def with_credentials(command: Callable[..., None]) -> Callable[..., None]:
    """Gives ``command`` the options that :func:`store_options` reads from its context."""

    @functools.wraps(command)
    def without_credentials(**given: Any) -> None:
        command(**{name: given[name] for name in own})

    own = inspect.signature(command, eval_str=True).parameters
    credentials = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            annotation=str | None,
            default=typer.Option(
                None,
                metavar=metavar,
                envvar=f"MCP_DISCOVERY_{name.upper()}",
                help=help,
                rich_help_panel="Credentials for the store",
            ),
        )
        for name, metavar, help in _CREDENTIALS
    ]
    signature = inspect.Signature([*own.values(), *credentials])
    without_credentials.__signature__ = signature  # type: ignore[attr-defined]
    return without_credentials


def check_url(facade: str) -> None:
    """Raises :class:`InvalidInputError` when ``facade`` is no facade's address."""
    from mcp_discovery.facade_url import facade_url_problem, without_secrets

    if (problem := facade_url_problem(facade)) is not None:
        raise InvalidInputError(f"--facade {without_secrets(facade)!r} {problem}")


def store_options(parameters: Mapping[str, Any]) -> StoreOptions:
    """What the credential options say; raises :class:`InvalidInputError`."""
    from mcp_discovery.adapters.store import StoreOptions

    token, token_file = secret(parameters, "store_token")
    machine = _machine(parameters)
    if machine is not None and (token or token_file):
        raise InvalidInputError("a store token and an OAuth issuer are both given; give one")
    password, password_file = secret(parameters, "store_password")
    return StoreOptions(
        token=machine or token,
        token_file=token_file,
        user=parameters["store_user"],
        password=password,
        password_file=password_file,
        ca=parameters["store_ca"],
        certificate=parameters["store_cert"],
        key=parameters["store_key"],
    )


def _machine(parameters: Mapping[str, Any]) -> ClientCredentials | None:
    """The OAuth client that the options name; raises :class:`InvalidInputError`."""
    given = {
        name: parameters[f"store_oauth_{name}"]
        for name in ("issuer", "client_id", "client_secret", "client_secret_file", "scope")
    }
    if not any(given.values()):
        return None
    client_secret, file = secret(parameters, "store_oauth_client_secret")
    issuer, client_id = given["issuer"], given["client_id"]
    if issuer is None or client_id is None or client_secret is file is None:
        raise InvalidInputError(
            "a token by OAuth needs --store-oauth-issuer, --store-oauth-client-id and "
            "--store-oauth-client-secret-file"
        )
    store = parameters.get("store") or ""
    if not store.startswith(("http://", "https://")):
        raise InvalidInputError("--store-oauth-issuer is for a facade's token: --store https://…")
    from mcp_discovery.oauth import ClientCredentials

    resource = parameters["store_oauth_resource"] or store.rstrip("/")
    return ClientCredentials(
        issuer,
        client_id,
        client_secret=client_secret,
        client_secret_file=file,
        scope=given["scope"],
        resource=None if resource == "none" else resource,
    )


def secret(parameters: Mapping[str, Any], name: str) -> tuple[str | None, str | None]:
    """The secret that is given itself, and the file that holds it; raises
    :class:`InvalidInputError` where both are given."""
    given, file = parameters[name], parameters[f"{name}_file"]
    if given is not None and file is not None:
        option = "--" + name.replace("_", "-")
        raise InvalidInputError(f"{option} and {option}-file are both given; give one of them")
    if file is not None and stat.S_ISFIFO(_mode(file)):
        return Path(file).read_text().strip(), None  # <(command): it can be read only once
    return given, file


def _mode(file: str) -> int:
    try:
        return os.stat(file).st_mode
    except OSError:
        return 0

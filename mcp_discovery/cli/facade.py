"""``mcp-discovery facade``: serves the live list over HTTP."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import os
from collections.abc import Callable, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

import typer

from mcp_discovery.cli import options, service_links, unused_options
from mcp_discovery.cli.exit_codes import INVALID_INPUT, PORT_IN_USE
from mcp_discovery.cli.failures import ended_by
from mcp_discovery.errors import InvalidInputError, raise_all
from mcp_discovery.extras import require_extra
from mcp_discovery.telemetry.setup import prepare, telemetry

if TYPE_CHECKING:
    from mcp_discovery.adapters.store import StoreOptions
    from mcp_discovery.facade.access.audit.settings import AuditSettings
    from mcp_discovery.facade.options import FacadeOptions

log = logging.getLogger(__name__)
#: The largest answer of call_tool by default.
_MAX_ANSWER = 64 * 2**20
#: What bounds one question by default.
_USUAL_ASK: Mapping[str, Any] = {
    "ask_provider": "auto",
    "ask_model": None,
    "ask_max_turns": 12,
    "ask_max_tokens": 50_000,
    "ask_timeout": 120.0,
}


@options.with_credentials
def facade(
    context: typer.Context,
    store: str = typer.Option("embedded:", metavar="URL", help=options.STORE_HELP),
    host: str = typer.Option("127.0.0.1", help="The address to listen on."),
    port: int = typer.Option(
        4000, min=0, max=65535, help="The port to listen on; 0 for a free one, which the log names."
    ),
    tls_cert: str | None = typer.Option(
        None,
        metavar="FILE",
        help="PEM file of the certificate, with its chain, that the facade shows: it then listens "
        "with TLS (1.2 or later) alone; followed.",
    ),
    tls_key: str | None = typer.Option(
        None, metavar="FILE", help="PEM file of that certificate's key; followed."
    ),
    tls_client_ca: str | None = typer.Option(
        None,
        metavar="FILE",
        help="PEM file of CAs that clients' certificates may be signed by: clients are asked for "
        "one, and need not show it; followed.",
    ),
    max_connections: int | None = typer.Option(
        None,
        metavar="N",
        min=1,
        max=1_000_000,
        help="How many connections may be open at once, streams included; /health and /ready are "
        "answered beyond that. Default: three quarters of the open files that this process may "
        "have, at most 50,000; with --workers each has as many.",
    ),
    max_connections_per_address: int | None = typer.Option(
        None,
        metavar="N",
        min=1,
        max=1_000_000,
        help="How many of these may be from one address, or from one /64 of IPv6; this machine's "
        "own are not counted. Default: half of them.",
    ),
    workers: int = typer.Option(
        1,
        metavar="N",
        min=1,
        max=64,
        help="How many processes serve the port, each a facade of its own over the store, "
        "which they must share: Consul or etcd. For agents that read: registrations with "
        "heartbeats over HTTP need one.",
    ),
    probe_public_only: bool = typer.Option(
        False,
        "--probe-public-only",
        help="Probe posted servers at public addresses only: not on loopback, nor in private "
        "ranges. Link-local and cloud metadata addresses are never probed.",
    ),
    probe_allow: list[str] | None = typer.Option(
        None,
        "--probe-allow",
        metavar="CIDR",
        help="A range that is probed all the same, such as 10.20.0.0/16; may be repeated. It turns "
        "--probe-public-only on.",
    ),
    server_ca: str | None = typer.Option(
        None,
        metavar="FILE",
        help="PEM file of CAs that MCP servers' certificates may be signed by, besides the "
        "system's; for probes and the gateway; followed.",
    ),
    try_advertised: bool = typer.Option(
        True,
        help="Try now and then whether the addresses that sidecars advertise lead to their servers "
        "from here: what answers otherwise there is degraded in this facade's list.",
    ),
    probe_interval: float = typer.Option(
        10.0,
        parser=options.probe_interval,
        metavar="TIME",
        help="Time between two probes of a server that was posted. One whose connection ends, or "
        "at which a call fails, is probed at once.",
    ),
    fail_after: int | None = options.fail_after(),
    auth: str | None = typer.Option(
        None,
        metavar="FILE",
        help="YAML that says who is known, by tokens, issuers and certificates, and what their "
        "roles may see, register and call; followed. Without it nobody is asked who they are: on "
        "loopback everybody may do everything, elsewhere read and call.",
    ),
    audit: str | None = typer.Option(
        None,
        metavar="FILE",
        help="Append to this file what happens, as JSON lines chained by hash: changes, refusals "
        "and calls, and by whom; - for standard output.",
    ),
    audit_store: str | None = typer.Option(
        None,
        metavar="URL",
        help="Keep what happens in a database that can be asked (GET /audit, mcp-discovery audit): "
        "sqlite:////path/audit.db, or postgresql://USER@HOST/DATABASE for several facades. With "
        "--auth it is SQLite in the folder for state unless it or --audit is given; none for none.",
    ),
    audit_password: str | None = typer.Option(
        None, help="The password for --audit-store. Better given by the environment."
    ),
    audit_password_file: str | None = typer.Option(
        None, metavar="FILE", help="A file that holds that password instead; it is followed."
    ),
    audit_keep: float | None = typer.Option(
        None,
        parser=options.positive,
        metavar="TIME",
        help="For how long --audit-store keeps events, such as 90d; for ever otherwise.",
    ),
    audit_arguments: bool = typer.Option(
        False,
        "--audit-arguments",
        help="Record the arguments of calls whole, without what looks like a secret, and not only "
        "their SHA-256.",
    ),
    history_keep: float = typer.Option(
        90 * 86400.0,
        parser=options.seconds,
        metavar="TIME",
        help="For how long it is kept what became of each server (GET /servers/NAME/history, "
        "mcp-discovery history): with --audit-store there, without one in memory, and so for a "
        "week at most; 90 days by default, 0 for not at all.",
    ),
    limit: list[str] | None = typer.Option(
        None,
        parser=options.single,
        metavar="NAME=VALUE",
        help="How much an anonymous caller may ask for, by address: reads, writes, calls, "
        "questions, heartbeats or refusals=600/minute, streams or entries=100, least_ttl or "
        "most_ttl=SECONDS; "
        "or unlimited. May be repeated. Default: generous ones; none on loopback without --auth. "
        "Those of callers with a credential stand in the file of --auth.",
    ),
    limits_store: str | None = typer.Option(
        None,
        metavar="URL",
        help="A Redis in which several facades, and --workers, count requests as one: "
        "redis://HOST:6379/0, or rediss:// for TLS. While it is away each counts by itself. Needs "
        "the extra redis.",
    ),
    limits_store_password: str | None = typer.Option(
        None, help="That Redis's password. Better given by the environment."
    ),
    limits_store_password_file: str | None = typer.Option(
        None, metavar="FILE", help="A file that holds the password instead; followed."
    ),
    limits_store_ca: str | None = typer.Option(
        None,
        metavar="FILE",
        help="PEM file of CAs that the Redis's certificate may be signed by; otherwise the "
        "system's.",
    ),
    cors_origin: list[str] | None = typer.Option(
        None,
        parser=options.single,
        metavar="ORIGIN",
        help="An origin whose pages may read the answers, change the list and use MCP, such as "
        "https://console.example.com; * for all. May be repeated; in the environment separated by "
        "spaces.",
    ),
    trusted_proxy: list[str] | None = typer.Option(
        None,
        parser=options.single,
        metavar="CIDR",
        help="A network, or an address, of proxies in front of this facade whose X-Forwarded-For, "
        "-Proto and -Host say who asks and for what URL, such as 10.0.0.0/8; from others these "
        "headers are ignored. May be repeated; in the environment separated by spaces.",
    ),
    open_writes: bool = typer.Option(
        False,
        "--open-writes",
        help="Let everybody who reaches this facade change the list, though it listens beyond "
        "this machine and asks nobody who they are (no --auth). Sidecars that register in Consul "
        "or etcd do not need it.",
    ),
    read_only: bool = typer.Option(
        False,
        "--read-only",
        help="Refuse every change and every report of outcomes, whoever asks. What was posted "
        "before is still probed and kept.",
    ),
    read_only_host: list[str] | None = typer.Option(
        None,
        metavar="HOST",
        help="Refuse that where the facade is asked by this name, such as that of an Ingress; "
        "repeatable.",
    ),
    ops_port: int | None = typer.Option(
        None,
        min=1,
        max=65535,
        help="Serve /metrics on this port alone, and /health and /ready there as well: without "
        "TLS or credentials, and with room of its own. With --workers any of them answers.",
    ),
    ops_host: str | None = typer.Option(
        None, help="The address for --ops-port. Default: that of --host."
    ),
    allowed_host: list[str] | None = typer.Option(
        None,
        parser=options.single,
        metavar="NAME",
        help="A host that clients call this facade by, such as facade.example.com; *.example.com "
        "for all below that, * for any. IP addresses, localhost and the hosts of --public-url and "
        "--host are allowed by themselves; requests for others are refused (421), so that no page "
        "reaches it under a name of its own. May be repeated; in the environment separated by "
        "spaces.",
    ),
    registry_cors: bool = typer.Option(
        False,
        "--registry-cors",
        help="Let the pages of all origins read the MCP registry API (/v0.1), the ARD registry "
        "(/api/ard), catalogs and cards, as hosts that run in a browser need it.",
    ),
    public_status: bool = typer.Option(
        False,
        "--public-status",
        help="Show the status page (/ui/status) of all servers, with their names and reasons, to "
        "everybody, whoever else may read what.",
    ),
    public_url: str | None = typer.Option(
        None,
        metavar="URL",
        help="Where hosts reach this facade, such as https://mcp.example.com; otherwise the "
        "address that each request went to.",
    ),
    registry_address: str = typer.Option(
        "instance",
        metavar="instance|facade|URL",
        help="Which address the MCP registry API publishes for a server: that of one of its "
        "instances, that of this facade's gateway (with --public-url), or a URL with {name} in "
        "it, such as https://{name}.mcp.example.com/mcp.",
    ),
    gateway: bool = typer.Option(
        False,
        "--gateway",
        help="Pass MCP on to the servers in the list: /gateway/NAME/mcp is one address for all "
        "replicas of a server, whichever of them are alive.",
    ),
    gateway_pass_authorization: bool = typer.Option(
        False,
        "--gateway-pass-authorization",
        help="Pass the Authorization header of clients of the gateway on to the servers: whoever "
        "is registered under a name gets what is sent to that name. What is good for more of this "
        "facade than that server stays here.",
    ),
    gateway_pass_header: list[str] | None = typer.Option(
        None,
        metavar="NAME",
        help="Pass this header of clients of the gateway on to the servers, too, such as "
        "X-Tenant; repeatable. Others than those of HTTP, MCP and tracing stay here.",
    ),
    gateway_credentials: str | None = typer.Option(
        None,
        metavar="FILE",
        help="YAML file with the credentials that the gateway and call_tool show to servers, each "
        "for names and origins; followed, as the files it names are.",
    ),
    mcp_call_tool: bool = typer.Option(
        False,
        "--mcp-call-tool",
        help="Offer call_tool to MCP clients of /mcp: they call any tool of any server in the "
        "list through this facade.",
    ),
    mcp_max_answer_bytes: int = typer.Option(
        _MAX_ANSWER,
        min=1024,
        metavar="BYTES",
        help="The largest answer that call_tool takes from a server, in bytes, unpacked: 64 MiB.",
    ),
    webhooks: str | None = typer.Option(
        None,
        metavar="FILE",
        help="YAML file of receivers that are told what changes in the list, and of alarms, in "
        "signed requests; followed. What waits for them survives a restart in --audit-store.",
    ),
    semantic: str = typer.Option(
        "auto",
        metavar="auto|none|MODEL",
        help="The model that ranks what is searched for by its meaning, besides its words: "
        "wordllama, which the extra semantic brings, or another that is installed, by its entry "
        "point in mcp_discovery.embedders. auto is wordllama where it is installed, none is none. "
        "Nothing is downloaded.",
    ),
    otlp_endpoint: str | None = options.OTLP_ENDPOINT,
    ask: str = typer.Option(
        "auto",
        metavar="auto|on|off",
        help="Whether POST /api/ask and the page answer questions with a model, which calls tools "
        "through this facade with its caller's rights. auto: where there is a key in the "
        "environment (OPENAI_API_KEY, ANTHROPIC_API_KEY, GEMINI_API_KEY), with --auth or on "
        "loopback. Needs the extra ask.",
    ),
    ask_provider: str = typer.Option(
        "auto",
        metavar="NAME",
        help="Who is asked unless a question says otherwise: openai, anthropic, gemini, or auto, "
        "one that has a key, by what the question asks for.",
    ),
    ask_model: list[str] | None = typer.Option(
        None,
        parser=options.single,
        metavar="PROVIDER=MODEL",
        help="The model of a provider, such as anthropic=claude-sonnet-5-5; again for more.",
    ),
    ask_max_turns: int = typer.Option(
        _USUAL_ASK["ask_max_turns"],
        min=1,
        max=100,
        metavar="N",
        help="How often a model may speak for one question.",
    ),
    ask_max_tokens: int = typer.Option(
        _USUAL_ASK["ask_max_tokens"],
        min=1000,
        max=10_000_000,
        metavar="N",
        help="How many tokens a model may read and write in all for one question.",
    ),
    ask_timeout: float = typer.Option(
        _USUAL_ASK["ask_timeout"],
        parser=options.positive,
        metavar="TIME",
        help="How long one answer may take.",
    ),
    config: str | None = options.CONFIG,
    json: bool = options.JSON_LOGS,
    log_level: str = options.LOG_LEVEL,
) -> None:
    """Watch a store and serve the live list over HTTP.

    With no --store it keeps the list itself, in this process: enough to try it, and for sidecars
    started with --store http://THIS-FACADE:4000. With embedded:///path/file.db the list survives
    a restart. Over Consul or etcd any number of facades are equal, and so are --workers.

    Try: curl 'http://127.0.0.1:4000/servers?tags=products'
    """
    from mcp_discovery.cli import logs
    from mcp_discovery.facade.run import run_in_loop

    logs.start(log_level, json=json)
    service_links.warn(os.environ)
    prepare(otlp_endpoint)
    settings = options_of(context.params)
    for text in unused_options.warned_of(context.params):
        log.warning("%s", text)
    given = options.store_options(context.params)
    if workers > 1:
        code = _exit_code_of(lambda: _supervise(workers, store, given, host, port, settings))
    else:
        code = _exit_code_of(lambda: run_in_loop(_serve(store, given, host, port, settings)))
    raise typer.Exit(code)


def _exit_code_of(serve: Callable[[], int]) -> int:
    """The exit code of ``serve``, or of its failure, which is printed."""
    try:
        return serve()
    except OSError as error:
        typer.echo(f"mcp-discovery: {error.strerror}; see --host and --port", err=True)
        return PORT_IN_USE if error.errno == errno.EADDRINUSE else INVALID_INPUT
    except Exception as error:  # noqa: BLE001  in a worker nobody else tells it
        return ended_by(error)


def options_of(parameters: Mapping[str, Any]) -> FacadeOptions:
    """What the command's parameters say; raises :class:`InvalidInputError`."""
    from mcp_discovery.adapters.stores import kind_of
    from mcp_discovery.facade.access.limits_section import limits_of_options
    from mcp_discovery.facade.access.quota_stores import store_url
    from mcp_discovery.facade.access.writes import ReadOnlyHosts
    from mcp_discovery.facade.gateway.upstream import require_passable
    from mcp_discovery.facade.http.addresses import address_policy
    from mcp_discovery.facade.http.client_address import TrustedProxies
    from mcp_discovery.facade.http.cors import Cors
    from mcp_discovery.facade.options import FacadeOptions
    from mcp_discovery.facade.registry.server_json import Addresses
    from mcp_discovery.front_door import AllowedHosts
    from mcp_discovery.listener_tls import ListenerTLS
    from mcp_discovery.listening import is_loopback
    from mcp_discovery.query.embedding import chosen

    faults: list[InvalidInputError] = []

    def check(fits: Callable[[], object]) -> None:
        try:
            fits()
        except InvalidInputError as error:
            faults.extend((error, *error.others))

    def check_store() -> None:
        if kind_of(parameters["store"]).shared_by == "process" and parameters["workers"] > 1:
            raise InvalidInputError(
                f"--workers {parameters['workers']} needs a store that they share, and an embedded "
                "one is of one process alone; name Consul or etcd with --store, or leave out "
                "--workers"
            )

    check(check_store)
    usual = {"mcp_max_answer_bytes": _MAX_ANSWER, **_USUAL_ASK}
    faults.extend(map(InvalidInputError, unused_options.refused(parameters, usual)))
    check(lambda: address_policy(private=True, allowed=parameters["probe_allow"] or ()))
    address = parameters["registry_address"], parameters["public_url"]
    names = map(_own_name, filter(None, (parameters["host"], parameters["ops_host"])))
    allowed = [*(parameters["allowed_host"] or ()), *chain.from_iterable(names)]
    check(lambda: AllowedHosts(allowed))
    check(lambda: ReadOnlyHosts(tuple(parameters["read_only_host"] or ())))
    check(lambda: require_passable(parameters["gateway_pass_header"] or ()))
    check(lambda: Cors(tuple(parameters["cors_origin"] or ())))
    check(lambda: TrustedProxies(parameters["trusted_proxy"] or ()))
    check(lambda: Addresses.parse(*address, gateway=parameters["gateway"]))
    tls = {name: parameters[name] for name in ("tls_cert", "tls_key", "tls_client_ca")}
    check(lambda: ListenerTLS.of_options(*tls.values()))
    audit: list[AuditSettings | None] = []
    check(lambda: audit.append(_audit_of(parameters)))
    limits = _limits(parameters)
    check(lambda: limits_of_options(limits or ()))
    check(lambda: _check_ask(parameters))
    if parameters["limits_store"] is not None:
        check(lambda: store_url(parameters["limits_store"]))
    raise_all(faults)
    limits_password, limits_password_file = options.secret(parameters, "limits_store_password")
    if parameters["limits_store"] is not None:
        require_extra("redis", "--limits-store")
    if parameters["mcp_call_tool"]:
        require_extra("client", "--mcp-call-tool")
    chosen(parameters["semantic"])
    return FacadeOptions(
        probe_interval=parameters["probe_interval"],
        fail_after=parameters["fail_after"],
        probe_private=not parameters["probe_public_only"],
        probe_allow=tuple(parameters["probe_allow"] or ()),
        server_ca=parameters["server_ca"],
        auth=parameters["auth"],
        audit=audit[0],
        history_keep=parameters["history_keep"],
        limits=limits,
        limits_store=parameters["limits_store"],
        limits_store_password=limits_password,
        limits_store_password_file=limits_password_file,
        limits_store_ca=parameters["limits_store_ca"],
        try_advertised=parameters["try_advertised"],
        max_connections=parameters["max_connections"],
        max_connections_per_address=parameters["max_connections_per_address"],
        **tls,
        read_only=parameters["read_only"],
        read_only_hosts=tuple(parameters["read_only_host"] or ()),
        open_writes=parameters["open_writes"] or is_loopback(parameters["host"]),
        open_to_strangers=parameters["open_writes"] and not is_loopback(parameters["host"]),
        ops_port=parameters["ops_port"],
        ops_host=parameters["ops_host"],
        allowed_hosts=tuple(allowed),
        registry_cors=parameters["registry_cors"],
        public_status=parameters["public_status"],
        cors_origins=tuple(parameters["cors_origin"] or ()),
        trusted_proxies=tuple(parameters["trusted_proxy"] or ()),
        registry_address=parameters["registry_address"],
        public_url=parameters["public_url"],
        gateway=parameters["gateway"],
        gateway_pass_authorization=parameters["gateway_pass_authorization"],
        gateway_pass_headers=tuple(parameters["gateway_pass_header"] or ()),
        gateway_credentials=parameters["gateway_credentials"],
        mcp_call_tool=parameters["mcp_call_tool"],
        mcp_max_answer_bytes=parameters["mcp_max_answer_bytes"],
        semantic=parameters["semantic"],
        webhooks=parameters["webhooks"],
        ask=parameters["ask"],
        ask_provider=parameters["ask_provider"],
        ask_model=tuple(parameters["ask_model"] or ()),
        ask_max_turns=parameters["ask_max_turns"],
        ask_max_tokens=parameters["ask_max_tokens"],
        ask_timeout=parameters["ask_timeout"],
    )


def _check_ask(parameters: Mapping[str, Any]) -> None:
    """Raises :class:`InvalidInputError` where questions cannot be answered as it is said."""
    from mcp_discovery.facade.ask.asking import configured_providers
    from mcp_discovery.facade.options import FacadeOptions

    if parameters["ask"] not in ("auto", "on", "off"):
        raise InvalidInputError(
            f"--ask {parameters['ask'][:40]} is not known; give auto, on or off"
        )
    configured_providers(
        FacadeOptions(
            ask=parameters["ask"],
            ask_provider=parameters["ask_provider"],
            ask_model=tuple(parameters["ask_model"] or ()),
        )
    )


def _audit_of(parameters: Mapping[str, Any]) -> AuditSettings | None:
    """Where what happens is recorded; raises :class:`InvalidInputError`."""
    from mcp_discovery.credential_files import Secret
    from mcp_discovery.facade.access.audit.audit import database_log
    from mcp_discovery.facade.access.audit.settings import AuditSettings, default_store

    file, store = parameters["audit"], parameters["audit_store"]
    if store is None and file is None and parameters["auth"] is not None:
        require_extra("audit", "the audit of --auth (--audit-store none keeps none)")
        store = default_store()
    if store == "none":
        store = None
    if store is None and file is None:
        return None
    password = options.secret(parameters, "audit_password")
    settings = AuditSettings(
        file=file,
        store=store,
        password=Secret("audit password", *password, in_header=False) if any(password) else None,
        keep=parameters["audit_keep"],
        arguments=parameters["audit_arguments"],
    )
    if store is not None:
        database_log(settings)
    return settings


def _limits(parameters: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Those of ``--limit``; on loopback, without any and without ``--auth``, there are none."""
    from mcp_discovery.listening import is_loopback

    asked = parameters["auth"] is not None or parameters["limits_store"] is not None
    given: list[str] | None = parameters["limit"]
    return tuple(given or ()) if given or asked or not is_loopback(parameters["host"]) else None


def _own_name(host: str) -> tuple[str, ...]:
    """``host`` where it is a name: who listens there by a name is called by it."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return (host,)
    return ()


def _supervise(
    count: int, url: str, given: StoreOptions, host: str, port: int, settings: FacadeOptions
) -> int:
    from mcp_discovery.facade.run import require_free, run_in_loop
    from mcp_discovery.facade.workers import supervise

    async def serve(life: int) -> int:
        return await _serve(url, given, host, found, settings, life)

    found = require_free(host, port)
    _require_ops_port(host, settings)
    asyncio.run(_require_usable(url, given))
    return supervise(count, lambda life: _exit_code_of(lambda: run_in_loop(serve(life))))


def _require_ops_port(host: str, settings: FacadeOptions) -> None:
    from mcp_discovery.facade.run import require_free

    if settings.ops_port is not None:
        require_free(host if settings.ops_host is None else settings.ops_host, settings.ops_port)


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
    from mcp_discovery.credential_files import looking
    from mcp_discovery.facade.run import require_free, run

    if life is None:
        require_free(host, port)
        _require_ops_port(host, settings)
    async with (
        telemetry("mcp-discovery-facade"),
        open_store(url, given, holder=new_holder("facade")) as store,
        looking(),
    ):
        return await run(store, host, port, options=settings, life=life)

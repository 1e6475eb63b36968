"""What can be set on a facade, with the values it has otherwise."""

from __future__ import annotations

from dataclasses import dataclass, field

from aiohttp import web

from mcp_discovery.facade.access.audit.settings import AuditSettings
from mcp_discovery.facade.http.addresses import AddressPolicy, address_policy
from mcp_discovery.http_listener import HEAD_TIMEOUT


@dataclass(frozen=True, slots=True)
class FacadeOptions:
    """Every figure is in seconds unless its name says otherwise.

    ``probe_interval``, ``probe_timeout`` and ``fail_after`` (after how many bad answers in a row it
    is ``down``; ``None``: see :func:`mcp_discovery.probe.verdict.unless_repeated`) are for entries
    that the facade itself probes; ``first_probe`` bounds how long a POST waits for the first
    answer. Such an entry is registered with ``posted_ttl`` and ``posted_reap_after`` (long, so that
    a facade that was away for days still finds what was posted to it) and renewed every
    ``heartbeat``, whatever the probe found.
    ``removed_for`` is how long one that was cut off still learns that another removed its entry.

    ``probe_private`` lets probes dial loopback, private and shared ranges as well as public ones;
    without it, or with any of them, ``probe_allow`` are the ranges that are dialled besides public
    ones. See :mod:`mcp_discovery.facade.http.addresses` for what is never dialled.
    ``try_advertised`` tries
    the addresses of servers that sidecars keep as well; the command does so by default.
    ``probe_claims`` tries at least those that somebody registered who did not say who it is.
    ``server_ca`` is a PEM file of CAs that servers' certificates may be signed by,
    besides those that the system trusts; it is followed.

    ``auth`` is the file that says who is known and what they may do, followed; see
    :mod:`mcp_discovery.facade.access.auth_file`. ``None``: nobody is asked who they are.

    ``audit`` says where is recorded what happens; ``None``: nowhere.

    ``history_keep`` is for how long it is kept what became of instances: in the audit's store, or
    without one in memory, and so for a week at most; 0: not at all.

    ``limits`` are those of anonymous callers by address, such as ``reads=600/minute``, over the
    usual ones; ``None``: there are none but those in the file. ``limits_store`` is the URL of a
    Redis where several facades count as one, with its password, in a file that is followed, and
    its CAs; without it each counts by itself. See :mod:`mcp_discovery.facade.access.quotas`.

    ``open_to_strangers`` says that it has none and that others than this machine's reach it, so
    that what probes find of servers that are posted is no port scan of its network.

    ``cors_origins`` are the origins whose pages may read the answers and ask for changes, ``*`` for
    all of them. ``registry_cors`` lets all pages read the MCP registry API, the ARD
    registry, catalogs and cards. ``allowed_hosts`` are hosts that the facade answers for, besides
    that of ``public_url``: see
    :class:`mcp_discovery.facade.access.front_door.AllowedHosts`.

    ``public_status`` shows the page ``/ui/status`` of all servers to everybody.

    ``trusted_proxies`` are the networks of the proxies whose ``X-Forwarded-*`` headers count; see
    :mod:`mcp_discovery.facade.http.client_address`.

    ``registry_address`` is which address the MCP registry API publishes for a server: ``instance``,
    ``facade`` or a URL with ``{name}`` in it; ``public_url`` is where hosts reach this facade,
    ``None`` for where each request went. See :mod:`mcp_discovery.facade.registry.server_json`.

    ``gateway`` passes MCP on to the servers in the list; ``gateway_timeout`` is how long a server
    may take until its answer begins, ``gateway_pass_authorization`` passes the ``Authorization`` of
    clients on to them and ``gateway_pass_headers`` further headers; ``gateway_credentials`` is a
    file of the credentials that the facade itself has for them. See
    :mod:`mcp_discovery.facade.gateway`.

    ``mcp_call_tool`` lets clients of ``/mcp`` call tools through the facade, of which it takes
    answers of up to ``mcp_max_answer_bytes``; ``mcp_sessions`` (a
    number) is how many of them may have a session or listen, ``mcp_idle`` for how long a session
    lasts that is not used.

    ``tls_cert`` and ``tls_key`` are PEM files of the listener's certificate, without which it has
    no TLS; ``tls_client_ca`` is one of CAs that its clients' certificates may be signed by. They
    are followed. ``max_connections`` (a number) are open at once, ``max_connections_per_address``
    of them from one address; ``None`` is what the limit of open files allows, and the half of it.
    ``head_timeout`` is how long a request's head may take.

    ``read_only`` refuses every change, whoever asks, and where it is asked by one of the names
    ``read_only_hosts``; without ``open_writes``, which the command
    leaves out where it listens beyond loopback, those of callers that nobody knows are: see
    :mod:`mcp_discovery.facade.access.writes`. With ``ops_port`` health and metrics are on that
    port of ``ops_host`` (where the facade listens itself, if it is ``None``), without TLS.

    ``webhooks`` is a file of receivers that are told what changes in the list, followed; see
    :mod:`mcp_discovery.facade.webhooks`.

    ``ask`` says whether questions are answered: ``on``, ``off``, or ``auto``, which is on where
    there is a model's key in the environment and nobody is a stranger (``auth``, or loopback
    alone). ``ask_provider`` is who is asked unless a question says otherwise, ``ask_model`` which
    model of a provider (``anthropic=claude-…``); ``ask_max_turns`` and ``ask_max_tokens``
    (numbers) and ``ask_timeout`` bound one question. See :mod:`mcp_discovery.facade.ask`.

    ``semantic`` is the model that ranks what is searched for by its meaning, besides its words:
    ``none``, ``auto`` (the command's) or its name; see
    :func:`mcp_discovery.query.embedding.chosen`.

    ``settle`` bounds how long an answer waits until the live list shows what was just written.
    ``hold`` and ``ring`` (a number of changes) are the catalog's. ``ping`` is the pause between
    comments to an idle reader of events, ``write_timeout`` how long a reader may leave its
    connection full, ``idle`` how long a WebSocket may have nothing subscribed. ``sweep_interval``
    is for the store's orphans. ``body_timeout`` bounds the reading of a request's body,
    ``shutdown_timeout`` the wait for requests in progress.
    """

    probe_interval: float = 10.0
    probe_timeout: float = 5.0
    fail_after: int | None = None
    first_probe: float = 1.0
    probe_private: bool = True
    probe_allow: tuple[str, ...] = ()
    try_advertised: bool = False
    probe_claims: bool = True
    server_ca: str | None = None
    posted_ttl: float = 90.0
    posted_reap_after: float = 7 * 86400.0
    removed_for: float = 3600.0
    heartbeat: float = 10.0
    settle: float = 1.0
    hold: float = 30.0
    ring: int = 8192
    ping: float = 15.0
    write_timeout: float = 30.0
    idle: float = 60.0
    sweep_interval: float = 300.0
    body_timeout: float = 30.0
    shutdown_timeout: float = 5.0
    auth: str | None = None
    open_to_strangers: bool = False
    limits: tuple[str, ...] | None = None
    limits_store: str | None = None
    limits_store_password: str | None = field(default=None, repr=False)
    limits_store_password_file: str | None = None
    limits_store_ca: str | None = None
    head_timeout: float = HEAD_TIMEOUT
    max_connections: int | None = None
    max_connections_per_address: int | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_client_ca: str | None = None
    audit: AuditSettings | None = None
    history_keep: float = 90 * 86400.0
    cors_origins: tuple[str, ...] = ()
    read_only: bool = False
    read_only_hosts: tuple[str, ...] = ()
    open_writes: bool = True
    ops_port: int | None = None
    ops_host: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    registry_cors: bool = False
    public_status: bool = False
    trusted_proxies: tuple[str, ...] = ()
    registry_address: str = "instance"
    public_url: str | None = None
    gateway: bool = False
    gateway_timeout: float = 300.0
    gateway_pass_authorization: bool = False
    gateway_pass_headers: tuple[str, ...] = ()
    gateway_credentials: str | None = None
    mcp_call_tool: bool = False
    mcp_max_answer_bytes: int = 64 * 2**20
    mcp_sessions: int = 10_000
    mcp_idle: float = 1800.0
    semantic: str = "none"
    webhooks: str | None = None
    ask: str = "auto"
    ask_provider: str = "auto"
    ask_model: tuple[str, ...] = ()
    ask_max_turns: int = 12
    ask_max_tokens: int = 50_000
    ask_timeout: float = 120.0

    @property
    def addresses(self) -> AddressPolicy:
        """Which addresses the facade dials."""
        return address_policy(private=self.probe_private, allowed=self.probe_allow)


#: The options of an application.
OPTIONS = web.AppKey("options", FacadeOptions)

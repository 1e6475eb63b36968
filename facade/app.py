"""Puts one facade together: an aiohttp application over one store."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from functools import partial

from aiohttp import web

from mcp_discovery.adapters.catalog import Catalog
from mcp_discovery.adapters.named_queries import NamedQueries
from mcp_discovery.adapters.observed_store import Around, Tally, observed
from mcp_discovery.adapters.store import Store
from mcp_discovery.credential_files import FollowedFiles
from mcp_discovery.errors import StoreError
from mcp_discovery.facade.access import protected_resource, whoami
from mcp_discovery.facade.access.audit import export as audit_export
from mcp_discovery.facade.access.audit import handlers as auditing
from mcp_discovery.facade.access.audit import verification as audit_verification
from mcp_discovery.facade.access.audit.audit import AUDIT, Audit, AuditFigures
from mcp_discovery.facade.access.audit.recorded_store import recorded
from mcp_discovery.facade.access.auth_file import Policy, follow
from mcp_discovery.facade.access.authentication import AUTHENTICATION, FileAuthentication
from mcp_discovery.facade.access.browser_session import BrowserSessions, sign_session
from mcp_discovery.facade.access.caller import Caller
from mcp_discovery.facade.access.challenge import CHALLENGES, Challenges
from mcp_discovery.facade.access.front_door import FacadeDoor
from mcp_discovery.facade.access.gate import Gate, NoAuthentication
from mcp_discovery.facade.access.lifetime import CredentialLifetimes, note_stream
from mcp_discovery.facade.access.list_parts import PARTS, ListParts
from mcp_discovery.facade.access.ownership import NameOwners
from mcp_discovery.facade.access.quotas import Quotas, quotas_of
from mcp_discovery.facade.access.refused_credentials import CredentialFigures, RefusedCredentials
from mcp_discovery.facade.access.rights import Rights
from mcp_discovery.facade.access.visibility import Visibility
from mcp_discovery.facade.access.writes import ReadOnlyHosts, refused_verbs
from mcp_discovery.facade.ard import manifest as ard_manifest
from mcp_discovery.facade.ard import registry as ard_registry
from mcp_discovery.facade.ask import handlers as asked
from mcp_discovery.facade.ask.asking import ASKING, Asking, configured_providers
from mcp_discovery.facade.connections import (
    exports,
    registration,
    statistics,
)
from mcp_discovery.facade.connections import handlers as connections
from mcp_discovery.facade.documents import documents as exchange
from mcp_discovery.facade.documents.documents import DOCUMENTS
from mcp_discovery.facade.drupal import handlers as drupal
from mcp_discovery.facade.gateway import handlers as gateway
from mcp_discovery.facade.gateway.credentials import KnownCredentials
from mcp_discovery.facade.gateway.credentials import follow as follow_credentials
from mcp_discovery.facade.gateway.gateway import GATEWAY, McpGateway
from mcp_discovery.facade.gateway.sessions import SessionIds
from mcp_discovery.facade.history import handlers as history
from mcp_discovery.facade.history.answers import HISTORY, History
from mcp_discovery.facade.history.recorder import HistoryFigures
from mcp_discovery.facade.http import openapi
from mcp_discovery.facade.http.body import LARGE_BODIES, LargeBodies
from mcp_discovery.facade.http.client_address import TRUSTED_PROXIES, TrustedProxies
from mcp_discovery.facade.http.cors import Cors
from mcp_discovery.facade.http.metrics import METRICS, Metrics
from mcp_discovery.facade.http.middleware import Finish, OutermostMiddleware
from mcp_discovery.facade.http.openapi import DESCRIPTION, Description
from mcp_discovery.facade.http.operation import require_needs, routes
from mcp_discovery.facade.http.outbound import refusing_probes, trusting
from mcp_discovery.facade.http.problems import MAX_BODY_BYTES
from mcp_discovery.facade.http.slashes import NeedlessSlashes
from mcp_discovery.facade.http.tracing import asking_store
from mcp_discovery.facade.mcp.call_tool import ClientCaller, ToolCaller
from mcp_discovery.facade.mcp.refusals import reshape_refusal
from mcp_discovery.facade.mcp.server import PATH, McpServer
from mcp_discovery.facade.options import OPTIONS, FacadeOptions
from mcp_discovery.facade.pages import ask as ask_page
from mcp_discovery.facade.pages import audit as audit_page
from mcp_discovery.facade.pages import login, me, site
from mcp_discovery.facade.pages import server as server_page
from mcp_discovery.facade.pages import servers as servers_page
from mcp_discovery.facade.pages import status as status_page
from mcp_discovery.facade.pages import tools as tools_page
from mcp_discovery.facade.pages import topology as topology_page
from mcp_discovery.facade.queries import handlers as named_queries
from mcp_discovery.facade.queries.answers import NAMED_ANSWERS
from mcp_discovery.facade.registration import handlers as registering
from mcp_discovery.facade.registration.leased import LeasedRegistrations
from mcp_discovery.facade.registration.posted_entries import IdLocks, PostedEntries
from mcp_discovery.facade.registry import api as registry
from mcp_discovery.facade.registry import cards
from mcp_discovery.facade.registry.api import open_to_all, reshape_error
from mcp_discovery.facade.registry.server_json import Addresses
from mcp_discovery.facade.servers import handlers as servers
from mcp_discovery.facade.servers import prometheus_sd
from mcp_discovery.facade.servers.current_list import MISSED
from mcp_discovery.facade.servers.events import STREAMS
from mcp_discovery.facade.servers.listed_addresses import ListedAddresses
from mcp_discovery.facade.servers.long_poll import POLLS
from mcp_discovery.facade.servers.namesakes import SharedNames
from mcp_discovery.facade.servers.search_index import MEANING, SearchTexts
from mcp_discovery.facade.state import FACADE, Facade
from mcp_discovery.facade.status import handlers as status
from mcp_discovery.facade.status.ops import OPS, ops_app
from mcp_discovery.facade.tools import handlers as tools
from mcp_discovery.facade.tools import platform_tools, token_counts
from mcp_discovery.facade.topology import topology
from mcp_discovery.facade.usage import outcomes
from mcp_discovery.facade.usage.usage import (
    HEALTH_CHECK,
    UNREADABLE,
    Usage,
)
from mcp_discovery.facade.webhooks import handlers as webhook_operations
from mcp_discovery.facade.webhooks.serving import serve_webhooks
from mcp_discovery.facade.websocket import sockets as stream
from mcp_discovery.facade.websocket.sockets import SOCKETS
from mcp_discovery.query.corpus import Corpus
from mcp_discovery.query.embedding import Meaning, chosen
from mcp_discovery.telemetry.setup import exported
from mcp_discovery.version import installed_version

log = logging.getLogger(__name__)

#: Everything that a facade answers.
OPERATIONS = tuple(
    operation
    for module in (
        servers,
        tools,
        platform_tools,
        token_counts,
        connections,
        named_queries,
        registration,
        statistics,
        exports,
        registry,
        cards,
        ard_manifest,
        ard_registry,
        registering,
        stream,
        exchange,
        gateway,
        asked,
        status,
        outcomes,
        prometheus_sd,
        protected_resource,
        auditing,
        audit_export,
        audit_verification,
        history,
        whoami,
        openapi,
        site,
        login,
        me,
        servers_page,
        server_page,
        status_page,
        ask_page,
        audit_page,
        topology_page,
        topology,
        webhook_operations,
        tools_page,
        drupal,
    )
    for operation in module.OPERATIONS
)
_SHARED_NAMES = web.AppKey("shared names", SharedNames)

#: How often, in seconds, registrations whose TTL is over are let go.
_LAPSED_EVERY = 5.0


def create_app(
    store: Store, options: FacadeOptions | None = None, *, caller: ToolCaller | None = None
) -> web.Application:
    """The facade over ``store``, which stays the caller's to close.

    ``caller`` calls tools for clients of ``/mcp``, where ``options.mcp_call_tool`` allows it;
    without one it is the client library.

    While the application runs it watches the store, probes what was posted to it and sweeps the
    store's orphans; all of that ends with it.
    """
    options = options or FacadeOptions()
    tally = Tally("register", "heartbeat", "watch")
    store = observed(store, _timed(tally))
    audit = Audit(options.audit) if options.audit is not None else None
    if audit is not None:
        store = recorded(store, lambda id: catalog.view.entries.get(id))
    addresses = Addresses.parse(
        options.registry_address, options.public_url, gateway=options.gateway
    )
    public_url = addresses.public_url or None
    policy = (
        None
        if options.auth is None
        else follow(options.auth, refused_verbs(options), public_url=public_url)
    )
    names = NameOwners(None if policy is None else lambda: policy.current().file.names)
    catalog = Catalog(store, hold=options.hold, ring=options.ring, admission=names)
    usage = Usage(catalog)
    leased = LeasedRegistrations(store, usage)
    locks = IdLocks()
    tls = trusting(options.server_ca)
    credentials = _server_credentials(options)
    calls: ToolCaller | None = None
    providers = configured_providers(options)
    if options.mcp_call_tool or providers:
        calls = caller or ClientCaller(
            catalog,
            usage,
            addresses=options.addresses,
            max_answer_bytes=options.mcp_max_answer_bytes,
            credentials=credentials,
        )
    asking = None
    if calls is not None and providers:
        asking = Asking(options, providers, calls, partial(_scopes_of, policy))
    mcp = McpServer(options, calls if options.mcp_call_tool else None)
    queries = NamedQueries(store)
    model = chosen(options.semantic)
    meaning = None if model is None else Meaning(model)
    texts = SearchTexts(Corpus(meaning))
    parts = ListParts(catalog, usage, mcp, addresses, options, texts, queries)
    documents, missed = parts[DOCUMENTS], parts[MISSED]
    visibility = Visibility(parts, mcp, options)
    has_strangers = partial(_has_strangers, options, policy)
    posted = PostedEntries(catalog, documents, locks, options, usage, tls, has_strangers)
    shared_names = SharedNames(catalog)
    passing = McpGateway(options, usage, SessionIds(policy), credentials, tls, has_strangers)
    listed = ListedAddresses(
        catalog,
        usage,
        addresses=options.addresses,
        mark=posted.holder.id,
        tls=tls,
        everything=options.try_advertised,
        has_strangers=has_strangers,
    )
    quotas = quotas_of(options, None if policy is None else policy.current)
    metrics = Metrics(
        catalog,
        _figures(visibility, leased, posted, mcp, listed, shared_names, passing, quotas, asking),
        tally=tally,
        version=installed_version(),
        missed=missed,
    )
    metrics.add(mcp.durations)
    usage.listen(HEALTH_CHECK, metrics.probed)
    usage.listen(UNREADABLE, metrics.became_unreadable)
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app[TRUSTED_PROXIES] = TrustedProxies(options.trusted_proxies)
    if quotas is not None:
        quotas.serve_in(app)
    signs: list[Finish] = [open_to_all, ard_registry.open_to_all] if options.registry_cors else []
    signs += [] if quotas is None else [quotas.sign]
    signs += [] if policy is None else [note_stream, sign_session]
    outermost = OutermostMiddleware(
        metrics,
        Cors(options.cors_origins),
        check=refusing_probes(posted.holder.id, PATH),
        reshape_error=_reshape,
        sign=tuple(signs),
    )
    # Middlewares that decide who may ask stand behind the outermost one, from the outside in: host
    # and origin, caller, rights. Each request passes them, whatever its protocol.
    refused = RefusedCredentials()
    metrics.add(CredentialFigures(refused, None if policy is None else policy.current))
    front_door = _front_door(options)
    _guard(app, outermost, front_door, options, policy, refused, quotas, addresses, visibility)
    if audit is not None:
        app[AUDIT] = audit
        app.middlewares.insert(1, audit.record)  # behind the outermost: it sees all refusals
        app.cleanup_ctx.append(audit.running)  # ends behind all that may change the list
        metrics.add(AuditFigures(audit))
        names.on_quarantine = audit.quarantined
    if options.history_keep > 0:
        past = History(catalog, options.history_keep, None if audit is None else audit.store)
        app[HISTORY] = past
        app.cleanup_ctx.append(past.recorder.running)  # as the audit
        metrics.add(HistoryFigures(past.recorder))
    drupal.serve_drupal(app)
    if options.webhooks is not None:
        serve_webhooks(app, options, catalog, missed, audit, tls, metrics)
    if meaning is not None:
        app[MEANING] = meaning
    app[LARGE_BODIES] = LargeBodies()
    app[DESCRIPTION] = Description(OPERATIONS)
    app[PARTS], app[OPTIONS], app[_SHARED_NAMES] = parts, options, shared_names
    app[METRICS], app[status.STARTED] = metrics, time.monotonic()
    app[FACADE] = Facade(
        catalog, documents, leased, posted, locks, options, usage, missed, names, queries
    )
    app.add_routes(routes(OPERATIONS))
    app.cleanup_ctx.append(_alive)
    app.cleanup_ctx.append(partial(_sending, metrics, "https" if options.tls_cert else "http"))
    app.cleanup_ctx.append(visibility.running)
    app.on_shutdown.append(visibility.end_streams)
    if options.try_advertised or options.probe_claims:
        app.cleanup_ctx.append(listed.running)
    mcp.serve_in(app)
    app.router.register_resource(NeedlessSlashes(app.router, options.public_url))
    if isinstance(calls, ClientCaller):
        app.cleanup_ctx.append(calls.running)
    if asking is not None:
        app[ASKING] = asking
        app.cleanup_ctx.append(asking.running)
    if options.gateway:
        app[GATEWAY] = passing
        app.cleanup_ctx.append(passing.running)
        app.on_shutdown.append(passing.end_streams)
    require_needs(app)
    if options.ops_port is not None:
        app[OPS] = ops_app(app, outermost, front_door, parts)
    return app


def _figures(
    visibility: Visibility,
    leased: LeasedRegistrations,
    posted: PostedEntries,
    mcp: McpServer,
    listed: ListedAddresses,
    shared_names: SharedNames,
    passing: McpGateway,
    quotas: Quotas | None,
    asking: Asking | None,
) -> dict[str, tuple[str, Callable[[], int]]]:
    """Metrics by their names: what each tells, and its value now."""
    total = visibility.total
    return {
        "long_polls": ("Long polls that wait.", lambda: total(POLLS)),
        "query_polls": ("Polls of named queries that wait.", lambda: total(NAMED_ANSWERS)),
        "event_readers": (
            "Readers of server-sent events.",
            lambda: total(STREAMS),
        ),
        "socket_readers": (
            "Readers of /registry/stream.",
            lambda: total(SOCKETS),
        ),
        "registrations": ("Registrations held for others.", lambda: len(leased)),
        "mcp_sessions": ("Sessions of legacy MCP clients.", lambda: len(mcp.sessions)),
        "mcp_streams": (
            "MCP clients that listen or wait for a call.",
            lambda: len(mcp.responses.disconnects),
        ),
        "posted": ("Entries that this facade probes.", lambda: len(posted)),
        "astray": ("Servers that are not at their listed address.", lambda: listed.astray),
        "shared_names": ("Names that more than one server has.", lambda: len(shared_names)),
        "gateway_requests": ("Requests that the gateway passes on.", lambda: len(passing)),
        "questions": (
            "Questions to a model that are being answered.",
            lambda: 0 if asking is None else len(asking),
        ),
        "gateway_sockets": ("WebSockets of MCP clients.", lambda: len(passing.sockets)),
        "limits_store_away": (
            "1 while the common count of requests cannot be reached.",
            lambda: int(quotas is not None and quotas.away),
        ),
    }


async def _sending(metrics: Metrics, scheme: str, _: web.Application) -> AsyncIterator[None]:
    """Sends the figures of ``/metrics`` over OTLP as well, where that is asked for."""
    async with exported(metrics.exposition, scheme):
        yield


def _reshape(request: web.Request, response: web.StreamResponse) -> None:
    reshape_error(request, response)
    ard_registry.reshape_error(request, response)
    reshape_refusal(request, response)
    asked.reshape_ask_error(request, response)
    site.reshape_problem(request, response)


def _front_door(options: FacadeOptions) -> FacadeDoor:
    mcp = PATH, gateway.PATH
    reading = ard_registry.READING if options.registry_cors else ()
    return FacadeDoor(
        options.allowed_hosts, options.cors_origins, mcp, options.public_url, reading=reading
    )


def _guard(
    app: web.Application,
    outermost: OutermostMiddleware,
    front_door: FacadeDoor,
    options: FacadeOptions,
    policy: FollowedFiles[Policy] | None,
    refused: RefusedCredentials,
    quotas: Quotas | None,
    addresses: Addresses,
    visibility: Visibility,
) -> None:
    """Puts the middlewares into ``app`` that decide who may ask."""
    read_only = ReadOnlyHosts(options.read_only_hosts)
    if policy is None:
        challenges = app[CHALLENGES] = Challenges(addresses.base, None)
        nobody = NoAuthentication(Rights.all(refused_verbs(options)))
        gate = Gate(nobody, challenges, quotas, read_only=read_only)
        outermost.install(app, front_door.admit, gate.admit, visibility.choose)
        return
    challenges = app[CHALLENGES] = Challenges(addresses.base, policy.current)
    authentication = app[AUTHENTICATION] = FileAuthentication(
        *(policy, challenges, refused, BrowserSessions(addresses.base)),
        addresses.public_url or None,
    )
    lifetimes = CredentialLifetimes(authentication, challenges)
    gate = Gate(authentication, challenges, quotas, lifetimes, read_only)
    outermost.install(app, front_door.admit, gate.admit, visibility.choose)
    app.cleanup_ctx.extend((authentication.running, lifetimes.running))


def _server_credentials(options: FacadeOptions) -> Callable[[], KnownCredentials] | None:
    file = options.gateway_credentials
    return None if file is None else follow_credentials(file).current


def _scopes_of(policy: FollowedFiles[Policy] | None, caller: Caller) -> list[str]:
    """The scopes of a caller's roles; without a file the verbs that it has."""
    if policy is None:
        return sorted(caller.rights.verbs)
    return policy.current().scopes_of(caller.roles)


def _has_strangers(options: FacadeOptions, policy: FollowedFiles[Policy] | None) -> bool:
    """Whether somebody who is not known may register servers."""
    if policy is None:
        return options.open_to_strangers
    now = policy.current()
    return "register" in now.rights(now.file.anonymous).verbs


def _timed(tally: Tally) -> Around:
    """Counts a call to the store, and has a request that waits for it tell how long it did."""

    @contextmanager
    def around(operation: str) -> Iterator[None]:
        with asking_store(), tally(operation):
            yield

    return around


async def _alive(app: web.Application) -> AsyncIterator[None]:
    """The facade's own tasks, from start to clean-up."""
    facade = app[FACADE]
    async with facade.catalog, facade.posted, app[PARTS].running():
        tasks = [
            asyncio.create_task(app[_SHARED_NAMES].run(), name="shared names"),
            asyncio.create_task(facade.leased.forget_lapsed(_LAPSED_EVERY), name="lapsed"),
            asyncio.create_task(facade.names.run(facade.catalog), name="rules for names"),
            asyncio.create_task(facade.queries.run(), name="named queries"),
            asyncio.create_task(
                _sweep(facade.catalog.store, facade.options.sweep_interval), name="sweep"
            ),
        ]
        if (meaning := app.get(MEANING)) is not None:
            tasks.append(asyncio.create_task(meaning.run(facade.catalog.ready), name="model"))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _sweep(store: Store, interval: float) -> None:
    """Removes the store's orphans now and then, out of step with other facades."""
    while True:
        await asyncio.sleep(interval * random.uniform(0.75, 1.25))
        try:
            removed = await store.sweep()
        except StoreError as error:
            log.debug("sweeping: %s", error)
        except Exception:  # the guard that keeps the sweeper alive
            log.exception("sweeping failed in a way it must not")
        else:
            if removed:
                log.info("%s: swept %d orphaned keys", store.url, removed)

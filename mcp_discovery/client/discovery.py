"""``Discovery``: what an agent imports to find MCP servers and to call their tools."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from mcp import Client
from mcp.client.session import ElicitationFnT, ListRootsFnT, SamplingFnT
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, Implementation, LoggingLevel, RequestParamsMeta

from mcp_discovery.balancing import USUAL, Strategy
from mcp_discovery.bearer_tokens import BearerToken, GivenToken
from mcp_discovery.client.attempt import AttemptError, server_error_text
from mcp_discovery.client.calls import OutcomeReporter, ToolCalls
from mcp_discovery.client.connection import ToolRequest
from mcp_discovery.client.facade import FacadeSource
from mcp_discovery.client.followed_servers import FollowedServers
from mcp_discovery.client.pool import ConnectionPool
from mcp_discovery.client.routing import Route, Router
from mcp_discovery.client.settings import (
    MAX_ANSWER,
    Auth,
    ClientSettings,
    Guard,
    OnLog,
    OnProgress,
    Permits,
    TransportTo,
)
from mcp_discovery.client.skills import Skill, skills_of
from mcp_discovery.client.source import ServerChange, Source, StoreSource, Wanted, changes
from mcp_discovery.client.tool import Tool
from mcp_discovery.client.transports import SharedHttp
from mcp_discovery.errors import DiscoveryError, InvalidInputError, NoReplicaError
from mcp_discovery.instance import Instance
from mcp_discovery.query.definition import NamedQuery
from mcp_discovery.query.query import Query, query_of
from mcp_discovery.query.question import Question
from mcp_discovery.record import SERVER, is_label
from mcp_discovery.telemetry import spans
from mcp_discovery.telemetry.conventions import mcp_result
from mcp_discovery.telemetry.setup import join_application

if TYPE_CHECKING:
    from mcp_discovery.adapters.store import StoreOptions
    from mcp_discovery.client.formats import DeferredToolList, Format, ToolList
    from mcp_discovery.client.tool_search import ToolSearch

log = logging.getLogger(__name__)

#: This many sessions are opened at once by ``connect(eager=True)``.
_CONCURRENCY = 16


#: So many servers may be named in one search.
_FEW = 50


class Discovery:
    """Finds living MCP servers and calls their tools. Use it as ``async with``::

        async with Discovery("http://facade:4000") as d:
            await d.connect(tags=["products"])
            result = await d.call("search_products", {"query": "kettle"})

    ``url`` is a facade's address, or a store's (``consul://…``, ``etcd://…``, ``embedded:…``),
    which is then watched from this process; or a :class:`~mcp_discovery.client.source.Source`.
    Without one it is ``MCP_DISCOVERY_FACADE`` of the environment, with the token in
    ``MCP_DISCOVERY_FACADE_TOKEN``, or ``http://127.0.0.1:4000``.

    ``token``: a bearer token for the facade, or the store's, or a function that returns one,
    ``async`` or not: it is called for the first request, before the token ends where that is known
    (the ``exp`` of a JWT), and when the facade answers 401; several requests at once call it once.
    :class:`mcp_discovery.oauth.ClientCredentials` is such a function. ``token_file``: a file that
    holds the token instead (``MCP_DISCOVERY_FACADE_TOKEN_FILE``), and is followed. The token goes
    to the facade alone. ``store_options``: a store's other credentials, as
    :class:`mcp_discovery.adapters.store.StoreOptions`.

    ``strategy``: which of several replicas is asked: ``least-loaded``, ``round-robin``, ``random``,
    ``weighted``, ``power-of-two`` or ``consistent-hash``. Servers of the legacy era, whose sessions
    may have a state, are not spread over: calls stay with one instance while it lives.

    ``deadline``: seconds that one instance may take to answer a call; ``deadlines``: the same for
    servers by name. ``patience``: seconds that a call waits for a replica when there is none at
    the moment, as during a restart. ``connect_timeout``: seconds to reach a server. ``hold``:
    seconds that an instance is kept which a list that starts over does not have.

    ``max_answer_bytes``: the largest answer of a server that is taken, unpacked; a larger one is
    :class:`~mcp_discovery.errors.AnswerTooLargeError`, and no more than this is held in memory.

    ``auth``: :class:`~mcp_discovery.client.credentials.Credentials` by server name, each for an
    origin: ``{"payments": Credentials("token", origin="https://payments.example.com")}``; or a
    function from an :class:`~mcp_discovery.instance.Instance` to such. A server of that name that
    is elsewhere gets none. ``allow_stdio``: names of ``stdio`` servers that may be started in this
    machine; ``environment``: variables for their ``${NAME}`` and for themselves. ``guard``: awaited
    with the URL of each HTTP request to a server; refuses it with an ``OSError``. ``permits``:
    asked with an instance and ``None``, and with the name of each of its tools; what it is false
    for is not called, nor named in errors. ``transport``: gives the SDK's transport to an instance
    that is reached in another way than its endpoint says. ``report``: whether outcomes are reported
    to the facade.

    ``on_log``, with ``log_level``, is given what servers log; ``on_elicit``, ``on_sample`` and
    ``list_roots`` answer what servers ask, as the SDK's callbacks of that name; ``client_info``
    is what servers are told of this client.

    Raises :class:`~mcp_discovery.errors.InvalidInputError` for what cannot be used.
    """

    def __init__(
        self,
        url: str | Source | None = None,
        *,
        token: GivenToken | None = None,
        token_file: str | None = None,
        store_options: StoreOptions | None = None,
        strategy: Strategy = USUAL,
        deadline: float = 30.0,
        deadlines: Mapping[str, float] | None = None,
        patience: float = 5.0,
        connect_timeout: float = 5.0,
        hold: float = 10.0,
        max_answer_bytes: int = MAX_ANSWER,
        auth: Auth | None = None,
        allow_stdio: Iterable[str] = (),
        environment: Mapping[str, str] | None = None,
        guard: Guard | None = None,
        permits: Permits | None = None,
        transport: TransportTo | None = None,
        report: bool = True,
        on_log: OnLog | None = None,
        log_level: LoggingLevel | None = None,
        on_elicit: ElicitationFnT | None = None,
        on_sample: SamplingFnT | None = None,
        list_roots: ListRootsFnT | None = None,
        client_info: Implementation | None = None,
    ) -> None:
        if url is None:
            url = os.environ.get("MCP_DISCOVERY_FACADE") or "http://127.0.0.1:4000"
            if token is None and token_file is None:
                token = os.environ.get("MCP_DISCOVERY_FACADE_TOKEN")
                token_file = os.environ.get("MCP_DISCOVERY_FACADE_TOKEN_FILE")
        if isinstance(allow_stdio, str):
            raise InvalidInputError(f"allow_stdio takes names: write allow_stdio=[{allow_stdio!r}]")
        self._settings = ClientSettings(
            strategy=strategy,
            deadline=deadline,
            deadlines=deadlines or {},
            patience=patience,
            connect_timeout=connect_timeout,
            hold=hold,
            max_answer_bytes=max_answer_bytes,
            auth=auth,
            guard=guard,
            permits=permits,
            transport=transport,
            allow_stdio=frozenset(allow_stdio),
            environment=environment,
            on_log=on_log,
            log_level=log_level,
            on_elicit=on_elicit,
            on_sample=on_sample,
            list_roots=list_roots,
            client_info=client_info,
        )
        self._http = SharedHttp(connect_timeout=connect_timeout, guard=guard)
        self._source = _source(url, self._http, token, token_file, store_options)
        self._pool = ConnectionPool(self._source, self._settings, self._http)
        self._followed = FollowedServers(self._source, self._pool.update, hold=hold)
        self._router = Router(self._pool, strategy)
        self._outcomes = OutcomeReporter(self._source) if report else None
        self._calls = ToolCalls(self._pool, self._router, self._settings, self._outcomes)
        self._offered: dict[tuple[Format, str], ToolList] = {}
        self._search: ToolSearch | None = None
        self._stack = AsyncExitStack()
        self._used = self._open = False

    async def __aenter__(self) -> Self:
        if self._used:
            raise RuntimeError("a Discovery is used once; make another one")
        self._used = True
        join_application()
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._http.close)
            stack.push_async_callback(self._source.close)
            await self._source.open()
            if self._outcomes is not None:
                stack.push_async_callback(self._outcomes.flush)
                self._pool.spawn(self._outcomes.run(), "reporting outcomes")
            stack.push_async_callback(self._pool.close)
            stack.push_async_callback(self._followed.close)
            self._stack = stack.pop_all()
        self._open = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self._open = False
        await self._stack.aclose()

    def _require_open(self) -> None:
        if not self._open:
            raise RuntimeError("use it as: async with Discovery(url) as d")

    @property
    def stale_since(self) -> datetime | None:
        """Since when the list of servers cannot be kept up to date; ``None``: it is."""
        return self._followed.stale_since

    async def connect(
        self, tags: str | Iterable[str] | None = None, *, eager: bool = False, **filters: Any
    ) -> list[Instance]:
        """Follows the servers with one of ``tags`` (of none: all) from now on; returns those that
        can be called now, by name and id.

        ``query="payments"`` follows what that named query finds instead, in ``zone`` or in its own
        where it finds any there.

        ``filters``: ``match="all"`` of the tags; ``name``, ``tool``, ``capability``, ``version``,
        ``transport``, ``zone``, ``owner``, each one string or several. Called again it adds to what
        is followed. Servers that come are called, those that go are not; nothing else has to be
        done. Sessions are opened by the first call, or now, in parallel, with ``eager``: then only
        those that opened are returned.

        Raises :class:`~mcp_discovery.errors.StoreUnavailableError` and
        :class:`~mcp_discovery.errors.StoreDeniedError` where the list is not to be had (of a facade
        :class:`~mcp_discovery.errors.UnauthenticatedError` for its 401,
        :class:`~mcp_discovery.errors.ForbiddenError` for its 403), and
        :class:`~mcp_discovery.errors.InvalidInputError` for an unknown filter.
        """
        self._require_open()
        wanted = _wanted(tags, filters)
        if isinstance(wanted, Query) and wanted["status"]:
            raise InvalidInputError("connect() follows servers in every status; leave out status=")
        if isinstance(wanted, Query) and wanted["kind"] != {SERVER}:
            raise InvalidInputError(
                "connect() follows MCP servers; list agents with servers(kind=)"
            )
        with spans.span("connect to servers"):
            followed = await self._followed.follow(wanted)
        found = [each for each in followed if self._pool.can_be_called(each)]
        if not eager:
            return found
        gate = asyncio.Semaphore(_CONCURRENCY)
        opened = await asyncio.gather(*(self._opened(each, gate) for each in found))
        return [each for each, works in zip(found, opened, strict=True) if works]

    def allows(self, instance: Instance) -> bool:
        """Whether ``instance`` may be called at all: a ``stdio`` server has to be allowed."""
        return self._pool.allowed(instance)

    async def _opened(self, instance: Instance, gate: asyncio.Semaphore) -> bool:
        connection = self._pool.connections.get(instance.id)
        if connection is None:
            return False
        async with gate:
            try:
                await connection.session.open()
            except AttemptError as error:
                log.warning("%s: %s", instance.id, error.why)
                return False
        return True

    async def servers(
        self, tags: str | Iterable[str] | None = None, **filters: Any
    ) -> list[Instance]:
        """The servers with one of ``tags``, as they are now, by name and id.

        ``query="payments"`` gives what that named query finds, in its order: ``zone`` has those of
        that zone first, ``key`` is for ``consistent-hash``.

        ``filters`` as for :meth:`connect`, and ``status``: ``healthy`` where it is left out, or
        several, or ``all``; ``kind="agent"`` gives the A2A agents instead, ``"all"`` both. Raises
        as :meth:`connect` does.
        """
        self._require_open()
        wanted = _wanted(tags, filters)
        if isinstance(wanted, Query) and "status" not in filters:
            wanted = wanted.but(status="healthy")
        with spans.span("find servers"):
            return await self._source.servers(wanted)

    async def skills(self, tags: str | Iterable[str] | None = None, **filters: Any) -> list[Skill]:
        """The skills of these servers, by name and server; ``skill="refunds"`` gives those of the
        servers that have it.

        ``filters`` as for :meth:`servers`. Their files are read with :meth:`session`. Raises as
        :meth:`connect` does, and :class:`~mcp_discovery.errors.StoreUnavailableError` where the
        lists of skills cannot be read now.
        """
        return await skills_of(await self.servers(tags, **filters), self._source.document)

    async def watch(
        self, tags: str | Iterable[str] | None = None, **filters: Any
    ) -> AsyncGenerator[ServerChange, None]:
        """First every server with one of ``tags`` as ``added``, then each change, for ever.

        ``filters`` as for :meth:`servers`; of every status where none is named. A source that is
        away is told as ``stale``, its return as ``fresh``; nothing that happened meanwhile is
        missed. Raises as :meth:`connect` does, at its beginning.
        """
        self._require_open()
        wanted = _wanted(tags, filters)
        async with aclosing(changes(self._source.watch(wanted))) as found:
            async for change in found:
                yield change

    @overload
    async def tools(self) -> list[Tool]: ...

    @overload
    async def tools(
        self, *, format: Format, defer: Literal[True], **options: Any
    ) -> DeferredToolList: ...

    @overload
    async def tools(self, *, format: Format, defer: bool = False, **options: Any) -> ToolList: ...

    async def tools(
        self, *, format: Format | None = None, defer: bool = False, **options: Any
    ) -> list[Tool] | ToolList:
        """The tools of all servers that are followed and can be called now, by name.

        Where two servers share a name, both are called ``<server>.<tool>``. Of a server whose
        replicas differ, as during an upgrade, the tool is the one of those that count most (see
        :mod:`mcp_discovery.vouching`): of most replicas of known registrants, or of the eldest.

        ``format`` (``openai``, ``anthropic`` or ``gemini``) gives them as that model's API takes
        them; calls that the model makes go to :meth:`dispatch`. ``options`` are those of
        :func:`mcp_discovery.client.formats.export`.

        ``defer`` gives the model a search first (``openai`` and ``anthropic``), and a tool's
        definition when it was found; ``options`` are those of
        :class:`mcp_discovery.client.formats.DeferredToolList`, too. Its searches go to
        :meth:`dispatch` as its other calls do. Read the tools anew for each turn: what was found
        stays among them.

        Raises as :meth:`connect` does.
        """
        await self._follow_something()
        await self._pool.settled()
        found = self._router.tools()
        if format is None:
            given = [*options, *(["defer"] if defer else ())]
            if given:
                raise InvalidInputError(
                    f"{', '.join(given)}: options of a format; give format= too"
                )
            return found
        from mcp_discovery.client import formats

        if not defer:
            if of_defer := {"search", "max_tokens"} & options.keys():
                raise InvalidInputError(f"{', '.join(sorted(of_defer))}: give defer=True too")
            exported = formats.export(found, format, **options)
        else:
            if self._search is None:
                from mcp_discovery.client.tool_search import ToolSearch

                self._search = ToolSearch(self._pool, self.find)
            exported = await self._search.listed(found, format, options)
        self._offered |= {(exported.format, name): exported for name in exported.names}
        return exported

    async def find(
        self, text: str, *, match: Literal["any", "all"] = "any", limit: int = 20
    ) -> list[Tool]:
        """The tools that fit ``text``, a sentence or some words, the best ``limit`` of those that
        can be called now; each says in one line ``why``.

        ``match``: whether any of the words is enough, or it takes all. It is the facade's search,
        or the same one here where a store is watched. Of a name that several servers have the one
        that fits best is found. Follows, and raises, as :meth:`tools` does.
        """
        question = Question(text, match)
        if not question.words:
            raise InvalidInputError(f"{text[:100]!r} has no word to search for; write letters")
        callable_ = {(each.own_name, each.server): each for each in await self.tools()}
        within = self._followed.only
        servers = {server for _, server in callable_}
        if within != Query() and 0 < len(servers) <= _FEW:
            within = Query(name=servers)  # so that others of the same name are not in their way
        with spans.span("find tools"):
            hits = await self._source.find(question, within)
        found = [
            replace(tool, why=each.why)
            for each in hits
            if (tool := callable_.get((each.name, each.server))) is not None
        ]
        return found[:limit]

    async def call(
        self,
        tool: str | Tool,
        arguments: Mapping[str, Any] | None = None,
        *,
        server: str | None = None,
        timeout: float | None = None,
        key: str | None = None,
        on_progress: OnProgress | None = None,
        meta: RequestParamsMeta | None = None,
    ) -> CallToolResult:
        """Calls a tool at one of the servers that offer it; with no :meth:`connect` before, of all.

        ``tool`` is a name as :meth:`tools` gives it, or such a :class:`Tool`, which is then called
        as it was listed or not at all. ``server`` (a server's name or an instance's id) says whose
        tool is meant. ``timeout`` bounds the whole call, in seconds, however many instances are
        asked. Calls with one ``key`` go to one replica for as long as it lives. ``on_progress``
        receives the progress; cancelling the task cancels the call at the server.

        Another replica with the same schema is asked when the first was not reached, or when the
        tool says that it is read-only or idempotent. A result with ``is_error`` is an answer.

        Raises :class:`~mcp_discovery.errors.UnknownToolError`,
        :class:`~mcp_discovery.errors.AmbiguousToolError`, :class:`~mcp_discovery.errors.CallError`
        in one of its kinds, the SDK's ``MCPError`` where the server answers with a JSON-RPC error,
        and what :meth:`connect` raises.
        """
        if timeout is not None and not 0 < timeout < float("inf"):
            raise InvalidInputError(f"timeout={timeout!r} is not a number of seconds above 0")
        await self._follow_something()
        name, digest = tool, None
        if isinstance(tool, Tool):
            name, server, digest = tool.own_name, server or tool.server, tool.digest or None
        request = ToolRequest(str(name), arguments, server, digest, timeout, key, on_progress, meta)
        with spans.span(f"execute_tool {request.tool}") as span:
            result = await self._calls.make(request)
            if span.is_recorded:
                span.set(
                    {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": request.tool}
                )
                mcp_result(span, {"isError": result.is_error})
            return result

    async def dispatch(
        self, tool_call: object, *, timeout: float | None = None, media: bool = False
    ) -> dict[str, Any]:
        """Makes the call that a model asked for, and returns the message that goes back to it.

        ``tool_call`` is the model API's own object or its JSON: an OpenAI tool call (of chat
        completions or responses), an Anthropic ``tool_use`` block, a Gemini function call. For a
        call that fails the message says why, so that the model can go on. ``media`` sends images to
        Gemini 3 and later as such; the others take them anyway, or never.

        A search of the tools that ``tools(defer=True)`` gave is such a call, too: OpenAI's
        ``tool_search_call``, for Anthropic a ``tool_use`` of the tool ``search_tools``. Its message
        loads what :meth:`find` finds.

        Raises :class:`~mcp_discovery.errors.InvalidInputError` for what is none of these.
        """
        from mcp_discovery.client import formats

        try:
            call = formats.parse_call(tool_call)
        except formats.UnreadableCallError as error:
            return formats.render_error(error.call, str(error))
        if self._search is not None and self._search.serves(call):
            return await self._search.answer(call)
        offered = self._offered.get((call.format, call.name))
        if offered is None:
            return formats.render_error(call, f"there is no tool {call.name!r}")
        try:
            arguments = offered.restore(call.name, call.arguments)
            result = await self.call(offered.names[call.name], arguments, timeout=timeout)
        except (DiscoveryError, MCPError) as error:
            text = str(error)
            if isinstance(error, MCPError):
                text = f"the server answered with {server_error_text(error)}"
            log.warning("the call that a model made failed: %s", text)
            return formats.render_error(call, text)
        return formats.render_result(call, result, media=media)

    @asynccontextmanager
    async def session(self, server: str) -> AsyncIterator[Client]:
        """The SDK's client, connected to one replica of ``server`` (a name, or an instance's id).

        For what is no tool call: resources, prompts, completion. It stays this object's: do not
        close it. Raises :class:`~mcp_discovery.errors.NoReplicaError`.
        """
        await self._follow_something()
        meant = tuple(self._router.replicas(server))
        route = Route(server, "its session", None, meant)
        tried: list[str] = []
        while (connection := self._router.choose(route, tried, None)) is not None:
            try:
                client = await connection.session.open()
            except AttemptError as error:
                connection.breaker.failed(error.why, at_once=True)
                tried.append(connection.id)
                continue
            yield client
            return
        if not meant:
            raise NoReplicaError("session", server, "no server of this name was found")
        problem, remedy = self._calls.state_of(route, None)
        raise NoReplicaError("session", server, problem, remedy=remedy)

    async def _follow_something(self) -> None:
        self._require_open()
        await self._followed.ready()


def _wanted(tags: str | Iterable[str] | None, filters: Mapping[str, Any]) -> Wanted:
    """What keyword arguments ask for; raises :class:`InvalidInputError`."""
    given: dict[str, Any] = {"tags": tags, **filters}
    if (name := given.pop("query", None)) is None:
        return query_of(given)
    zone, key = given.pop("zone", None), given.pop("key", None)
    if others := [each for each, value in given.items() if value is not None]:
        raise InvalidInputError(
            f"query={name!r} says which servers; leave out {', '.join(others)} (zone and key may "
            "be beside it)"
        )
    if not all(each is None or isinstance(each, str) for each in (zone, key)) or not (
        isinstance(name, str) and is_label(name)
    ):
        raise InvalidInputError(
            f"query={name!r} is no name of a query, or zone or key is no string; write for example "
            "query='payments'"
        )
    return NamedQuery(name, zone, key)


def _source(
    url: str | Source,
    http: SharedHttp,
    token: GivenToken | None,
    token_file: str | None,
    store_options: StoreOptions | None,
) -> Source:
    if not isinstance(url, str):
        return url
    if url.partition(":")[0] in ("http", "https"):
        return FacadeSource(url, http, token=BearerToken("facade's token", token, token_file))
    from mcp_discovery.adapters.store import StoreOptions

    return StoreSource(url, store_options or StoreOptions(token=token, token_file=token_file))

"""One instance as the client holds it: a session with one owner task, opened when it is needed."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any

from mcp import Client
from mcp.client.caching import CacheConfig
from mcp.shared.exceptions import MCPError
from mcp_types import (
    CONNECTION_CLOSED,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    REQUEST_TIMEOUT,
    UNSUPPORTED_PROTOCOL_VERSION,
    CallToolResult,
    DiscoverResult,
    Implementation,
    LoggingMessageNotificationParams,
    RequestParamsMeta,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from mcp_discovery.client.breaker import Breaker
from mcp_discovery.client.faults import AttemptFailed, Final, Misjudged, words
from mcp_discovery.client.http import ATTEMPT, Attempt, Http
from mcp_discovery.client.listing import Listing
from mcp_discovery.client.settings import OnProgress, Settings
from mcp_discovery.client.transports import transport_for
from mcp_discovery.errors import BadServer, ServerRefused
from mcp_discovery.health import Status
from mcp_discovery.instance import Instance
from mcp_discovery.urls import urls_of

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a tool, by the server's own name for it.

    ``repeatable``: the tool says that it is read-only or idempotent.
    """

    tool: str
    arguments: Mapping[str, Any] | None
    repeatable: bool
    on_progress: OnProgress | None = None
    meta: RequestParamsMeta | None = None


#: Seconds that a session may take to end in good order.
_GOODBYE = 2.0


class Connection:
    """One instance: its session, what is under way there, and its circuit breaker.

    The task that enters the SDK's client also leaves it, and does nothing else: a server that dies
    takes that one task with it and harms no other. A session that is lost is opened anew by the
    next call. Use it in one event loop.
    """

    def __init__(
        self, instance: Instance, listing: Listing, settings: Settings, http: Http
    ) -> None:
        self.instance = instance
        #: The tools that its document lists; a session takes them as read.
        self.listing = listing
        self.breaker = Breaker()
        self._settings = settings
        self._http = http
        self._owner: asyncio.Task[None] | None = None
        self._opened: asyncio.Future[Client] | None = None
        self._ended = asyncio.Event()
        self._known: DiscoverResult | None = None
        endpoint = instance.record.endpoint
        self._urls = urls_of(endpoint.url, endpoint.transport) if endpoint.url else ()
        self._mode = _mode_of(instance)
        self._proven = False
        self._calls: dict[asyncio.Timeout, bool] = {}  # → whether it may be made elsewhere
        self._active = 0
        self._quiet = asyncio.Event()

    @property
    def id(self) -> str:
        """The instance's id."""
        return self.instance.id

    @property
    def _name(self) -> str:
        return self.instance.record.name

    @property
    def _url(self) -> str | None:
        return self._urls[0] if self._urls else None

    def _try_elsewhere(self) -> bool:
        """Goes on to the next URL that may be meant; whether there is one."""
        if len(self._urls) < 2:
            return False
        self._urls = self._urls[1:]
        return True

    @property
    def active(self) -> int:
        """How many calls are under way, those that still wait for the session among them."""
        return self._active

    @property
    def legacy(self) -> bool:
        """Whether its sessions have a state that a call may depend on."""
        if self._opened is not None and self.is_open:
            return self._opened.result().protocol_version not in MODERN_PROTOCOL_VERSIONS
        return self._mode == "legacy"

    async def open(self) -> Client:
        """The session's client, opened if it is not yet; raises :class:`AttemptFailed`."""
        if self._opened is not None and self.is_open and self._owner and not self._owner.done():
            return self._opened.result()
        if self._opened is None or (self._owner is not None and self._owner.done()):
            loop = asyncio.get_running_loop()
            self._opened, self._ended = loop.create_future(), asyncio.Event()
            # The session outlives the call that opens it, and is not made on its behalf.
            context = contextvars.copy_context()
            context.run(ATTEMPT.set, Attempt())
            self._owner = loop.create_task(
                self._own(self._opened, self._ended),
                name=f"mcp session of {self.id}",
                context=context,
            )
        opened = self._opened
        await asyncio.wait([opened])  # which a cancelled caller leaves as it is
        try:
            return opened.result()
        except AttemptFailed as error:
            # Each waiter raises an exception of its own.
            raise AttemptFailed(error.why, sent=False, status=error.status) from error.__cause__

    async def _own(self, opened: asyncio.Future[Client], ended: asyncio.Event) -> None:
        problem: BaseException | None = None
        try:
            async with AsyncExitStack() as stack:
                async with asyncio.timeout(self._settings.connect_timeout):
                    client = await stack.enter_async_context(self._client())
                    if self.listing.result is not None:
                        await client.list_tools()  # from the listing: no request is made
                self._known = client.session.discover_result or self._known
                if client.session.initialize_result is not None:
                    self._proven = True
                opened.set_result(client)
                await ended.wait()
        except TimeoutError:
            problem = TimeoutError(f"no session within {self._settings.connect_timeout:g} s")
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            problem = error  # the SDK's: its session fell over
        except Exception as error:  # noqa: BLE001  # a guard: this session ends, and says why
            problem = error
        finally:
            if not opened.done():
                way = ATTEMPT.get() or Attempt()
                why = words(way.fault or problem) if problem else "the session was closed"
                failure = AttemptFailed(f"cannot connect ({why})", sent=False, status=way.status)
                failure.__cause__ = problem
                opened.set_exception(failure)
                opened.exception()  # whoever waits is told; when nobody does, nobody needs to be
            elif problem is not None:
                log.info("%s: the session ended: %s", self.id, words(problem))
            self._break(every=True)

    def _client(self) -> Client:
        settings = self._settings
        mode = self._mode
        info = settings.client_info or Implementation(
            name="mcp-discovery-client", version=_version()
        )
        return Client(
            transport_for(self.instance, self._url, settings, self._http),
            mode=mode,
            prior_discover=self._known if mode in MODERN_PROTOCOL_VERSIONS else None,
            client_info=info,
            logging_callback=self._log if settings.on_log else None,
            log_level=settings.log_level,
            elicitation_callback=settings.on_elicit,
            sampling_callback=settings.on_sample,
            list_roots_callback=settings.list_roots,
            cache=CacheConfig(
                store=self.listing.store(),
                partition=self.id,
                target_id=self.id,
            ),
        )

    async def _log(self, params: LoggingMessageNotificationParams) -> None:
        assert self._settings.on_log is not None
        await self._settings.on_log(self.instance, params)

    async def call(self, call: Call, *, deadline: float) -> CallToolResult:
        """Makes ``call`` once at this instance, which may take ``deadline`` seconds to answer.

        Raises :class:`AttemptFailed`, :class:`Final`, and the SDK's ``MCPError`` for an error that
        the server itself answered with.
        """
        self._active += 1
        try:
            return await self._renewed(call, deadline)
        finally:
            self._active -= 1
            self._quiet.set()

    async def _renewed(self, call: Call, deadline: float) -> CallToolResult:
        """The same, with a new session where the one there is refused."""
        before = self._opened
        try:
            return await self._attempt(call, deadline)
        except Misjudged:
            # Another call may have been told so as well, and have opened a new session already.
            if before is None or self._opened is before:
                await self.close()
                self._try_elsewhere()
                self._mode, self._known = "auto", None
        try:
            return await self._attempt(call, deadline)
        except Misjudged as error:
            raise AttemptFailed(f"it refuses its own session ({error})", sent=False) from error

    async def _attempt(self, call: Call, deadline: float) -> CallToolResult:
        client = await self._client_for(call)
        attempt = Attempt()
        token = ATTEMPT.set(attempt)
        life = asyncio.timeout(None)
        if self.instance.record.endpoint.transport == "sse":
            attempt.broken = lambda: self._expire(life)  # of this transport's faults nobody is told
        try:
            async with life:
                self._calls[life] = call.repeatable
                try:
                    result = await self._checked(client, call, deadline)
                finally:
                    attempt.broken = None
                    del self._calls[life]
        except MCPError as error:
            raise self._meaning(error, attempt, call, deadline) from error
        except TimeoutError as error:
            if not life.expired():
                raise
            if attempt.fault is not None:
                raise self._broken(attempt) from attempt.fault
            raise AttemptFailed("it is down, or its session ended", sent=True) from error
        except (ValidationError, RuntimeError) as error:
            if not attempt.sent:
                raise AttemptFailed(f"its session ended ({words(error)})", sent=False) from error
            # ValidationError: not MCP. RuntimeError: the SDK's word for a result that is not as
            # the tool's output schema says.
            self.breaker.succeeded()
            problem = f"its answer breaks its own contract ({words(error)})"
            raise Final(BadServer(call.tool, self._name, problem, instance=self.id)) from error
        finally:
            ATTEMPT.reset(token)
        self._proven = True
        self.breaker.succeeded()
        return result

    async def _checked(self, client: Client, call: Call, deadline: float) -> CallToolResult:
        def send() -> Awaitable[CallToolResult]:
            return client.call_tool(
                call.tool,
                dict(call.arguments) if call.arguments is not None else None,
                read_timeout_seconds=deadline,
                progress_callback=call.on_progress,
                meta=call.meta,
            )

        try:
            return await send()
        except RuntimeError:
            if not call.repeatable:
                raise
            # The server may be another version already than the list says.
            await client.list_tools(cache_mode="refresh")
            return await send()

    async def _client_for(self, call: Call) -> Client:
        try:
            return await self.open()
        except AttemptFailed as error:
            if error.status in (401, 403):
                raise self._refused(call, error.status) from error
            if error.status in (404, 405) and self._try_elsewhere():
                return await self._client_for(call)
            self.breaker.failed(error.why, at_once=True)
            raise

    def _refused(self, call: Call, status: int) -> Final:
        problem = f"it wants other credentials (HTTP {status}); see the auth option"
        error = ServerRefused(call.tool, self._name, problem, instance=self.id, status=status)
        return Final(error)

    def _broken(self, attempt: Attempt) -> AttemptFailed:
        why = words(attempt.fault) if attempt.fault is not None else "the connection ended"
        self.breaker.failed(why, at_once=not attempt.sent)
        return AttemptFailed(why, sent=attempt.sent)

    def _meaning(
        self, error: MCPError, attempt: Attempt, call: Call, deadline: float
    ) -> BaseException:
        """What the SDK's error stands for: of the server, of its session, or of the way there."""
        if attempt.fault is not None or error.code == CONNECTION_CLOSED:
            return self._broken(attempt)
        if error.code == REQUEST_TIMEOUT and attempt.status in (None, 200):
            why = f"no answer within {deadline:.3g} s"
            self.breaker.failed(why)
            return AttemptFailed(why, sent=True, slow=True)
        status = attempt.status or 200
        if status in (401, 403):
            return self._refused(call, status)
        if status == 429:
            self.breaker.failed("HTTP 429: too many requests", at_once=True)
            return AttemptFailed("it takes no more requests now (HTTP 429)", sent=False)
        if status >= 500:
            self.breaker.failed(f"HTTP {status}")
            return AttemptFailed(f"HTTP {status}: {error.message}", sent=True)
        lost = status == 404 and error.code in (INVALID_REQUEST, METHOD_NOT_FOUND)
        era = not self._proven or error.code in (INVALID_REQUEST, UNSUPPORTED_PROTOCOL_VERSION)
        if lost or (status >= 400 and era and self._mode != "auto"):
            return Misjudged(f"HTTP {status}: {error.message}")
        self.breaker.succeeded()
        return error

    async def recover(self) -> bool:
        """Whether the server answers again: it is asked a question of the protocol's own.

        The trial of a breaker that is half open; no caller's request is risked.
        """
        attempt = Attempt()
        token = ATTEMPT.set(attempt)
        try:
            async with asyncio.timeout(self._settings.connect_timeout):
                client = await self.open()
                if client.protocol_version in MODERN_PROTOCOL_VERSIONS:
                    self._known = await client.session.discover()
                else:
                    await client.session.send_ping()
        except (AttemptFailed, ValidationError, TimeoutError) as error:
            self.breaker.failed(words(error))
            return False
        except MCPError as error:
            if attempt.fault is not None or error.code == CONNECTION_CLOSED:
                self.breaker.failed(words(attempt.fault or error))
                return False
            # It answers; that this session is gone the next call is told.
        finally:
            ATTEMPT.reset(token)
        self.breaker.succeeded()
        return True

    @property
    def is_open(self) -> bool:
        """Whether there is a session."""
        opened = self._opened
        return opened is not None and opened.done() and opened.exception() is None

    def become(self, listing: Listing) -> None:
        """Takes in the tools as they are listed now, for sessions to come."""
        self.listing.become(listing)

    async def relist(self) -> None:
        """Lets the open session learn of the tools as they are listed now."""
        if self._opened is not None and self.is_open:
            with suppress(MCPError, ValidationError):  # the next call finds out
                await self._opened.result().list_tools()

    def know(self, instance: Instance) -> None:
        """Takes in what the list says of the instance now."""
        before, self.instance = self.instance, instance
        status = instance.health.status
        if status is Status.DOWN:
            self._break(every=False)
        elif before.health.status is Status.DOWN:
            self.breaker.succeeded()  # somebody has asked it meanwhile

    def _break(self, *, every: bool) -> None:
        """Breaks off the calls that may be made elsewhere, or ``every`` one."""
        for life, repeatable in self._calls.items():
            if every or repeatable:
                self._expire(life)

    def _expire(self, life: asyncio.Timeout) -> None:
        if life in self._calls and not life.expired():
            life.reschedule(asyncio.get_running_loop().time())

    async def retire(self) -> None:
        """Closes when no call is under way any more, after a deadline at the latest."""
        try:
            async with asyncio.timeout(self._settings.deadline_of(self._name)):
                while self._active:
                    self._quiet.clear()
                    await self._quiet.wait()
        except TimeoutError:
            log.info("%s: closed with %d calls under way", self.id, self.active)
        await self.close()

    async def close(self) -> None:
        """Ends the session in good order if it can be done quickly."""
        owner = self._owner
        if owner is None:
            return
        self._ended.set()
        if self._opened is not None and not self._opened.done():
            owner.cancel()
        await asyncio.wait([owner], timeout=_GOODBYE)
        if not owner.done():
            owner.cancel()
            await asyncio.wait([owner])
        with suppress(asyncio.CancelledError):
            if (error := owner.exception()) is not None:
                log.warning("%s: the session ended badly: %s", self.id, words(error))
        self._owner = self._opened = None


def _mode_of(instance: Instance) -> str:
    """How to greet it, from what it told its sidecar: that saves the SDK's question."""
    told = instance.record.protocol
    if told.era == "legacy":
        return "legacy"
    modern = [version for version in told.versions if version in MODERN_PROTOCOL_VERSIONS]
    return max(modern) if told.era == "modern" and modern else "auto"


def _version() -> str:
    from importlib.metadata import version

    return version("mcp-discovery")

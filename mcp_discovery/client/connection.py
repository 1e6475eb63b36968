"""One instance as the client holds it: calls over its session, and what their failures mean."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import (
    CONNECTION_CLOSED,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    REQUEST_TIMEOUT,
    UNSUPPORTED_PROTOCOL_VERSION,
    CallToolResult,
    RequestParamsMeta,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from mcp_discovery.client.breaker import Breaker
from mcp_discovery.client.faults import (
    AttemptError,
    FinalAttemptError,
    MisjudgedAttemptError,
    words,
)
from mcp_discovery.client.http import ATTEMPT, Attempt, Http
from mcp_discovery.client.listing import Listing
from mcp_discovery.client.session import Session
from mcp_discovery.client.settings import OnProgress, Settings
from mcp_discovery.errors import BadServerError, ServerRefusedError
from mcp_discovery.health import Status
from mcp_discovery.instance import Instance

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


class Connection:
    """One instance: its session, what is under way there, and its circuit breaker.

    A session that is lost is opened anew by the next call. Use it in one event loop.
    """

    def __init__(
        self, instance: Instance, listing: Listing, settings: Settings, http: Http
    ) -> None:
        self.instance = instance
        #: The tools that its document lists; a session takes them as read.
        self.listing = listing
        self.breaker = Breaker()
        self._settings = settings
        self._session = Session(instance, listing, settings, http, self._session_ended)
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
    def active(self) -> int:
        """How many calls are under way, those that still wait for the session among them."""
        return self._active

    @property
    def legacy(self) -> bool:
        """Whether its sessions have a state that a call may depend on."""
        return self._session.legacy

    @property
    def is_open(self) -> bool:
        """Whether there is a session."""
        return self._session.is_open

    async def open(self) -> Client:
        """The session's client, opened if it is not yet; raises :class:`AttemptError`."""
        return await self._session.open()

    async def close(self) -> None:
        """Ends the session in good order if it can be done quickly."""
        await self._session.close()

    async def call(self, call: Call, *, deadline: float) -> CallToolResult:
        """Makes ``call`` once at this instance, which may take ``deadline`` seconds to answer.

        Raises :class:`AttemptError`, :class:`FinalAttemptError`, and the SDK's ``MCPError`` for an
        error that the server itself answered with.
        """
        self._active += 1
        try:
            return await self._renewed(call, deadline)
        finally:
            self._active -= 1
            self._quiet.set()

    async def _renewed(self, call: Call, deadline: float) -> CallToolResult:
        """The same, with a new session where the one there is refused."""
        session = self._session
        refused: MisjudgedAttemptError | None = None
        for _ in range(2):
            client = await self._client_for(call)
            mine = session.opened
            try:
                return await self._attempt(client, call, deadline)
            except MisjudgedAttemptError as error:
                refused = error
                await session.renew(mine)
            except AttemptError as error:
                if error.over and session.opened is mine:
                    await session.close()
                raise
        raise AttemptError(f"it refuses its session ({refused})", sent=False) from refused

    async def _attempt(self, client: Client, call: Call, deadline: float) -> CallToolResult:
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
            raise AttemptError("it is down, or its session ended", sent=True) from error
        except (ValidationError, RuntimeError) as error:
            if not attempt.sent:
                raise AttemptError(f"its session ended ({words(error)})", sent=False) from error
            # ValidationError: not MCP. RuntimeError: the SDK's word for a result that is not as
            # the tool's output schema says.
            self.breaker.succeeded()
            problem = f"its answer breaks its own contract ({words(error)})"
            raise FinalAttemptError(
                BadServerError(call.tool, self._name, problem, instance=self.id)
            ) from error
        finally:
            ATTEMPT.reset(token)
        self._session.proven = True
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
        except AttemptError as error:
            if error.status in (401, 403):
                raise self._refused(call, error.status) from error
            if error.status in (404, 405) and self._session.try_elsewhere():
                return await self._client_for(call)
            self.breaker.failed(error.why, at_once=True)
            raise

    def _refused(self, call: Call, status: int) -> FinalAttemptError:
        problem = f"it wants other credentials (HTTP {status}); see the auth option"
        error = ServerRefusedError(call.tool, self._name, problem, instance=self.id, status=status)
        return FinalAttemptError(error)

    def _broken(self, attempt: Attempt) -> AttemptError:
        why = words(attempt.fault) if attempt.fault is not None else "the connection ended"
        self.breaker.failed(why, at_once=not attempt.sent)
        return AttemptError(why, sent=attempt.sent, over=self._is_over(attempt))

    def _is_over(self, attempt: Attempt) -> bool:
        """Whether the session ended, and not a single request of it."""
        http = self.instance.record.endpoint.transport == "streamable-http"
        return attempt.fault is None or not http

    def _meaning(
        self, error: MCPError, attempt: Attempt, call: Call, deadline: float
    ) -> BaseException:
        """What the SDK's error stands for: of the server, of its session, or of the way there."""
        if attempt.fault is not None or error.code == CONNECTION_CLOSED:
            return self._broken(attempt)
        if error.code == REQUEST_TIMEOUT and attempt.status in (None, 200):
            why = f"no answer within {deadline:.3g} s"
            self.breaker.failed(why)
            return AttemptError(why, sent=True, slow=True)
        status = attempt.status or 200
        if status in (401, 403):
            return self._refused(call, status)
        if status == 429:
            self.breaker.failed("HTTP 429: too many requests", at_once=True)
            return AttemptError("it takes no more requests now (HTTP 429)", sent=False)
        if status >= 500:
            self.breaker.failed(f"HTTP {status}")
            return AttemptError(f"HTTP {status}: {error.message}", sent=True)
        lost = status == 404 and error.code in (INVALID_REQUEST, METHOD_NOT_FOUND)
        era = not self._session.proven or error.code in (
            INVALID_REQUEST,
            UNSUPPORTED_PROTOCOL_VERSION,
        )
        if lost or (status >= 400 and era and self._session.guessed):
            return MisjudgedAttemptError(f"HTTP {status}: {error.message}")
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
                    await self._session.discover()
                else:
                    await client.session.send_ping()
        except (AttemptError, ValidationError, TimeoutError) as error:
            self.breaker.failed(words(error))
            return False
        except MCPError as error:
            if attempt.fault is not None or error.code == CONNECTION_CLOSED:
                self.breaker.failed(words(attempt.fault or error))
                if self._is_over(attempt):
                    await self.close()  # the next trial opens another one
                return False
            # It answers; that this session is gone the next call is told.
        finally:
            ATTEMPT.reset(token)
        self.breaker.succeeded()
        return True

    def become(self, listing: Listing) -> None:
        """Takes in the tools as they are listed now, for sessions to come."""
        self.listing.become(listing)

    async def relist(self) -> None:
        """Lets the open session learn of the tools as they are listed now."""
        if self.is_open:
            with suppress(AttemptError, MCPError, ValidationError):  # the next call finds out
                client = await self.open()
                await client.list_tools()

    def know(self, instance: Instance) -> None:
        """Takes in what the list says of the instance now."""
        before, self.instance = self.instance, instance
        self._session.instance = instance
        status = instance.health.status
        if status is Status.DOWN:
            self._break(every=False)
        elif before.health.status is Status.DOWN:
            self.breaker.succeeded()  # somebody has asked it meanwhile

    def _session_ended(self) -> None:
        self._break(every=True)

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

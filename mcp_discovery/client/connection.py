"""One instance: its session, the calls over it, and what their failures mean."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import (
    CONNECTION_CLOSED,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    UNSUPPORTED_PROTOCOL_VERSION,
    CallToolResult,
    RequestParamsMeta,
)
from pydantic import ValidationError

from mcp_discovery.client.answers import OversizedAnswerError, UnusableAnswerError, size_text
from mcp_discovery.client.attempt import (
    ATTEMPT,
    Attempt,
    AttemptError,
    CircuitBreaker,
    SessionRefusedError,
    describe,
)
from mcp_discovery.client.session import McpSession
from mcp_discovery.client.settings import ClientSettings, OnProgress
from mcp_discovery.client.transports import SharedHttp
from mcp_discovery.errors import (
    AnswerTooLargeError,
    BadServerError,
    CallError,
    ServerRefusedError,
)
from mcp_discovery.health import Status
from mcp_discovery.instance import Instance
from mcp_discovery.plural import counted

log = logging.getLogger(__name__)

#: What a proxy or a server says that cannot answer now (RFC 9110, 15.6), whatever the body says.
_NOT_NOW = frozenset((502, 503, 504))
#: The statuses in which an instance gets calls.
CALLABLE = frozenset((Status.HEALTHY, Status.DEGRADED))


@dataclass(frozen=True, slots=True)
class ToolRequest:
    """A call as the caller requests it; see :meth:`mcp_discovery.client.Discovery.call`.

    To an instance it goes with the server's own name for the tool, and ``repeatable`` where that
    says that it is read-only or idempotent.
    """

    tool: str
    arguments: Mapping[str, Any] | None = None
    server: str | None = None
    digest: str | None = None
    timeout: float | None = None
    key: str | None = None
    on_progress: OnProgress | None = None
    meta: RequestParamsMeta | None = None
    repeatable: bool = False


class InstanceConnection:
    """One instance: its session, what is under way there, and its circuit breaker.

    A session that is lost is opened anew by the next call. Use it in one event loop.
    """

    def __init__(self, instance: Instance, settings: ClientSettings, http: SharedHttp) -> None:
        self.instance = instance
        self.breaker = CircuitBreaker()
        self._settings = settings
        self._calls: dict[asyncio.Timeout, bool] = {}  # → whether it may be made elsewhere
        self.session = McpSession(
            instance, settings, http, partial(self._abort_calls, all_calls=True)
        )
        #: How many calls are under way, those that still wait for the session among them.
        self.active = 0
        self._quiet = asyncio.Event()

    @property
    def id(self) -> str:
        """The instance's id."""
        return self.instance.id

    async def call(self, call: ToolRequest, *, deadline: float) -> CallToolResult:
        """Makes ``call`` once at this instance, which may take ``deadline`` seconds to answer.

        Raises :class:`AttemptError`, a :class:`CallError` where another instance would not help,
        and the SDK's ``MCPError`` for an error that the server itself answered with.
        """
        self.active += 1
        try:
            return await self._renewed(call, deadline)
        finally:
            self.active -= 1
            self._quiet.set()

    async def _renewed(self, call: ToolRequest, deadline: float) -> CallToolResult:
        """The same, with a new session where the present one is refused."""
        session = self.session
        refused: SessionRefusedError | None = None
        for _ in range(2):
            client = await self._client_for(call)
            opened = session.opened
            try:
                return await self._attempt(client, call, deadline)
            except SessionRefusedError as error:
                refused = error
                await session.renew(opened)
            except AttemptError as error:
                if error.over and session.opened is opened:
                    await session.close()
                raise
        if refused is not None and refused.error is not None:
            self.breaker.succeeded()
            raise refused.error  # said of a new session too, so it is about the request
        raise AttemptError(f"it refuses its session ({refused})", sent=False) from refused

    async def _attempt(self, client: Client, call: ToolRequest, deadline: float) -> CallToolResult:
        attempt = Attempt()
        token = ATTEMPT.set(attempt)
        scope = asyncio.timeout(None)
        try:
            async with scope:
                self._calls[scope] = call.repeatable
                try:
                    result = await self._checked(client, call, deadline)
                finally:
                    del self._calls[scope]
        except MCPError as error:
            raise self._interpreted(error, attempt, call, deadline) from error
        except TimeoutError as error:
            if not scope.expired():
                raise
            raise AttemptError("it is down, or its session ended", sent=True) from error
        except (ValidationError, RuntimeError) as error:
            if not attempt.sent:
                raise AttemptError(f"its session ended ({describe(error)})", sent=False) from error
            # ValidationError: not MCP. RuntimeError: what the SDK raises for a result that breaks
            # the tool's output schema.
            raise self._broken_contract(call, error) from error
        finally:
            ATTEMPT.reset(token)
        self.session.proven = True
        self.breaker.succeeded()
        return result

    async def _checked(self, client: Client, call: ToolRequest, deadline: float) -> CallToolResult:
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
            # The server may already be another version than the list has.
            await client.list_tools(cache_mode="refresh")
            return await send()

    async def _client_for(self, call: ToolRequest) -> Client:
        try:
            return await self.session.open()
        except AttemptError as error:
            if error.status in (401, 403):
                raise self._refused(call, error.status) from error
            if error.status in (404, 405) and self.session.try_elsewhere():
                return await self._client_for(call)
            self.breaker.failed(error.why, at_once=True)
            raise

    def _refused(self, call: ToolRequest, status: int, said: str = "") -> ServerRefusedError:
        problem = f"it wants other credentials (HTTP {status}{f': {said}' if said else ''})"
        name = self.instance.record.name
        return ServerRefusedError(call.tool, name, problem, instance=self.id, status=status)

    def _broken(self, attempt: Attempt) -> AttemptError:
        why = describe(attempt.fault) if attempt.fault is not None else "the connection ended"
        self.breaker.failed(why, at_once=not attempt.sent)
        return AttemptError(why, sent=attempt.sent, over=self._is_over(attempt))

    def _is_over(self, attempt: Attempt) -> bool:
        """Whether the session ended, and not a single request of it."""
        return self.session.exchanges.over or attempt.fault is None

    def _interpreted(
        self, error: MCPError, attempt: Attempt, call: ToolRequest, deadline: float
    ) -> BaseException:
        """The SDK's error as one of the server, of its answer, its session or the connection."""
        if not attempt.is_own(error):
            if isinstance(attempt.fault, UnusableAnswerError):
                return self._unusable(call, attempt.fault)
            if attempt.abandoned:
                blocked = self.session.exchanges.blocked
                large = size_text(self._settings.max_answer_bytes)
                way = f"; an answer over {large} is in its way" if blocked else ""
                why = f"no answer within {deadline:.3g} s{way}"
                self.breaker.failed(why)
                return AttemptError(why, sent=True, slow=True, over=blocked)
            if attempt.fault is not None or attempt.waiting or self.session.exchanges.over:
                return self._broken(attempt)
            if not attempt.failed:
                return error  # a callback of the client's user refused what the server asked
            if (attempt.status or 200) < 400:
                return self._broken_contract(call, error)
        return self._by_status(error, attempt, call)

    def _by_status(self, error: MCPError, attempt: Attempt, call: ToolRequest) -> BaseException:
        """What an error means that came with that HTTP status, if it was one over HTTP."""
        own, named = attempt.is_own(error), attempt.is_named(error)
        status = attempt.status or 200
        if status in (401, 403):
            return self._refused(call, status, error.message if own else "")
        if status == 429:
            self.breaker.failed("HTTP 429: too many requests", at_once=True)
            return AttemptError("it takes no more requests now (HTTP 429)", sent=False)
        if status in _NOT_NOW or (status >= 500 and not named):
            self.breaker.failed(f"HTTP {status}")
            return AttemptError(f"HTTP {status}: {error.message}", sent=True)
        if self._refuses_session(error, attempt):
            return SessionRefusedError(f"HTTP {status}: {error.message}", error if own else None)
        if not own:
            return self._broken_contract(call, error)
        self.breaker.succeeded()
        return error

    def _refuses_session(self, error: MCPError, attempt: Attempt) -> bool:
        """Whether it did not read the request, since it knows the session or the protocol not."""
        status = attempt.status or 200
        if status < 400:
            return False
        if self.session.legacy and self.session.proven:
            # 404 by the specification (2025-11-25, session management); many servers answer 400,
            # as an example of the TypeScript SDK does, with the code of a transport.
            unread = not attempt.is_named(error) or error.code == CONNECTION_CLOSED
            return status == 404 or (status == 400 and unread)
        if status == 404 and error.code in (INVALID_REQUEST, METHOD_NOT_FOUND):
            return not (self.session.proven and attempt.is_named(error))
        era = not self.session.proven or error.code in (
            INVALID_REQUEST,
            UNSUPPORTED_PROTOCOL_VERSION,
        )
        return era and self.session.guessed

    def _unusable(self, call: ToolRequest, fault: UnusableAnswerError) -> CallError:
        """Its answer came, and cannot be taken: another instance would answer the same."""
        self.breaker.succeeded()
        name = self.instance.record.name
        if isinstance(fault, OversizedAnswerError):
            return AnswerTooLargeError(
                call.tool, name, str(fault), instance=self.id, limit=fault.limit
            )
        return BadServerError(call.tool, name, str(fault), instance=self.id)

    def _broken_contract(self, call: ToolRequest, error: BaseException) -> BadServerError:
        self.breaker.succeeded()
        problem = f"its answer breaks its own contract ({describe(error)})"
        return BadServerError(call.tool, self.instance.record.name, problem, instance=self.id)

    async def recover(self) -> None:
        """The trial of a half-open breaker: a ping closes it, and no caller's request is risked."""
        attempt = Attempt()
        token = ATTEMPT.set(attempt)
        try:
            async with asyncio.timeout(self._settings.connect_timeout):
                await self.session.ping()
        except (AttemptError, ValidationError, TimeoutError) as error:
            self.breaker.failed(describe(error))
            return
        except MCPError as error:
            if attempt.fault is not None or not (attempt.failed or attempt.is_own(error)):
                self.breaker.failed(describe(attempt.fault or error))
                if self._is_over(attempt):
                    await self.session.close()  # the next trial opens another one
                return
            # It answers; that this session is gone is found by the next call.
        finally:
            ATTEMPT.reset(token)
        self.breaker.succeeded()

    def update_instance(self, instance: Instance) -> None:
        """Replaces the instance by what the list has of it now."""
        before, self.instance = self.instance, instance
        self.session.instance = instance
        status = instance.health.status
        if status is Status.DOWN:
            self._abort_calls(all_calls=False)
        elif before.health.status is Status.DOWN:
            self.breaker.succeeded()  # its sidecar has probed it meanwhile

    def _abort_calls(self, *, all_calls: bool) -> None:
        """Aborts the calls that may be made elsewhere, or all of them."""
        for scope, repeatable in self._calls.items():
            if all_calls or repeatable:
                self._expire(scope)

    def _expire(self, scope: asyncio.Timeout) -> None:
        if scope in self._calls and not scope.expired():
            scope.reschedule(asyncio.get_running_loop().time())

    async def retire(self) -> None:
        """Closes when no call is under way any more, after a deadline at the latest."""
        try:
            async with asyncio.timeout(self._settings.deadline_of(self.instance.record.name)):
                while self.active:
                    self._quiet.clear()
                    await self._quiet.wait()
        except TimeoutError:
            log.info("%s: closed with %s under way", self.id, counted(self.active, "call"))
        await self.session.close()

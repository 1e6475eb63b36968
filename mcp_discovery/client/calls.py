"""One call of a tool: the route, the replicas one after another, and when to stop."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import replace

from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult

from mcp_discovery.client.attempt import AttemptError
from mcp_discovery.client.connection import InstanceConnection, ToolRequest
from mcp_discovery.client.pool import ConnectionPool
from mcp_discovery.client.routing import Route, Router
from mcp_discovery.client.settings import ClientSettings
from mcp_discovery.client.source import CallOutcome, Source
from mcp_discovery.errors import (
    AmbiguousToolError,
    CallError,
    CallLostError,
    CallTimeoutError,
    DiscoveryError,
    ForbiddenError,
    NoReplicaError,
    Remedy,
    UnknownToolError,
)

log = logging.getLogger(__name__)

#: Seconds between two batches of reports, and until one that tells of a failure: the facade probes
#: the server at once then.
_INTERVAL, _SOON = 1.0, 0.05
#: The most outcomes in one batch, and in memory while the facade is away; the oldest are dropped.
_BATCH, _MOST = 500, 5_000


#: Takes the outcomes of the calls that the current task makes, besides the reporter.
OUTCOMES: ContextVar[list[CallOutcome] | None] = ContextVar("outcomes", default=None)


class OutcomeReporter:
    """Collects outcomes and sends them. ``run`` is its task; ``flush`` sends what is left."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._waiting: deque[CallOutcome] = deque(maxlen=_MOST)
        self._available = asyncio.Event()
        self._failed = asyncio.Event()
        self._refused = False

    def add(self, outcome: CallOutcome) -> None:
        """Adds the outcome of a call to the next batch."""
        if (taken := OUTCOMES.get()) is not None:
            taken.append(outcome)
        if self._refused:
            return
        self._waiting.append(outcome)
        self._available.set()
        if not outcome.success:
            self._failed.set()

    async def run(self) -> None:
        """Sends a batch every second while there are outcomes, for ever; a failure sooner."""
        while True:
            await self._available.wait()
            self._failed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(_INTERVAL):
                    await self._failed.wait()
                    await asyncio.sleep(_SOON)
            await self.flush()

    async def flush(self) -> None:
        """Sends all outcomes; those that cannot be sent stay for the next batch. A caller that has
        no right to report them stops doing so."""
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
            try:
                async with asyncio.timeout(_INTERVAL * 5):
                    await self._source.report(batch)
            except ForbiddenError as error:
                log.info("outcomes of calls are not reported: %s", error)
                self._refused = True
                self._waiting.clear()
            except (DiscoveryError, TimeoutError) as error:
                log.debug("%d outcomes are not reported: %s", len(batch), error)
                room = _MOST - len(self._waiting)
                self._waiting.extendleft(reversed(batch[-room:] if room else []))
                return
        self._available.clear()


class ToolCalls:
    """Makes calls over one pool."""

    def __init__(
        self,
        pool: ConnectionPool,
        router: Router,
        settings: ClientSettings,
        outcomes: OutcomeReporter | None,
    ) -> None:
        self._pool = pool
        self._router = router
        self._settings = settings
        self._outcomes = outcomes
        self._trials: set[str] = set()

    async def make(self, request: ToolRequest) -> CallToolResult:
        """The tool's result, from the first replica that gives one.

        Another replica is asked when the call never left, or when the tool says that it is
        repeatable. Raises what :meth:`mcp_discovery.client.Discovery.call` does.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        # By default a call may take twice what one instance may.
        deadlines = self._settings.deadline, *self._settings.deadlines.values()
        until = started + (request.timeout or 2 * max(deadlines))
        patient_until: float | None = None
        tried: set[str] = set()
        last: AttemptError | None = None
        while True:
            route = await self._route(request)
            connection = self._router.choose(route, tried, request.key) if route else None
            now = loop.time()
            if connection is None or route is None:
                if patient_until is None:
                    patient_until = min(now + self._settings.patience, until)
                if now >= patient_until:
                    raise self._no_replica(request, route, last) from last
                tried.clear()  # their breakers say when they may be asked again
                await self._wait_for_replica(route, patient_until)
                continue
            if now >= until:
                problem = f"no answer within {now - started:.3g} s"
                raise CallTimeoutError(
                    route.tool, route.server, problem, instance=connection.id
                ) from last
            for each in route.connections:  # no call waits for these trials
                if not each.breaker.closed:
                    self._try_again(each)
            deadline = min(self._settings.deadline_of(route.server), until - now)
            repeatable = route.repeatable
            call = replace(request, tool=route.tool, repeatable=repeatable)
            try:
                result = await self._attempt(connection, call, deadline)
                self._router.answered(route, connection)
                return result
            except AttemptError as error:
                last = error
                tried.add(connection.id)
                if error.sent and not repeatable:
                    problem = (
                        f"{error.why}; it may have done its work, and it does not say that it is "
                        "safe to call again"
                    )
                    kind = CallTimeoutError if error.slow else CallLostError
                    raise kind(route.tool, route.server, problem, instance=connection.id) from error
                if error.sent:
                    patient_until = None  # it took its time; that of the others begins now

    async def _route(self, request: ToolRequest) -> Route | None:
        """The route; ``None`` where the tool was there before, and may come back."""
        if self._pool.reading:
            offers = self._pool.index.of(request.tool)
            await self._pool.settled({id for id, offer in offers.items() if offer is None})
        wanted = request.tool, request.server, request.digest
        try:
            return self._router.resolve(*wanted)
        except AmbiguousToolError:
            raise
        except UnknownToolError:
            await self._pool.settled()  # a server may offer more than its record has names of
        try:
            return self._router.resolve(*wanted)
        except UnknownToolError:
            if self._router.knows(request.tool, request.server):
                return None
            raise

    async def _attempt(
        self, connection: InstanceConnection, call: ToolRequest, deadline: float
    ) -> CallToolResult:
        loop = asyncio.get_running_loop()
        began = loop.time()
        fault: str | None = "the call failed"
        try:
            result = await connection.call(call, deadline=deadline)
            fault = "the tool answered with an error" if result.is_error else None
            return result
        except (AttemptError, CallError) as error:
            fault = str(error)
            raise
        except MCPError as error:
            fault = f"JSON-RPC error {error.code}"
            raise
        finally:
            task = asyncio.current_task()
            cancelled = task is not None and task.cancelling() > 0
            if self._outcomes is not None and not cancelled:
                took = loop.time() - began
                self._outcomes.add(
                    CallOutcome(connection.id, call.tool, fault is None, took, fault)
                )

    async def _wait_for_replica(self, route: Route | None, until: float) -> None:
        """Waits for a change, or until a replica that failed may be tried again and answers."""
        loop = asyncio.get_running_loop()
        change = asyncio.ensure_future(self._pool.wait_for_change())
        try:
            wait = until - loop.time()
            for connection in route.connections if route else ():
                if not self._pool.can_be_called(connection.instance):
                    continue  # only a change helps
                if connection.breaker.closed:
                    return
                self._try_again(connection)
                wait = min(wait, max(connection.breaker.wait, 0.02))
            await asyncio.wait([change], timeout=max(wait, 0))
        finally:
            change.cancel()

    def _try_again(self, connection: InstanceConnection) -> None:
        """Starts the trial of a failed replica, if it is due."""
        if connection.breaker.wait > 0 or connection.id in self._trials:
            return
        self._trials.add(connection.id)
        self._pool.spawn(self._trial(connection), f"trying {connection.id} again")

    async def _trial(self, connection: InstanceConnection) -> None:
        try:
            await connection.recover()
        finally:
            self._trials.discard(connection.id)
        self._pool.notify()

    def _no_replica(
        self, request: ToolRequest, route: Route | None, last: AttemptError | None
    ) -> CallError:
        # Only a repeatable call comes here after it was sent.
        kind = CallLostError if last is not None and last.sent else NoReplicaError
        if route is None:
            problem = "every instance that offered it is gone"
            return kind(request.tool, request.server or "its server", problem)
        problem, remedy = self.state_of(route, last)
        return kind(route.tool, route.server, problem, remedy=remedy)

    def state_of(self, route: Route, last: AttemptError | None) -> tuple[str, Remedy | None]:
        """Why none of the route's instances can be called, in words, and what would help."""
        reasons = []
        remedy: Remedy | None = None
        for connection in route.connections:
            health = connection.instance.health
            if not self._pool.allowed(connection.instance):
                reasons.append(f"{connection.id} is a command that would be started here")
                remedy = Remedy.ALLOW_COMMAND
            elif not connection.breaker.closed:
                reasons.append(f"{connection.id} does not answer ({connection.breaker.reason})")
            else:
                reasons.append(f"{connection.id} is {health.status.value} ({health.reason})")
        more = f"; {len(reasons) - 3} more" if len(reasons) > 3 else ""
        after = f"; the last that was asked: {last.why}" if last is not None else ""
        return f"no instance can be called now: {'; '.join(reasons[:3])}{more}{after}", remedy

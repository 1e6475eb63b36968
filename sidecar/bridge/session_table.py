"""The sessions of one bridge: how many there may be, and when each of them ends."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from aiohttp import web

from mcp_discovery.disconnects import has_left
from mcp_discovery.http_listener import Connection
from mcp_discovery.mcp_messages import INTERNAL_ERROR, JsonRpcError
from mcp_discovery.sidecar.bridge.bridge import Bridge
from mcp_discovery.sidecar.bridge.connection import ASKABLE
from mcp_discovery.sidecar.bridge.eras import LegacyClient, Spoken
from mcp_discovery.sidecar.bridge.session import BridgedSession
from mcp_discovery.sidecar.settings import SidecarSettings

log = logging.getLogger(__name__)

#: What servers say that they keep for one client.
_STATEFUL: Final = ("tasks",)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLimits:
    """Which sessions have a process, how many there may be, and for how long. Times in seconds.

    ``each``: each has a process for itself; ``None``: those whose clients can be asked something,
    and those of servers that keep something for a client. ``most`` sessions there may be, of which
    ``most_own`` may have a process. One that is not heard of for ``idle`` ends,
    unless somebody is there who listens or waits.

    One that has a process for itself ends sooner where no connection of its client is left: after
    ``grace`` where the client had opened its stream, which it would keep open, or had not finished
    its greeting; else after ``long_grace``, as clients without a stream close their connections
    between two requests.
    """

    each: bool | None = None
    most: int = 1000
    most_own: int = 32
    idle: float = 1800.0
    grace: float = 10.0
    long_grace: float = 60.0

    @classmethod
    def of(cls, settings: SidecarSettings) -> SessionLimits:
        """Those that ``settings`` ask for: one number for sessions of either kind."""
        each, most, idle = settings.process_each, settings.max_sessions, settings.idle_timeout
        if most is None:
            return cls(each=each, idle=idle)
        return cls(each=each, most=most, most_own=most, idle=idle)


class SessionTable:
    """The sessions of ``bridge`` by their ids."""

    def __init__(self, bridge: Bridge, limits: SessionLimits) -> None:
        self._bridge = bridge
        self._limits = limits
        self._sessions: dict[str, BridgedSession] = {}
        #: Those whose client has no connection, in the order in which they lost it.
        self._left: OrderedDict[BridgedSession, None] = OrderedDict()
        #: How many have a process.
        self._own = 0
        #: Of those that are about to be: how many, and how many with a process.
        self._coming = self._coming_own = 0
        #: How many processes there are, or are about to be, or to end.
        self._processes = 0
        self._ending: set[asyncio.Task[None]] = set()
        self._sweep: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[BridgedSession]:
        return iter(self._sessions.values())

    def get(self, id: str) -> BridgedSession | None:
        """The session ``id``; ``None`` where it is over, or never was."""
        return self._sessions.get(id)

    async def begin(
        self, capabilities: Mapping[str, Any], info: Mapping[str, Any], version: str
    ) -> tuple[BridgedSession, Spoken]:
        """A new session, and the process that answers it.

        Raises :class:`JsonRpcError`, also where there are too many.
        """
        spoken = self._bridge.spoken()
        has_own = self._has_own(spoken, capabilities)
        self._make_room(has_own)
        self._coming += 1
        self._coming_own += has_own
        self._processes += has_own
        try:
            async with AsyncExitStack() as stack:
                own: Spoken | None = None
                if has_own:
                    await self._ended_one()
                    process = self._bridge.own_process(capabilities, info, version)
                    spoken = own = await stack.enter_async_context(process)
                    if own.greeting.is_modern and self._limits.each is None:
                        # It answers nothing that the process does not that all share.
                        await stack.aclose()
                        spoken, own = self._bridge.spoken(), None
                        self._processes -= 1
                if own is not None and own.greeting.protocol < version:
                    version = own.greeting.protocol
                client = LegacyClient(capabilities, info)
                resources = stack.pop_all() if own is not None else None
                session = BridgedSession(self._bridge, client, version, own, resources)
        except BaseException:
            self._processes -= has_own
            raise
        finally:
            self._coming -= 1
            self._coming_own -= has_own
        self._sessions[session.id] = session
        self._own += session.has_own
        if own is not None:
            own.connection.ended = partial(self.end, session)
            if own.connection.is_over:
                self.end(session)
        if self._sweep is None:
            self._sweep_later()
        return session, spoken

    def end(self, session: BridgedSession) -> None:
        """Ends a session, unless that was done; what is its own ends beside."""
        if self._sessions.pop(session.id, None) is None:
            return
        self._own -= session.has_own
        self._left.pop(session, None)
        if session.missed is not None:
            session.missed.cancel()
        task = asyncio.create_task(self._end(session), name="the end of a session")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        """Ends all sessions."""
        if self._sweep is not None:
            self._sweep.cancel()
        for each in list(self._sessions.values()):
            self.end(each)
        await asyncio.gather(*self._ending)

    @contextmanager
    def heard(self, session: BridgedSession, request: web.Request) -> Iterator[None]:
        """Counts the connection of ``request`` as one of the session's: for as long as it lasts, or
        the block, where it is not known when it ends."""
        if session.missed is not None:
            session.missed.cancel()
            session.missed = None
        self._left.pop(session, None)
        connection = request.protocol
        if connection in session.connections:
            yield
            session.heard = asyncio.get_running_loop().time()
            return
        lost: Callable[[], None] = partial(self._lost, session, connection)
        lasts = isinstance(connection, Connection) and not has_left(request)
        session.connections[connection] = lost if lasts else None
        if lasts and isinstance(connection, Connection):
            connection.lost[lost] = None
        try:
            yield
        finally:
            session.heard = asyncio.get_running_loop().time()
            if not lasts:
                lost()

    def _lost(self, session: BridgedSession, connection: object) -> None:
        session.connections.pop(connection, None)
        if session.connections or session.missed is not None or session.id not in self._sessions:
            return
        session.heard = asyncio.get_running_loop().time()
        self._left[session] = None
        limits = self._limits
        if session.has_own:
            soon = session.listened or not session.greeted
            grace = min(limits.grace if soon else limits.long_grace, limits.idle)
        elif session.greeted:
            return
        else:
            grace = limits.grace
        session.missed = asyncio.get_running_loop().call_later(grace, self.end, session)

    def _has_own(self, shared: Spoken, capabilities: Mapping[str, Any]) -> bool:
        if self._limits.each is not None:
            return self._limits.each
        modern = shared.greeting.is_modern
        if not capabilities.keys().isdisjoint(ASKABLE.values()):
            # What servers of both eras ask in mid-request they cannot ask in the modern one.
            return not (modern and self._bridge.modern_alone)
        return not modern and any(name in shared.greeting.capabilities for name in _STATEFUL)

    def _make_room(self, has_own: bool) -> None:
        """Ends the session that was not heard of for the longest time, of those whose client has no
        connection, where there are too many; raises :class:`JsonRpcError` where there is none."""
        limits = self._limits
        if has_own and self._own + self._coming_own >= limits.most_own:
            most, what = limits.most_own, "sessions with a process of their own"
        elif len(self._sessions) + self._coming >= limits.most:
            most, what = limits.most, "sessions"
        else:
            return
        left = [each for each in self._left if each.has_own] if has_own else self._left
        oldest = next((each for each in left if not each.is_busy), next(iter(left), None))
        if oldest is None:
            detail = f"{most} {what} are open here, which is the limit; try again soon"
            raise JsonRpcError(INTERNAL_ERROR, detail, status=503)
        log.info("%s: a session without a connection makes room for another", self._bridge.name)
        self.end(oldest)

    async def _ended_one(self) -> None:
        """Waits where the processes that are about to end are too many."""
        while self._processes > self._limits.most_own and self._ending:
            await asyncio.wait(set(self._ending), return_when=asyncio.FIRST_COMPLETED)

    async def _end(self, session: BridgedSession) -> None:
        try:
            await session.end()
        except Exception:
            log.exception("%s: a session did not end as it should", self._bridge.name)
        finally:
            self._processes -= session.has_own

    def _sweep_later(self) -> None:
        pause = min(max(self._limits.idle / 4, 0.1), 60.0)
        self._sweep = asyncio.get_running_loop().call_later(pause, self._end_idle)

    def _end_idle(self) -> None:
        self._sweep = None
        now = asyncio.get_running_loop().time()
        for each in list(self._sessions.values()):
            if now - each.heard > self._limits.idle and not (each.connections and each.is_busy):
                self.end(each)
        if self._sessions:
            self._sweep_later()

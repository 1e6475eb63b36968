"""The sessions of legacy clients: bounded in number, and over when they are not used."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from aiohttp import web

from mcp_discovery.facade.mcp.changes import Changes, Listener
from mcp_discovery.facade.mcp.messages import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    Id,
    JsonRpcError,
)

#: How many resources one client may subscribe to.
MOST_SUBSCRIBED: Final = 1000


class Session:
    """One legacy client from ``initialize`` on.

    ``own`` says that it is mcp-discovery itself, see
    :class:`mcp_discovery.facade.mcp.methods.Caller`.
    """

    def __init__(self, id: str, version: str, *, own: bool) -> None:
        self.id = id
        self.version = version
        self.own = own
        #: What it hears of, kept while no stream of its is open.
        self.listener = Listener(lists=not own)
        #: The requests that can be cancelled.
        self.running: dict[Id, asyncio.Task[object]] = {}
        self.stream: web.Request | None = None
        self.used = time.monotonic()
        self._requests = 0

    @property
    def busy(self) -> bool:
        """Whether a request of it is being answered, or its stream is open."""
        return self._requests > 0

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """It does not expire inside."""
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1
            self.used = time.monotonic()

    def subscribe(self, uri: str) -> None:
        """It hears of ``uri`` from now on; raises :class:`JsonRpcError` for too many."""
        if len(self.listener.uris) >= MOST_SUBSCRIBED and uri not in self.listener.uris:
            raise JsonRpcError(
                INVALID_PARAMS,
                f"{MOST_SUBSCRIBED} resources are subscribed to already; unsubscribe from some",
            )
        self.listener.uris.add(uri)

    def cancel(self, id: Id) -> None:
        """Cancels a request of it; nothing where it is answered already."""
        if (task := self.running.get(id)) is not None:
            task.cancel()


class Sessions:
    """All of them: ``most`` at the same time; one that is not used for ``idle`` seconds is over.

    Where there are too many, the one that has been idle for longest makes room: its client is told
    404 and begins again, as the protocol has it.
    """

    def __init__(self, changes: Changes, *, most: int, idle: float) -> None:
        self._changes = changes
        self._most = most
        self._idle = idle
        # The least recently used first.
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self, version: str, *, own: bool) -> Session:
        """A new one; raises :class:`JsonRpcError` (503) where all that there may be are busy."""
        if len(self._sessions) >= self._most:
            oldest = next((each for each in self._sessions.values() if not each.busy), None)
            if oldest is None:
                detail = f"{self._most} sessions are open and busy; try again soon"
                raise JsonRpcError(INTERNAL_ERROR, detail, status=503)
            self.end(oldest)
        session = Session(secrets.token_hex(16), version, own=own)
        self._sessions[session.id] = session
        self._changes.join(session.listener)
        return session

    def get(self, id: str | None) -> Session:
        """The session of a request; raises :class:`JsonRpcError` (400 without an id, 404)."""
        if id is None:
            detail = "Bad request: Mcp-Session-Id is missing; send initialize first"
            raise JsonRpcError(INVALID_REQUEST, detail, status=400)
        session = self._sessions.get(id)
        if session is None:
            detail = "Session not found: it is over; send initialize again"
            raise JsonRpcError(INVALID_REQUEST, detail, status=404)
        self._sessions.move_to_end(id)
        return session

    def end(self, session: Session) -> None:
        """Ends its stream and its calls."""
        self._sessions.pop(session.id, None)
        self._changes.leave(session.listener)
        session.listener.close()
        for task in session.running.values():
            task.cancel()

    async def expire(self) -> None:
        """Ends those that are not used, for ever."""
        while True:
            await asyncio.sleep(self._idle / 10)
            before = time.monotonic() - self._idle
            for session in list(self._sessions.values()):
                if not session.busy and session.used < before:
                    self.end(session)

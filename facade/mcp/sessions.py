"""The sessions of legacy clients: bounded in number, and ended when they are idle."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from aiohttp import web

from mcp_discovery.facade.mcp.messages import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    Id,
    JsonRpcError,
)
from mcp_discovery.facade.mcp.subscriptions import Subscription, Subscriptions

#: How many resources one client may subscribe to.
MOST_SUBSCRIBED: Final = 1000


class LegacySession:
    """One legacy client from ``initialize`` on.

    ``internal`` says that the client is mcp-discovery itself, see
    :class:`mcp_discovery.facade.mcp.methods.Caller`.
    """

    def __init__(self, id: str, version: str, *, internal: bool) -> None:
        self.id = id
        self.version = version
        self.internal = internal
        #: Its notifications stay pending while it has no stream open.
        self.subscription = Subscription(list_changes=not internal)
        #: The requests that can be cancelled.
        self.running: dict[Id, asyncio.Task[object]] = {}
        self.stream: web.Request | None = None
        self.used = time.monotonic()
        self._requests = 0

    @property
    def busy(self) -> bool:
        """Whether one of its requests is running, or its stream is open."""
        return self._requests > 0

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """The session does not expire while the block runs."""
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1
            self.used = time.monotonic()

    def subscribe(self, uri: str) -> None:
        """Subscribes to ``uri``; raises :class:`JsonRpcError` where there are too many."""
        if len(self.subscription.uris) >= MOST_SUBSCRIBED and uri not in self.subscription.uris:
            raise JsonRpcError(
                INVALID_PARAMS,
                f"{MOST_SUBSCRIBED} resources are subscribed to already; unsubscribe from some",
            )
        self.subscription.uris.add(uri)

    def cancel(self, id: Id) -> None:
        """Cancels one of its requests, unless that has ended already."""
        if (task := self.running.get(id)) is not None:
            task.cancel()


class LegacySessions:
    """The sessions, ``most`` of them at the same time; each ends after ``idle`` unused seconds.

    Where there are too many, the longest idle one is ended: its client gets 404 and initializes
    again, as the protocol specifies.
    """

    def __init__(self, subscriptions: Subscriptions, *, most: int, idle: float) -> None:
        self._subscriptions = subscriptions
        self._most = most
        self._idle = idle
        # The least recently used first.
        self._sessions: OrderedDict[str, LegacySession] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self, version: str, *, internal: bool) -> LegacySession:
        """A new session; raises :class:`JsonRpcError` (503) where all of ``most`` are busy."""
        if len(self._sessions) >= self._most:
            oldest = next((each for each in self._sessions.values() if not each.busy), None)
            if oldest is None:
                detail = f"{self._most} sessions are open and busy; try again soon"
                raise JsonRpcError(INTERNAL_ERROR, detail, status=503)
            self.end(oldest)
        session = LegacySession(secrets.token_hex(16), version, internal=internal)
        self._sessions[session.id] = session
        self._subscriptions.add(session.subscription)
        return session

    def get(self, id: str | None) -> LegacySession:
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

    def end(self, session: LegacySession) -> None:
        """Ends the session with its stream and its requests."""
        self._sessions.pop(session.id, None)
        self._subscriptions.remove(session.subscription)
        session.subscription.close()
        for task in session.running.values():
            task.cancel()

    async def expire(self) -> None:
        """Ends idle sessions, for ever."""
        while True:
            await asyncio.sleep(self._idle / 10)
            before = time.monotonic() - self._idle
            for session in list(self._sessions.values()):
                if not session.busy and session.used < before:
                    self.end(session)

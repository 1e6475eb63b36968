"""The subscriptions of clients to resources, and the sessions of legacy clients."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from aiohttp import web

from mcp_discovery.adapters.live_list import LiveList
from mcp_discovery.errors import DiscoveryError, OutdatedRevisionError
from mcp_discovery.facade.mcp.resources import SERVERS, changed
from mcp_discovery.mcp_messages import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    Id,
    JsonRpcError,
    notification,
)

#: Seconds between two reads of the catalog; the changes in between are published together.
_PAUSE: Final = 0.02
#: Stands for "the list of resources has changed" among the URIs of changed resources.
_LIST: Final = ""


class SubscriptionEndedError(DiscoveryError):
    """No notification will follow: the facade stops, or the client's session has ended."""


class Subscription:
    """The resources that one client has subscribed to, and those of them that have changed.

    A notification means "read it again", so a resource that changes often is pending once: what is
    pending is bounded by what is subscribed to. ``list_changes`` says whether the client wants to
    be notified when other resources are listed than before.
    """

    def __init__(self, *, list_changes: bool, uris: frozenset[str] = frozenset()) -> None:
        self.list_changes = list_changes
        self.uris = set(uris)
        self._pending: dict[str, None] = {}
        self._changed = asyncio.Event()
        self._closed = asyncio.Event()

    def publish(self, uris: set[str] | None, *, list_changed: bool) -> None:
        """``uris`` have changed (``None``: any may have), and perhaps which resources there are."""
        if self.list_changes and list_changed:
            self._pending[_LIST] = None
        for uri in self.uris if uris is None else self.uris & uris:
            self._pending[uri] = None
        if self._pending:
            self._changed.set()

    def unsubscribe(self, uri: str) -> None:
        """Removes ``uri``, and its notification where one is pending."""
        self.uris.discard(uri)
        self._pending.pop(uri, None)

    def close(self) -> None:
        """Ends it: :meth:`next` and :meth:`pause` raise at once."""
        self._closed.set()
        self._changed.set()

    async def pause(self, seconds: float) -> None:
        """Waits ``seconds``, so that later changes go together. Raises
        :class:`SubscriptionEndedError`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closed.wait()
                raise SubscriptionEndedError

    async def next(self, meta: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Waits for changes and returns them as notifications with ``meta`` as ``_meta``.

        Raises :class:`SubscriptionEndedError`.
        """
        while not self._pending and not self._closed.is_set():
            self._changed.clear()
            await self._changed.wait()
        if self._closed.is_set():
            raise SubscriptionEndedError
        pending, self._pending = self._pending, {}
        more = {} if meta is None else {"_meta": meta}
        return [
            notification("notifications/resources/list_changed", more or None)
            if uri == _LIST
            else notification("notifications/resources/updated", {"uri": uri} | more)
            for uri in pending
        ]


class Subscriptions:
    """All subscriptions; follows one catalog and publishes its changes to them."""

    def __init__(self, catalog: LiveList) -> None:
        self._catalog = catalog
        self._subscriptions: dict[Subscription, None] = {}
        self._closed = False

    def __len__(self) -> int:
        return len(self._subscriptions)

    def add(self, subscription: Subscription) -> None:
        """Publishes to ``subscription`` from now on; closes it at once after :meth:`close`."""
        self._subscriptions[subscription] = None
        if self._closed:
            subscription.close()

    def remove(self, subscription: Subscription) -> None:
        """Stops publishing to ``subscription``, if it was there."""
        self._subscriptions.pop(subscription, None)

    def close(self) -> None:
        """Closes every subscription, and those still to come."""
        self._closed = True
        for subscription in self._subscriptions:
            subscription.close()

    async def run(self) -> None:
        """Follows the catalog, for ever."""
        view = self._catalog.view
        while True:
            before, view = view, await self._catalog.after(view)
            try:
                uris, list_changed = changed(self._catalog.since(before.epoch, before.revision))
                was_stale, is_stale = before.stale_since is None, view.stale_since is None
                if was_stale != is_stale or before.partial != view.partial:
                    uris.add(SERVERS)  # its content says whether the list is stale or partial
            except OutdatedRevisionError:
                uris, list_changed = None, True
            if uris is None or uris:
                for subscription in self._subscriptions:
                    subscription.publish(uris, list_changed=list_changed)
            await asyncio.sleep(_PAUSE)


#: How many resources one client may subscribe to.
MOST_SUBSCRIBED: Final = 1000


class LegacySession:
    """One legacy client from ``initialize`` on.

    ``internal`` says that the client is mcp-discovery itself, see
    :class:`mcp_discovery.facade.mcp.methods.McpClient`. ``owner`` is the subject of the caller that
    began it: it is nobody else's.
    """

    def __init__(
        self,
        id: str,
        version: str,
        owner: str,
        subscriptions: Subscriptions,
        *,
        internal: bool,
    ) -> None:
        self.id = id
        self.version = version
        self.owner = owner
        self.internal = internal
        #: Its notifications stay pending while it has no stream open.
        self.subscription = Subscription(list_changes=not internal)
        self._subscriptions = subscriptions
        subscriptions.add(self.subscription)
        #: The requests that can be cancelled.
        self.running: dict[Id, asyncio.Task[object]] = {}
        self.stream: web.Request | None = None
        self.used = time.monotonic()
        #: How many of its requests are running, its stream included.
        self.requests = 0

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """The session does not expire while the block runs."""
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1
            self.used = time.monotonic()

    def follow(self, subscriptions: Subscriptions) -> None:
        """What is published to it comes from ``subscriptions`` from now on: where the rights of its
        caller have changed, any resource may have."""
        if subscriptions is not self._subscriptions:
            self._subscriptions.remove(self.subscription)
            self._subscriptions = subscriptions
            subscriptions.add(self.subscription)
            self.subscription.publish(None, list_changed=True)

    def end(self) -> None:
        """Ends its stream and its requests."""
        self._subscriptions.remove(self.subscription)
        self.subscription.close()
        for task in self.running.values():
            task.cancel()

    def subscribe(self, uri: str) -> None:
        """Subscribes to ``uri``; raises :class:`JsonRpcError` where there are too many."""
        if len(self.subscription.uris) >= MOST_SUBSCRIBED and uri not in self.subscription.uris:
            raise JsonRpcError(
                INVALID_PARAMS,
                f"{MOST_SUBSCRIBED} resources are subscribed to already; unsubscribe from some",
            )
        self.subscription.uris.add(uri)


class LegacySessions:
    """The sessions, ``most`` of them at the same time; each ends after ``idle`` unused seconds.

    Where there are too many, the longest idle one is ended: its client gets 404 and initializes
    again, as the protocol specifies.
    """

    def __init__(self, *, most: int, idle: float) -> None:
        self._most = most
        self._idle = idle
        # The least recently used first.
        self._sessions: OrderedDict[str, LegacySession] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def open(
        self, version: str, owner: str, subscriptions: Subscriptions, *, internal: bool
    ) -> LegacySession:
        """A new session of ``owner``.

        Raises :class:`JsonRpcError` (503) where all of ``most`` are busy.
        """
        if len(self._sessions) >= self._most:
            oldest = next((each for each in self._sessions.values() if not each.requests), None)
            if oldest is None:
                detail = f"{self._most} sessions are open and busy; try again soon"
                raise JsonRpcError(INTERNAL_ERROR, detail, status=503)
            self.end(oldest)
        id = secrets.token_hex(16)
        session = LegacySession(id, version, owner, subscriptions, internal=internal)
        self._sessions[session.id] = session
        return session

    def get(self, id: str | None, owner: str, subscriptions: Subscriptions) -> LegacySession:
        """The session of a request of ``owner``, which follows ``subscriptions`` from now on.

        Raises :class:`JsonRpcError` (400 without an id; 404, also for one of another owner).
        """
        if id is None:
            detail = "Bad request: Mcp-Session-Id is missing; send initialize first"
            raise JsonRpcError(INVALID_REQUEST, detail, status=400)
        session = self._sessions.get(id)
        if session is None or session.owner != owner:
            detail = "Session not found: it is over; send initialize again"
            raise JsonRpcError(INVALID_REQUEST, detail, status=404)
        self._sessions.move_to_end(id)
        session.follow(subscriptions)
        return session

    def end(self, session: LegacySession) -> None:
        """Ends the session with its stream and its requests."""
        self._sessions.pop(session.id, None)
        session.end()

    async def expire(self) -> None:
        """Ends idle sessions, for ever."""
        while True:
            await asyncio.sleep(self._idle / 10)
            before = time.monotonic() - self._idle
            for session in list(self._sessions.values()):
                if not session.requests and session.used < before:
                    self.end(session)

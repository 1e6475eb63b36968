"""Notes for each listening client what it has to be told of the list's changes."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final

from mcp_discovery.adapters.catalog import Catalog
from mcp_discovery.adapters.view import View
from mcp_discovery.errors import DiscoveryError, OutdatedRevisionError
from mcp_discovery.facade.mcp.messages import notification
from mcp_discovery.facade.mcp.resources import SERVERS, changed

#: Seconds between two looks at the list: what comes in between is worked out together.
_PAUSE: Final = 0.02
#: The note that the list of resources has changed; all others are the URI of what has changed.
_LIST: Final = ""


class SubscriptionEndedError(DiscoveryError):
    """There will be nothing more to tell: the facade stops, or the client's session is over."""


class Listener:
    """One client: the resources it hears of, and what it has not been told yet.

    Each note means "read it again", so that it is kept once however often its cause happens: what
    waits is bounded by what is subscribed to. ``lists`` says whether it wants to hear that other
    resources are listed than before.
    """

    def __init__(self, *, lists: bool, uris: frozenset[str] = frozenset()) -> None:
        self.lists = lists
        self.uris = set(uris)
        self._waiting: dict[str, None] = {}
        self._news = asyncio.Event()
        self._closed = asyncio.Event()

    def note(self, uris: set[str] | None, others: bool) -> None:
        """``uris`` have changed (``None``: any may have), and ``others`` are listed."""
        if self.lists and others:
            self._waiting[_LIST] = None
        for uri in self.uris if uris is None else self.uris & uris:
            self._waiting[uri] = None
        if self._waiting:
            self._news.set()

    def forget(self, uri: str) -> None:
        """It does not want to hear of ``uri`` any more."""
        self.uris.discard(uri)
        self._waiting.pop(uri, None)

    def close(self) -> None:
        """Nothing more is told; whoever waits for it is told so at once."""
        self._closed.set()
        self._news.set()

    async def rest(self, seconds: float) -> None:
        """Waits so long; what comes meanwhile is told together. Raises
        :class:`SubscriptionEndedError`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closed.wait()
                raise SubscriptionEndedError

    async def next(self, meta: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Waits until there is something to tell; returns it as notifications with ``_meta``.

        Raises :class:`SubscriptionEndedError`.
        """
        while not self._waiting and not self._closed.is_set():
            self._news.clear()
            await self._news.wait()
        if self._closed.is_set():
            raise SubscriptionEndedError
        waiting, self._waiting = self._waiting, {}
        more = {} if meta is None else {"_meta": meta}
        return [
            notification("notifications/resources/list_changed", more or None)
            if uri == _LIST
            else notification("notifications/resources/updated", {"uri": uri} | more)
            for uri in waiting
        ]


class Changes:
    """Follows one catalog and notes for all listeners what concerns them."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._listeners: dict[Listener, None] = {}
        self._closed = False

    def __len__(self) -> int:
        return len(self._listeners)

    def join(self, listener: Listener) -> None:
        """From now on; it is closed at once where this is."""
        self._listeners[listener] = None
        if self._closed:
            listener.close()

    def leave(self, listener: Listener) -> None:
        """No longer; nothing where it has not joined."""
        self._listeners.pop(listener, None)

    def close(self) -> None:
        """Closes every listener, and those to come."""
        self._closed = True
        for listener in self._listeners:
            listener.close()

    async def run(self) -> None:
        """Follows the catalog, for ever."""
        view = self._catalog.view
        while True:
            before, view = view, await self._catalog.after(view)
            uris, others = self._between(before, view)
            if uris is None or uris:
                for listener in self._listeners:
                    listener.note(uris, others)
            await asyncio.sleep(_PAUSE)

    def _between(self, before: View, now: View) -> tuple[set[str] | None, bool]:
        try:
            uris, others = changed(self._catalog.since(before.epoch, before.revision))
        except OutdatedRevisionError:
            return None, True
        if (before.stale_since is None) != (now.stale_since is None):
            uris.add(SERVERS)  # which says so
        return uris, others

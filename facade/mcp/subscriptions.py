"""Which resources each client has subscribed to, and its pending notifications of changes."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final

from mcp_discovery.adapters.catalog import Catalog
from mcp_discovery.adapters.view import View
from mcp_discovery.errors import DiscoveryError, OutdatedRevisionError
from mcp_discovery.facade.mcp.messages import notification
from mcp_discovery.facade.mcp.resources import SERVERS, changed

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

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._subscriptions: dict[Subscription, None] = {}
        self._closed = False

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
            uris, list_changed = self._changes(before, view)
            if uris is None or uris:
                for subscription in self._subscriptions:
                    subscription.publish(uris, list_changed=list_changed)
            await asyncio.sleep(_PAUSE)

    def _changes(self, before: View, now: View) -> tuple[set[str] | None, bool]:
        try:
            uris, list_changed = changed(self._catalog.since(before.epoch, before.revision))
        except OutdatedRevisionError:
            return None, True
        if (before.stale_since is None) != (now.stale_since is None):
            uris.add(SERVERS)  # its content says whether the list is stale
        return uris, list_changed

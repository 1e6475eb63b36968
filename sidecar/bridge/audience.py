"""Who is told what a process says that several clients share, and who answers what it asks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from mcp_discovery.mcp_messages import INTERNAL_ERROR, METHOD_NOT_FOUND, JsonRpcError
from mcp_discovery.sidecar.bridge.connection import ASKABLE, ChildConnection, Params
from mcp_discovery.sidecar.bridge.greeting import Greeting
from mcp_discovery.sidecar.bridge.wishes import LISTS, MESSAGE, UPDATED, Wishes, is_wanted

log = logging.getLogger(__name__)

#: What belongs to one client, and does not say to which.
_PRIVATE: Final = frozenset(("notifications/tasks/status", "notifications/elicitation/complete"))
#: What belongs to no request, whatever is under way.
_OF_ALL: Final = frozenset((UPDATED, *LISTS.values()))


class SharedAudience:
    """The clients of a process, and of the one that takes its place after its end."""

    def __init__(self) -> None:
        #: Client → what tells it something.
        self.listeners: dict[object, Callable[[str, Params], None]] = {}
        self.wishes = Wishes(self.notify)
        #: Are called when its process has ended, and no other one takes its place.
        self.endings: set[Callable[[], None]] = set()
        self._connection: ChildConnection | None = None
        self._greeting: Greeting | None = None

    @asynccontextmanager
    async def of(self, connection: ChildConnection, greeting: Greeting) -> AsyncIterator[None]:
        """Listens to a process that was greeted, while the block runs. One that takes the place of
        another may be another version of the server: its lists may have changed."""
        again = self._connection is not None
        self._connection, self._greeting = connection, greeting
        for notification in LISTS.values() if again else ():
            offered = greeting.capabilities.get(notification.split("/")[1])
            if isinstance(offered, dict) and offered.get("listChanged") is True:
                self.notify(notification, {})
        keeping = asyncio.create_task(self.wishes.keep(connection, greeting), name="wishes")
        try:
            yield
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    def notify(self, method: str, params: Params) -> None:
        """Tells those whom it is for what the process says without naming a request."""
        if method in _PRIVATE or (method not in _OF_ALL and self._tell_one(method, params)):
            return
        for client, tell in list(self.listeners.items()):
            if self.wishes.admits(client, method, params):
                tell(method, params)

    def _tell_one(self, method: str, params: Params) -> bool:
        """Hands on a message of the log, or one of the server's own kind, where requests are under
        way: to the one client that it can be for, and to nobody where it can be for several.

        A modern process says nothing but for a request that wants it; a legacy one says to all
        what it says while nobody waits for it.
        """
        if self._connection is None or self._greeting is None:
            return False
        clients = wanting = list(self._connection.clients.values())
        if method == MESSAGE:
            wanting = [each for each in clients if is_wanted(params, each.log_level)]
        modern = self._greeting.is_modern
        if len(wanting if modern else clients) > 1:
            log.debug("%s could be for several clients", method)
        elif wanting:
            wanting[0].notify(method, params)
        return modern or bool(clients)

    async def ask(self, method: str, params: Params) -> dict[str, Any]:
        """What the one client answers whose requests are under way.

        Raises :class:`JsonRpcError` where there is none, or more than one: the process does not say
        whom it asks.
        """
        clients = {} if self._connection is None else self._connection.clients
        if method not in ASKABLE:
            detail = f"{method}: no client of a server can be asked that"
            raise JsonRpcError(METHOD_NOT_FOUND, detail)
        if not clients:
            why = "no request of a client is under way"
        elif len(clients) > 1:
            why = (
                f"requests of {len(clients)} clients are under way, and it cannot be known which "
                "of them is asked"
            )
        else:
            (exchange,) = clients.values()
            return await exchange.ask(method, params)
        raise JsonRpcError(INTERNAL_ERROR, f"{method}: {why}")

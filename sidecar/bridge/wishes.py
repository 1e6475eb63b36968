"""What the clients of one process want to be told without asking, and the process is asked once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mcp_discovery.mcp_messages import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    SUBSCRIPTION_KEY,
    JsonRpcError,
)
from mcp_discovery.probe.messages import strings
from mcp_discovery.sidecar.bridge.connection import LISTEN, ChildConnection, Params
from mcp_discovery.sidecar.bridge.greeting import Greeting, envelope

log = logging.getLogger(__name__)

LEVELS: Final = (
    "debug",
    "info",
    "notice",
    "warning",
    "error",
    "critical",
    "alert",
    "emergency",
)
#: A wish of ``subscriptions/listen`` → the notification that it is for.
LISTS: Final = {
    "toolsListChanged": "notifications/tools/list_changed",
    "resourcesListChanged": "notifications/resources/list_changed",
    "promptsListChanged": "notifications/prompts/list_changed",
}
ACKNOWLEDGED: Final = "notifications/subscriptions/acknowledged"
UPDATED: Final = "notifications/resources/updated"
MESSAGE: Final = "notifications/message"
#: How many resources the clients of one process may watch together.
_MOST: Final = 1000
#: Seconds until a stream of list changes that a process has ended is asked for again.
_PAUSE: Final = 5.0


def checked_level(level: Any) -> str:
    """``level`` where it is one; raises :class:`JsonRpcError`."""
    if level not in LEVELS:
        raise JsonRpcError(INVALID_PARAMS, f"the level must be one of {', '.join(LEVELS)}")
    return str(level)


def is_wanted(message: Params, level: str | None) -> bool:
    """Whether a message of a server's log is for a client that wants them from ``level`` on."""
    rank = message.get("level")
    if level is None or rank not in LEVELS:
        return level is not None
    return LEVELS.index(rank) >= LEVELS.index(level)


@dataclass
class _WatchedResource:
    """One resource; ``begun`` is done when the process has agreed to tell of it."""

    begun: asyncio.Task[None]
    clients: set[object] = field(default_factory=set)
    stream: asyncio.Task[Any] | None = None


class _Ear:
    """Hears one ``subscriptions/listen`` of the bridge's own."""

    def __init__(self, tell: Callable[[str, Params], None]) -> None:
        self.client = self
        self.log_level = None
        self.granted: asyncio.Future[Mapping[str, Any]]
        self.granted = asyncio.get_running_loop().create_future()
        self._tell = tell

    def notify(self, method: str, params: Params) -> None:
        if method == ACKNOWLEDGED:
            if not self.granted.done():
                granted = params.get("notifications")
                self.granted.set_result(granted if isinstance(granted, dict) else {})
            return
        meta = {key: value for key, value in params["_meta"].items() if key != SUBSCRIPTION_KEY}
        others = {key: value for key, value in params.items() if key != "_meta"}
        self._tell(method, others | ({"_meta": meta} if meta else {}))

    async def ask(self, method: str, params: Params) -> dict[str, Any]:
        raise JsonRpcError(INTERNAL_ERROR, f"{method}: nobody is there who could answer")


class Wishes:
    """The resources, list changes and log levels that clients of one process have asked for;
    ``tell`` is given what a modern process sends because of them. A client is any hashable.

    A process that takes the place of another is asked for the same by :meth:`keep`.
    """

    def __init__(self, tell: Callable[[str, Params], None]) -> None:
        self._tell = tell
        self._levels: dict[object, str] = {}
        self._level: str | None = None
        self._watched: dict[str, _WatchedResource] = {}
        self._connection: ChildConnection | None = None
        self._greeting: Greeting | None = None

    async def keep(self, connection: ChildConnection, greeting: Greeting) -> None:
        """Asks ``connection`` for what is wanted, and asks it from now on; a modern one is listened
        to until this is cancelled."""
        self._connection, self._greeting, self._level = connection, greeting, None
        try:
            await self._apply_level()
            for uri, watched in list(self._watched.items()):
                if watched.begun.done():
                    watched.begun = asyncio.create_task(self._begin(uri), name=f"watch {uri}")
                    await asyncio.wait({watched.begun})
                    if not watched.begun.cancelled() and watched.begun.exception() is not None:
                        log.warning("%s is not watched any more", uri)
            while greeting.is_modern:
                await self._listen(dict.fromkeys(LISTS, True), _Ear(self._tell))
                await asyncio.sleep(_PAUSE)
        except JsonRpcError as fault:
            log.debug("list changes are not told: %s", fault)
        finally:
            for each in self._watched.values():
                if each.stream is not None:
                    each.stream.cancel()

    def admits(self, client: object, method: str, params: Params) -> bool:
        """Whether ``client`` is to be told of what the process says to nobody in particular."""
        if method == UPDATED:
            uri = params.get("uri")
            if not isinstance(uri, str):
                return False
            if (watched := self._watched.get(uri)) is not None:
                return client in watched.clients
            # A part of a resource may be named: 2025-11-25, server/resources, "Subscriptions".
            return any(
                client in each.clients
                for base, each in self._watched.items()
                if uri.startswith(base) and (base[-1:] == "/" or uri[len(base)] in "/?#")
            )
        if method == MESSAGE:
            return is_wanted(params, self.level_of(client))
        return True

    def level_of(self, client: object) -> str | None:
        """The least level of the messages that ``client`` wants. Legacy ones that have not said so
        want what others have not made more of."""
        modern = self._greeting is not None and self._greeting.is_modern
        default = None if modern else "info" if self._levels else LEVELS[0]
        return self._levels.get(client, default)

    async def set_level(self, client: object, level: str | None) -> None:
        """``client`` wants messages from ``level`` on; raises :class:`JsonRpcError`."""
        if level is None:
            self._levels.pop(client, None)
        else:
            self._levels[client] = level
        try:
            await self._apply_level()
        except JsonRpcError:
            self._level = None
            self._levels.pop(client, None)
            raise

    async def watch(self, client: object, uri: str) -> None:
        """``client`` is to be told of changes of a resource; raises :class:`JsonRpcError`."""
        watched = self._watched.get(uri)
        if watched is None:
            if len(self._watched) >= _MOST:
                raise JsonRpcError(
                    INTERNAL_ERROR, f"{_MOST} resources are watched already; give some up"
                )
            begun = asyncio.create_task(self._begin(uri), name=f"watch {uri}")
            watched = self._watched[uri] = _WatchedResource(begun)
        watched.clients.add(client)
        try:
            await asyncio.shield(watched.begun)
        except BaseException:
            self._give_up(client, uri, watched)
            raise

    async def unwatch(self, client: object, uri: str) -> None:
        """``client`` is not to be told any more; raises :class:`JsonRpcError`."""
        watched = self._watched.get(uri)
        if watched is not None and self._give_up(client, uri, watched):
            await self._end(uri, watched)

    async def leave(self, client: object) -> None:
        """Forgets a client."""
        for uri in [uri for uri, each in self._watched.items() if client in each.clients]:
            try:
                await self.unwatch(client, uri)
            except JsonRpcError as fault:
                log.debug("%s is watched for nobody: %s", uri, fault)
        if self._levels.pop(client, None) is not None:
            try:
                await self._apply_level()
            except JsonRpcError as fault:
                log.debug("the level of messages stays: %s", fault)

    def _give_up(self, client: object, uri: str, watched: _WatchedResource) -> bool:
        """Whether nobody watches the resource now."""
        watched.clients.discard(client)
        if watched.clients or self._watched.get(uri) is not watched:
            return False
        del self._watched[uri]
        return True

    async def _begin(self, uri: str) -> None:
        if self._connection is None or self._greeting is None:
            raise JsonRpcError(INTERNAL_ERROR, "the MCP server cannot be asked now", status=503)
        if not self._greeting.is_modern:
            await self._connection.request("resources/subscribe", {"uri": uri})
            if uri not in self._watched:
                await self._connection.request("resources/unsubscribe", {"uri": uri})
            return
        ear = _Ear(self._tell)
        stream = asyncio.create_task(self._listen({"resourceSubscriptions": [uri]}, ear))
        stream.add_done_callback(_note)
        answers: set[asyncio.Future[Any]] = {stream, ear.granted}
        await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
        if not ear.granted.done():
            await stream
        granted = ear.granted.result() if ear.granted.done() else {}
        agreed = uri in strings(granted.get("resourceSubscriptions"))
        watched = self._watched.get(uri)
        if agreed and watched and watched.begun is asyncio.current_task():
            watched.stream = stream
            return
        stream.cancel()
        raise JsonRpcError(INVALID_PARAMS, f"the MCP server does not tell of changes of {uri}")

    async def _end(self, uri: str, watched: _WatchedResource) -> None:
        if watched.stream is not None:
            watched.stream.cancel()
        elif self._connection is not None and self._greeting and not self._greeting.is_modern:
            await self._connection.request("resources/unsubscribe", {"uri": uri})

    async def _listen(self, wishes: Mapping[str, Any], ear: _Ear) -> None:
        assert self._connection is not None and self._greeting is not None
        meta = envelope(self._greeting.protocol)
        await self._connection.request(LISTEN, {"notifications": wishes, "_meta": meta}, ear)

    async def _apply_level(self) -> None:
        """Asks a legacy process for the least level that any client wants."""
        if self._connection is None or self._greeting is None or self._greeting.is_modern:
            return
        wanted = min(self._levels.values(), key=LEVELS.index, default=self._level)
        if wanted is not None and wanted != self._level:
            self._level = wanted
            await self._connection.request("logging/setLevel", {"level": wanted})


def _note(stream: asyncio.Task[Any]) -> None:
    if not stream.cancelled() and (fault := stream.exception()) is not None:
        log.debug("a resource is not watched any more: %s", fault)

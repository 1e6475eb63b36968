"""What the sessions that share a process have in common: who is told what it says."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from mcp_discovery.mcp_messages import JsonRpcError, RpcRequest
from mcp_discovery.sidecar.bridge.bridge import Bridge, Spoken
from mcp_discovery.sidecar.bridge.connection import Exchange, Params
from mcp_discovery.sidecar.bridge.eras import ask_as_legacy

if TYPE_CHECKING:
    from mcp_discovery.sidecar.bridge.session import BridgedSession

log = logging.getLogger(__name__)

#: From the least to the most important (RFC 5424).
_LEVELS: Final = (
    *("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"),
)
#: What a session that has not said anything is told of where others have.
_USUAL: Final = "info"
_LISTS: Final = ("tools", "resources", "prompts")
#: Of tasks, which belong to one session: it is not known whose it is.
_PRIVATE: Final = frozenset(("notifications/tasks/status", "notifications/elicitation/complete"))
#: How many seconds a process has to take what is set for no request.
_PATIENCE: Final = 5.0


class SharedProcess:
    """The sessions that share the process of ``bridge``, whichever one it is."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._sessions: set[BridgedSession] = set()
        bridge.listeners.add(self.notify)
        bridge.prepare = self._prepare

    @property
    def spoken(self) -> Spoken | None:
        """The process; ``None`` where it cannot be asked."""
        try:
            return self._bridge.spoken()
        except JsonRpcError:
            return None

    def join(self, session: BridgedSession) -> None:
        """Takes a session."""
        self._sessions.add(session)

    async def leave(self, session: BridgedSession) -> None:
        """Lets a session go, and what only it has asked for."""
        self._sessions.discard(session)
        alone = [each for each in session.subscriptions if not self._is_subscribed(each)]
        if not alone and session.level is None:
            return
        if (spoken := self.spoken) is not None:
            await _say_all(
                spoken,
                *(("resources/unsubscribe", {"uri": uri}) for uri in alone),
                *self._level() if session.level is not None else (),
            )

    async def call(
        self, session: BridgedSession, rpc: RpcRequest, exchange: Exchange
    ) -> Mapping[str, Any]:
        """The result of a request of one session; raises :class:`JsonRpcError`."""
        spoken = self._bridge.spoken()
        params = rpc.params
        if not spoken.greeting.is_modern:
            match rpc.method:
                case "resources/subscribe" if isinstance(uri := params.get("uri"), str):
                    result = await spoken.connection.request(rpc.method, params, exchange)
                    session.subscriptions.add(uri)
                    return result
                case "resources/unsubscribe" if isinstance(uri := params.get("uri"), str):
                    session.subscriptions.discard(uri)
                    if self._is_subscribed(uri):
                        return {}
                case "logging/setLevel" if params.get("level") in _LEVELS:
                    before, session.level = session.level, params["level"]
                    try:
                        _, lowest = next(self._level())
                        return await spoken.connection.request(rpc.method, {**params, **lowest})
                    except JsonRpcError:
                        session.level = before
                        raise
        return await ask_as_legacy(
            spoken.connection, spoken.greeting, rpc.method, rpc.params, exchange
        )

    def notify(self, method: str, params: Params) -> None:
        """Tells those whom it is for what the process says without being asked."""
        match method:
            case "notifications/resources/updated":
                uri = str(params.get("uri"))
                told = [each for each in self._sessions if _is_of(uri, each.subscriptions)]
            case "notifications/message":
                told = [
                    each for each in self._asking() if _is_wanted(params.get("level"), self, each)
                ]
            case _ if method in _PRIVATE:
                told = []
            case _:
                told = list(self._sessions)
        for each in told:
            each.notify(method, params)

    @property
    def has_levels(self) -> bool:
        """Whether any session has said what it wants to be told."""
        return any(each.level is not None for each in self._sessions)

    def _asking(self) -> list[BridgedSession]:
        """Whom what is logged is for: the session whose requests are under way, all where nobody
        has any, and nobody where more than one has."""
        exchanges = [] if self.spoken is None else self.spoken.connection.exchanges
        owners = {getattr(each, "session", None) for each in exchanges}
        if not owners:
            return list(self._sessions)
        return [each for each in owners if each is not None] if len(owners) == 1 else []

    def _is_subscribed(self, uri: str) -> bool:
        return any(uri in each.subscriptions for each in self._sessions)

    def _level(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The request that sets the least important level that a session wants."""
        levels = [_LEVELS.index(each.level) for each in self._sessions if each.level is not None]
        if levels:
            yield "logging/setLevel", {"level": _LEVELS[min(levels)]}

    async def _prepare(self, spoken: Spoken) -> None:
        """Tells a process that was started again what the one before it knew."""
        if spoken.greeting.is_modern or not self._sessions:
            return
        uris = set().union(*(each.subscriptions for each in self._sessions))
        subscriptions = (("resources/subscribe", {"uri": uri}) for uri in uris)
        await _say_all(spoken, *self._level(), *subscriptions)
        for name in _LISTS:  # it may be another version of the server
            offered = spoken.greeting.capabilities.get(name)
            if isinstance(offered, dict) and offered.get("listChanged") is True:
                self.notify(f"notifications/{name}/list_changed", {})


async def _say_all(spoken: Spoken, *requests: tuple[str, Params]) -> None:
    try:
        async with asyncio.timeout(_PATIENCE):
            for method, params in requests:
                with suppress(JsonRpcError):
                    await spoken.connection.request(method, params)
    except TimeoutError:
        log.info("the MCP server does not answer what its sessions want to be told")


def _is_of(uri: str, subscribed: set[str]) -> bool:
    """Whether a resource is one of those, or a part of one."""
    return uri in subscribed or any(uri.startswith(f"{each.rstrip('/')}/") for each in subscribed)


def _is_wanted(level: object, process: SharedProcess, session: BridgedSession) -> bool:
    least = session.level or (_USUAL if process.has_levels else _LEVELS[0])
    return level not in _LEVELS or _LEVELS.index(str(level)) >= _LEVELS.index(least)

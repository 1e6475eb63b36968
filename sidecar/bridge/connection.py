"""JSON-RPC with one process: requests of many clients under ids of our own, and its answers."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from itertools import count
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from mcp_discovery.mcp_messages import (
    CANCELLED,
    INTERNAL_ERROR,
    METHOD_NOT_FOUND,
    SUBSCRIPTION_KEY,
    Id,
    JsonRpcError,
    encoded,
    error_of,
    failure,
    notification,
    result,
)
from mcp_discovery.stdio_child import ChildGoneError, Ending, StdioChild
from mcp_discovery.telemetry import spans
from mcp_discovery.telemetry.conventions import mcp_failure, mcp_request, mcp_result

log = logging.getLogger(__name__)

Params: TypeAlias = Mapping[str, Any]
#: Seconds that a process may go on running after it has closed its output.
_LINGERING: Final = 2.0
#: How many requests of a process may be under way.
_MOST_ASKED: Final = 1000
_IS_QUICK: Final = re.compile(r"^ping$|/(?:list|discover)$")
#: What a server may ask of its client → the capability by which the client says that it answers.
ASKABLE: Final = {
    "elicitation/create": "elicitation",
    "sampling/createMessage": "sampling",
    "roots/list": "roots",
}
LISTEN: Final = "subscriptions/listen"
_CANCELLED: Final = "notifications/cancelled"
_PROGRESS: Final = "notifications/progress"


class Exchange(Protocol):
    """A client's request that is under way, and the client while it waits for the answer."""

    @property
    def client(self) -> object:
        """Whose request it is: equal for the requests of one client."""

    @property
    def log_level(self) -> str | None:
        """The least level of the process's messages that the client wants, if it wants any."""

    def notify(self, method: str, params: Params) -> None:
        """Sends the client a notification that belongs to its request."""

    async def ask(self, method: str, params: Params) -> dict[str, Any]:
        """What the client answers to the server's request; raises :class:`JsonRpcError`."""


class Audience(Protocol):
    """Who is there for what a process says without being asked."""

    def notify(self, method: str, params: Params) -> None:
        """Takes a notification that belongs to no request."""

    async def ask(self, method: str, params: Params) -> dict[str, Any]:
        """The answer to a request of the process; raises :class:`JsonRpcError`."""


class Nobody:
    """An audience that is not there: notifications are lost, and requests refused."""

    def notify(self, method: str, params: Params) -> None:
        """Drops it."""

    async def ask(self, method: str, params: Params) -> dict[str, Any]:
        """Refuses it."""
        raise JsonRpcError(METHOD_NOT_FOUND, f"no client is there that could answer {method}")


class _Pending(NamedTuple):
    method: str
    answer: asyncio.Future[dict[str, Any]]
    exchange: Exchange | None
    token: Id | None


class ChildConnection:
    """The messages of one process, read from :meth:`run`; ``audience`` may be replaced."""

    def __init__(self, child: StdioChild, audience: Audience | None = None) -> None:
        self.child = child
        self.audience: Audience = audience or Nobody()
        self._ids = count(1)
        self._pending: dict[int, _Pending] = {}
        #: What the process waits for, by its own ids.
        self._asked: dict[Id, asyncio.Task[None]] = {}
        self._ending: Ending | None = None
        #: How many messages came from the process.
        self.heard = 0
        #: Is called once it is not read any more.
        self.ended: Callable[[], None] = lambda: None

    @property
    def is_asked(self) -> bool:
        """Whether the process owes an answer, and is not owed one itself."""
        return not self._asked and any(each.method != LISTEN for each in self._pending.values())

    @property
    def is_working(self) -> bool:
        """Whether it has a client's request that may take long."""
        return any(
            each.exchange is not None and not _IS_QUICK.search(each.method)
            for each in self._pending.values()
            if each.method != LISTEN
        )

    @property
    def is_over(self) -> bool:
        """Whether the process has ended."""
        return self._ending is not None

    @property
    def exchanges(self) -> list[Exchange]:
        """The requests of clients that are under way and wait for more than what happens, the
        oldest first."""
        return [
            each.exchange
            for each in self._pending.values()
            if each.exchange is not None and each.method != LISTEN
        ]

    @property
    def clients(self) -> dict[object, Exchange]:
        """Whose requests are under way, each with its latest one. What the process says without
        naming a request can only be for one of these, or for all."""
        return {each.client: each for each in self.exchanges}

    async def run(self) -> Ending:
        """Reads what the process sends until it ends, and returns how it did.

        All requests that are under way then fail.
        """
        try:
            async for message in self.child.messages():
                self.heard += 1
                self._receive(message)
            try:
                async with asyncio.timeout(_LINGERING):
                    self._ending = await self.child.ended()
            except TimeoutError:
                await self.child.end("closed its output", 0)
                self._ending = await self.child.ended()
            return self._ending
        finally:
            for task in self._asked.values():
                task.cancel()
            for each in self._pending.values():
                if not each.answer.done():
                    each.answer.set_exception(self._gone())
            self.ended()

    async def request(
        self, method: str, params: Params | None = None, exchange: Exchange | None = None
    ) -> dict[str, Any]:
        """The result of a request; ``exchange`` is told of its progress.

        Cancels the request when it is cancelled itself. Raises :class:`JsonRpcError`, also where
        the process ends meanwhile.
        """
        if not spans.are_on():
            return await self._request(method, params, exchange)
        with mcp_request("client", method, params, transport="pipe", below=True) as span:
            carried: dict[str, Any] = {}
            spans.inject(carried)
            if carried:
                meta = (params or {}).get("_meta")
                known = meta if isinstance(meta, dict) else {}
                params = {**(params or {}), "_meta": {**known, **carried}}
            try:
                result = await self._request(method, params, exchange)
            except JsonRpcError as fault:
                mcp_failure(span, fault.code, fault.message)
                raise
            mcp_result(span, result)
            return result

    async def _request(
        self, method: str, params: Params | None, exchange: Exchange | None
    ) -> dict[str, Any]:
        if self._ending is not None:
            raise self._gone()
        id = next(self._ids)
        token, params = _with_token(params, id)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._pending[id] = _Pending(method, answer, exchange, token)
        message: dict[str, Any] = {"jsonrpc": "2.0", "id": id, "method": method}
        if params is not None:
            message["params"] = params
        try:
            await self._send(message)
            reply = await answer
        except asyncio.CancelledError:
            if answer.cancelled() or not answer.done():
                await self._cancel(id)
            raise
        finally:
            del self._pending[id]
        if (error := reply.get("error")) is not None:
            raise error_of(error)
        content = reply.get("result")
        if not isinstance(content, dict):
            raise JsonRpcError(INTERNAL_ERROR, f"the MCP server answered {method} with no object")
        return content

    async def notify(self, method: str, params: Params | None = None) -> None:
        """Sends the process a notification; raises :class:`JsonRpcError`."""
        await self._send(notification(method, params))

    async def cancel(self, exchange: Exchange, reason: str) -> None:
        """Ends the request of ``exchange`` with an error, and tells the process."""
        for id, each in self._pending.items():
            if each.exchange is exchange and not each.answer.done():
                each.answer.set_exception(JsonRpcError(CANCELLED, f"Request cancelled: {reason}"))
                await self._cancel(id, reason)
                break

    async def _cancel(self, id: int, reason: str = "the client left") -> None:
        try:
            async with asyncio.timeout(1.0):
                await self.notify(_CANCELLED, {"requestId": id, "reason": reason})
        except (JsonRpcError, TimeoutError):
            log.debug("a cancellation was not taken")

    async def _send(self, message: Mapping[str, Any]) -> None:
        try:
            await self.child.send(encoded(message))
        except ChildGoneError as error:
            raise JsonRpcError(INTERNAL_ERROR, str(error), status=502) from error

    def _gone(self) -> JsonRpcError:
        how = self._ending if self._ending is not None else "is not read any more"
        return JsonRpcError(INTERNAL_ERROR, f"the MCP server {how}", status=502)

    def _receive(self, message: dict[str, Any]) -> None:
        method, id = message.get("method"), message.get("id")
        if isinstance(method, str):
            params = message.get("params")
            params = params if isinstance(params, dict) else {}
            if isinstance(id, str | int):
                self._be_asked(id, method, params)
            else:
                self._notified(method, params)
        elif (pending := self._of(id)) is not None:
            if not pending.answer.done():
                pending.answer.set_result(message)
        else:
            log.debug("an answer to nothing that was asked: id %r", id)

    def _of(self, id: Any) -> _Pending | None:
        """What is under way as ``id``; some servers answer 1 with "1"."""
        if isinstance(id, str) and id.isdecimal() and len(id) < 20:
            id = int(id)
        return self._pending.get(id) if type(id) is int else None

    def _notified(self, method: str, params: dict[str, Any]) -> None:
        meta = params.get("_meta")
        if method == _PROGRESS:
            pending = self._of(params.get("progressToken"))
            if pending is not None and pending.exchange is not None and pending.token is not None:
                pending.exchange.notify(method, params | {"progressToken": pending.token})
        elif isinstance(meta, dict) and SUBSCRIPTION_KEY in meta:
            pending = self._of(meta[SUBSCRIPTION_KEY])
            if pending is not None and pending.exchange is not None:
                pending.exchange.notify(method, params)
        elif method == _CANCELLED:
            id = params.get("requestId")
            if isinstance(id, str | int) and (task := self._asked.get(id)) is not None:
                task.cancel()
        else:
            self.audience.notify(method, params)

    def _be_asked(self, id: Id, method: str, params: dict[str, Any]) -> None:
        async def answered(ask: Callable[[str, Params], Awaitable[dict[str, Any]]]) -> None:
            try:
                message = result(id, {} if method == "ping" else await ask(method, params))
            except JsonRpcError as fault:
                message = failure(id, fault)
            try:
                await self._send(message)
            except JsonRpcError as fault:
                log.debug("an answer was not taken: %s", fault)

        if id in self._asked or len(self._asked) >= _MOST_ASKED:
            log.debug("process %d asks too much at once: %s is dropped", self.child.pid, method)
            return
        task = asyncio.create_task(answered(self.audience.ask), name=f"asked {method}")
        self._asked[id] = task
        task.add_done_callback(lambda _: self._asked.pop(id, None))


def _with_token(params: Params | None, id: int) -> tuple[Id | None, Params | None]:
    """The client's own token for progress, and ``params`` with ours, which is ``id``, in its
    place."""
    meta = params.get("_meta") if params is not None else None
    token = meta.get("progressToken") if isinstance(meta, dict) else None
    if params is None or not isinstance(token, str | int):
        return None, params
    return token, {**params, "_meta": {**meta, "progressToken": id}}  # type: ignore[dict-item]

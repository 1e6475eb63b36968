"""What a legacy process asks of a modern client: it is told so as the result of its request, and
answers by sending that again, while the request goes on at the process.

https://modelcontextprotocol.io/specification/2026-07-28/basic/patterns/mrtr
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Mapping
from itertools import count
from typing import Any, Final, NamedTuple

from mcp_discovery.errors import DiscoveryError
from mcp_discovery.mcp_messages import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    JsonRpcError,
    encoded,
)
from mcp_discovery.sidecar.bridge.connection import ASKABLE, Exchange, Params

#: The requests whose results may ask for input.
ASKING: Final = frozenset(("tools/call", "prompts/get", "resources/read"))
#: How many requests may wait for what their clients answer, and for how many seconds each.
_MOST: Final = 100
_PATIENCE: Final = 600.0
_STATE, _RESPONSES = "requestState", "inputResponses"
#: What a legacy request says of tasks, which are no part of a question to a modern client.
_TASK: Final = "task"


class CallOverError(DiscoveryError):
    """A request has its result, and its client is asked nothing more."""


class _Question(NamedTuple):
    method: str
    params: Params
    answer: asyncio.Future[dict[str, Any]]


class QuestionedCall:
    """A request of a modern client that can answer ``capabilities``, over as many exchanges as it
    takes: the :class:`Exchange` of the process, of which the client's is the last one."""

    def __init__(self, capabilities: Mapping[str, Any], subject: bytes) -> None:
        self.client: object = self
        #: What it is about: its next exchange is about the same.
        self.subject = subject
        self.exchange: Exchange | None = None
        self.token: Any = None
        self.work: asyncio.Task[Mapping[str, Any]]
        self.expiry: asyncio.TimerHandle | None = None
        self.asked = asyncio.Event()
        self._capabilities = capabilities
        self._questions: dict[str, _Question] = {}
        self._keys = count(1)

    @property
    def log_level(self) -> str | None:
        """The least level of messages that the client wants with its answer."""
        return None if self.exchange is None else self.exchange.log_level

    def notify(self, method: str, params: Params) -> None:
        """Sends the client a notification, if it waits."""
        if self.exchange is None or (method.endswith("/progress") and self.token is None):
            return
        named = {"progressToken": self.token} if "progressToken" in params else {}
        self.exchange.notify(method, {**params, **named})

    async def ask(self, method: str, params: Params) -> dict[str, Any]:
        """The client's answer; raises :class:`JsonRpcError`, and :class:`CallOverError` where the
        request ends without it."""
        if ASKABLE.get(method) not in self._capabilities:
            detail = f"{method}: this client has not said that it answers that"
            raise JsonRpcError(METHOD_NOT_FOUND, detail)
        key = f"question-{next(self._keys)}"
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._questions[key] = _Question(method, params, answer)
        self.asked.set()
        try:
            return await answer
        finally:
            del self._questions[key]

    @property
    def open(self) -> dict[str, _Question]:
        """What the client has not answered yet."""
        return {key: each for key, each in self._questions.items() if not each.answer.done()}

    def take(self, responses: Any) -> None:
        """Takes what the client answers."""
        for key, question in self.open.items():
            if isinstance(responses, dict) and isinstance(given := responses.get(key), dict):
                question.answer.set_result(given)

    def end(self, error: DiscoveryError) -> None:
        """Asks nothing more: what is open fails with ``error``."""
        self.work.cancel()
        for each in self.open.values():
            each.answer.set_exception(error)


class ParkedCalls:
    """The requests of modern clients that wait for what their clients answer."""

    def __init__(self) -> None:
        self._parked: dict[str, QuestionedCall] = {}

    async def ask(
        self,
        method: str,
        params: Params,
        exchange: Exchange,
        capabilities: Mapping[str, Any],
        begin: Callable[[Params, QuestionedCall], Coroutine[Any, Any, Mapping[str, Any]]],
    ) -> Mapping[str, Any]:
        """The result of a request, or what its client is asked first; ``begin`` begins one that
        answers nothing.

        Raises :class:`JsonRpcError`.
        """
        plain = {name: each for name, each in params.items() if name not in (_STATE, _RESPONSES)}
        subject = encoded([method, {name: each for name, each in plain.items() if name != "_meta"}])
        if (state := params.get(_STATE)) is None:
            call = QuestionedCall(capabilities, subject)
            call.work = asyncio.create_task(begin(plain, call), name=f"{method} that may ask")
        else:
            call = self._resumed(state, subject)
            call.take(params.get(_RESPONSES))
        meta = params.get("_meta")
        call.exchange = exchange
        call.token = meta.get("progressToken") if isinstance(meta, dict) else None
        try:
            if await self._is_done(call):
                return call.work.result()
            return self._park(call)
        except asyncio.CancelledError:
            call.end(JsonRpcError(INTERNAL_ERROR, "the client has left"))
            raise
        finally:
            call.exchange = None
            if call.work.done():
                call.end(CallOverError("the request is over"))

    def close(self) -> None:
        """Ends all that wait."""
        for state in list(self._parked):
            self._expire(state)

    async def _is_done(self, call: QuestionedCall) -> bool:
        """Waits for the result, or for a question."""
        while not call.open and not call.work.done():
            call.asked.clear()
            asked = asyncio.create_task(call.asked.wait())
            try:
                either: set[asyncio.Task[Any]] = {call.work, asked}
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            finally:
                asked.cancel()
        return call.work.done()

    def _park(self, call: QuestionedCall) -> dict[str, Any]:
        if len(self._parked) >= _MOST:
            detail = f"{_MOST} requests wait for what their clients answer, which is the limit"
            fault = JsonRpcError(INTERNAL_ERROR, detail)
            call.end(fault)
            raise fault
        state = secrets.token_urlsafe(32)
        self._parked[state] = call
        call.expiry = asyncio.get_running_loop().call_later(_PATIENCE, self._expire, state)
        questions = {
            key: {
                "method": each.method,
                "params": {name: value for name, value in each.params.items() if name != _TASK},
            }
            for key, each in call.open.items()
        }
        return {"resultType": "input_required", "inputRequests": questions, _STATE: state}

    def _resumed(self, state: Any, subject: bytes) -> QuestionedCall:
        call = self._parked.get(state) if isinstance(state, str) else None
        if call is None or call.subject != subject:
            detail = "requestState is not of this request, or too old: send the request without it"
            raise JsonRpcError(INVALID_PARAMS, detail)
        del self._parked[state]
        if call.expiry is not None:
            call.expiry.cancel()
        return call

    def _expire(self, state: str) -> None:
        if (call := self._parked.pop(state, None)) is not None:
            call.end(JsonRpcError(INTERNAL_ERROR, "the client did not answer in time"))

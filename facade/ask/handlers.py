"""``POST /api/ask`` and ``POST /api/platform/query``, with the statuses and words of a platform."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import orjson
from aiohttp import HttpVersion11, web
from pydantic import Field

from mcp_discovery.ask.model import LONGEST_QUESTION
from mcp_discovery.disconnects import ClientGoneError, cancelled_when_lost
from mcp_discovery.errors import DiscoveryError
from mcp_discovery.facade.access.caller import Caller, caller_of
from mcp_discovery.facade.access.parts import parts_of
from mcp_discovery.facade.access.quotas import quotas_in
from mcp_discovery.facade.ask.asking import ASKING
from mcp_discovery.facade.ask.callers_tools import CallersTools
from mcp_discovery.facade.ask.recording import RecordedQuestion
from mcp_discovery.facade.http.body import Shaped, read_object
from mcp_discovery.facade.http.operation import Operation
from mcp_discovery.facade.http.problems import ProblemError, reshape
from mcp_discovery.facade.http.tracing import request_id
from mcp_discovery.facade.options import OPTIONS

if TYPE_CHECKING:
    from mcp_discovery.ask import Step

log = logging.getLogger(__name__)

ASK, QUERY = "/api/ask", "/api/platform/query"
_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}
#: What is said where no questions are answered.
OFF: Final = (
    "this facade answers no questions: start it with OPENAI_API_KEY, ANTHROPIC_API_KEY or "
    "GEMINI_API_KEY in its environment, and, where others reach it, with --auth"
)
_FAILED: Final = "Agent execution failed"
#: The largest body, in bytes: a question has 32,000 characters.
_LARGEST = 256 * 2**10


class AskBody(Shaped):
    """A question."""

    question: str = Field(description="At most 32,000 characters.")
    preferred_provider: str | None = Field(
        None, description="openai, anthropic (or claude), gemini, or auto."
    )
    details: bool = Field(
        False, description="Whether the answer tells the steps, the tokens and the model, too."
    )


class QueryBody(Shaped):
    """A question, as a platform's own client asks it."""

    question: str = Field(description="At most 32,000 characters.")
    provider: str | None = Field(
        None, description="openai, anthropic (or claude), gemini, or auto."
    )
    user_id: str | None = Field(
        None, description="The caller's own subject; another one for whoever administers."
    )


class AskedAnswer(Shaped):
    """The answer; what comes after the first two only with `details`."""

    answer: str
    request_id: str
    provider: str | None = None
    model: str | None = None
    usage: dict[str, int] | None = None
    turns: int | None = None
    calls: int | None = None
    duration_ms: int | None = None
    cut: bool | None = Field(None, description="Whether there was no room for more.")
    steps: list[dict[str, Any]] | None = None


class QueryAnswer(Shaped):
    """The answer alone."""

    answer: str


class AskFault(Shaped):
    """Why there is no answer."""

    error: str
    request_id: str | None = None


def reshape_ask_error(request: web.Request, response: web.StreamResponse) -> None:
    """Replaces a problem document by the ``{"error"}`` that clients of these two read."""
    if request.path not in (ASK, QUERY):
        return

    def shaped(problem: dict[str, Any]) -> dict[str, Any]:
        match problem["status"]:
            case 401 if problem["type"].endswith(":unauthenticated"):
                return {"error": "Bearer token required"}
            case 401:
                return {"error": "Invalid token"}
            case 429:
                return {"error": "Rate limit exceeded"}
            case 500:
                return {"error": _FAILED, "requestId": request_id() or ""}
        return {"error": problem["detail"]}

    reshape(response, shaped)


async def ask(request: web.Request) -> web.StreamResponse:
    """Answers a question: a model calls the tools of the list that the caller may call.

    With `Accept: text/event-stream` the steps are told as they are made: `search`, `call`,
    `result`, `text`, `retry`, `usage`, and `done` or `error` at the end. When the client leaves,
    all of it ends.
    """
    return await _AskedQuestion(request).answered("preferredProvider")


async def query(request: web.Request) -> web.StreamResponse:
    """Answers a question, as `POST /api/ask` does.

    `userId` never gives other rights than the caller's own: it is the caller's subject, or, for
    whoever administers the whole facade, another one, which the audit then tells.
    """
    return await _AskedQuestion(request).answered("provider", only_answer=True)


class _AskedQuestion:
    """One question of a request."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._caller: Caller = caller_of(request)
        self._steps: list[dict[str, Any]] = []
        self._stream: web.StreamResponse | None = None

    async def answered(self, provider: str, *, only_answer: bool = False) -> web.StreamResponse:
        request, caller = self._request, self._caller
        asking = request.app.get(ASKING)
        quotas = quotas_in(request)
        if asking is not None and quotas is not None:
            await quotas.take(caller, "questions")
        body = await read_object(request, empty=True, limit=_LARGEST)
        if asking is None:
            raise ProblemError(404, "ask-off", OFF)
        question, wanted = body.get("question"), body.get(provider)
        if not isinstance(question, str) or not question.strip():
            raise ProblemError(400, "question-required", "question is required")
        if len(question) > LONGEST_QUESTION:
            detail = f"the question has more than {LONGEST_QUESTION:,} characters; ask for less"
            raise ProblemError(400, "invalid-input", detail)
        if wanted is not None and not isinstance(wanted, str):
            raise ProblemError(400, "invalid-input", f"{provider} is no string; write auto")
        user = _user(caller, body.get("userId")) if only_answer else None
        chosen = asking.choose(question, wanted)
        tools = CallersTools(parts_of(request), caller, asking.call_tool, quotas)
        with asking.room(caller), cancelled_when_lost(request):
            recorded = await RecordedQuestion.begin(question, asking.scopes(caller), user)
            with recorded.ended():
                if "text/event-stream" in request.headers.get("Accept", ""):
                    await self._open()
                try:
                    async with self._pinging():
                        found = await asking.answer(question, chosen, tools, self._step)
                except DiscoveryError as error:
                    recorded.failed(error)
                    return await self._failed(error, details=body.get("details") is True)
            told = {"answer": found.text}
            if only_answer and self._stream is None:
                return _json(told)
            told["requestId"] = request_id() or ""
            if self._stream is not None:
                return await self._end("done", told | found.json())
            if body.get("details") is True:
                return _json(told | found.json() | {"steps": self._steps})
            return _json(told)

    async def _step(self, step: Step) -> None:
        if self._stream is not None:
            await self._write(step.kind, step.json())
        elif step.kind != "text":
            self._steps.append({"event": step.kind} | step.json())

    async def _failed(self, error: DiscoveryError, *, details: bool) -> web.StreamResponse:
        if isinstance(error, ProblemError) and self._stream is None:
            raise error
        log.warning("request %s: the question has no answer: %s", request_id(), error)
        told = {"error": _FAILED, "requestId": request_id() or ""}
        if details or self._stream is not None:
            told["detail"] = str(error)
        if self._stream is not None:
            return await self._end("error", told)
        return _json(told, status=500)

    async def _open(self) -> None:
        self._stream = stream = web.StreamResponse(headers=_HEADERS)
        if self._request.version >= HttpVersion11:
            stream.enable_chunked_encoding()
        await stream.prepare(self._request)

    @asynccontextmanager
    async def _pinging(self) -> AsyncIterator[None]:
        """Keeps proxies from closing the stream while a model thinks, or a tool works."""

        async def ping() -> None:
            while True:
                await asyncio.sleep(self._request.app[OPTIONS].ping)
                await self._send(b": ping\n\n")

        task = asyncio.create_task(ping(), name="pings") if self._stream is not None else None
        try:
            yield
        finally:
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _write(self, name: str, data: Mapping[str, Any]) -> None:
        text = orjson.dumps(data, default=str, option=orjson.OPT_NON_STR_KEYS)
        await self._send(b"event: %b\ndata: %b\n\n" % (name.encode(), text))

    async def _send(self, frame: bytes) -> None:
        assert self._stream is not None
        try:
            async with asyncio.timeout(self._request.app[OPTIONS].write_timeout):
                await self._stream.write(frame)
        except (ConnectionError, TimeoutError) as error:
            raise ClientGoneError("the client has left, or does not read") from error

    async def _end(self, name: str, data: Mapping[str, Any]) -> web.StreamResponse:
        assert self._stream is not None
        with suppress(ClientGoneError):
            await self._write(name, data)
        return self._stream


def _user(caller: Caller, given: object) -> str | None:
    """For whom a question is asked, where that is not its caller; raises :class:`ProblemError`
    (403)."""
    if given is None or given in ("", caller.subject):
        return None
    if not isinstance(given, str) or len(given) > 500:
        raise ProblemError(400, "invalid-input", "userId is no string of at most 500 characters")
    if not caller.rights.grants_all("admin"):
        detail = (
            f"userId is {given[:100]!r}, and you are {caller.subject!r}; leave it out, or ask with "
            "that caller's own token"
        )
        raise ProblemError(403, "not-your-user-id", detail)
    return given


def _json(body: Mapping[str, Any], *, status: int = 200) -> web.Response:
    data = orjson.dumps(body, default=str, option=orjson.OPT_NON_STR_KEYS)
    headers = {"Cache-Control": "no-store"}
    return web.Response(status=status, body=data, content_type="application/json", headers=headers)


_FAULTS = dict.fromkeys((400, 401, 403, 404, 408, 413, 415, 421, 429, 500, 502, 503, 508), AskFault)

OPERATIONS = (
    Operation(
        "POST",
        ASK,
        ask,
        "ask",
        body=AskBody,
        answers={200: AskedAnswer, **_FAULTS},
        needs="call",
    ),
    Operation(
        "POST",
        QUERY,
        query,
        "ask",
        body=QueryBody,
        answers={200: QueryAnswer, **_FAULTS},
        needs="call",
    ),
)

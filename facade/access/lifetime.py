"""Ends streams whose caller's credential counts no more: it expired, or the file changed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from functools import cache

from aiohttp import web

from mcp_discovery.facade.access.authentication import FileAuthentication
from mcp_discovery.facade.access.caller import Caller, caller_of
from mcp_discovery.facade.access.challenge import Challenges
from mcp_discovery.facade.http.problems import Handler, ProblemError
from mcp_discovery.mcp_messages import only_listens

log = logging.getLogger(__name__)

#: Seconds between two looks at the credentials of open requests.
_CHECK_EVERY = 0.25
#: How many open requests are looked at before others get their turn.
_AT_ONCE = 200
#: For how many seconds more a call may go on whose caller's credential ended meanwhile.
_GRACE = 60.0
#: The code with which a WebSocket is closed (RFC 6455, 7.4.2): HTTP's 401, as many have it.
CLOSE_CODE = 4401

_STREAM = web.RequestKey("stream", web.StreamResponse)


@cache
def _is_stream(kind: type[web.StreamResponse]) -> bool:
    # ``isinstance`` of an abstract base class takes ten times as long.
    return not issubclass(kind, web.Response)


def note_stream(request: web.Request, response: web.StreamResponse) -> None:
    """Notes the stream that ``request`` is answered with, as its head is written."""
    if _is_stream(type(response)):
        request[_STREAM] = response


class CredentialLifetimes:
    """Watches the credentials of all open requests.

    A request that listens (a stream, a long poll, a WebSocket) ends when its caller's credential
    does, or when the file gives the caller other rights: it comes again with what counts then. What
    was asked for before is answered, if that takes no more than a minute.
    """

    def __init__(
        self,
        authentication: FileAuthentication,
        challenges: Challenges,
    ) -> None:
        self._authentication = authentication
        self._challenges = challenges
        #: The task of each open request, and those of them that are ended.
        self._open: dict[asyncio.Task[object], web.Request] = {}
        self._ending: dict[asyncio.Task[object], asyncio.TimerHandle] = {}
        self._cancelled: set[asyncio.Task[object]] = set()

    async def running(self, app: web.Application) -> AsyncIterator[None]:
        """From start to clean-up of the application."""
        watch = asyncio.create_task(self._watch(), name="credentials of open requests")
        try:
            yield
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)

    async def answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """The answer of ``handler``, which ends in an orderly way when its caller's credential
        ends."""
        task: asyncio.Task[object] = request.task
        self._open[task] = request
        try:
            return await handler(request)
        except asyncio.CancelledError:
            # As asyncio.timeout does it, which takes five times as long to set up.
            if task not in self._cancelled or task.uncancel():
                raise
        finally:
            del self._open[task]
            if self._ending and (timer := self._ending.pop(task, None)) is not None:
                timer.cancel()
                self._cancelled.discard(task)
        return await self._ended(request)

    async def _ended(self, request: web.Request) -> web.StreamResponse:
        stream: web.StreamResponse | None = request.get(_STREAM)
        if stream is None:
            raise self._challenges.invalid_token(request)
        if isinstance(stream, web.WebSocketResponse):
            await stream.close(code=CLOSE_CODE, message=b"the credential counts no more")
        elif stream.content_length is not None and request.transport is not None:
            request.transport.abort()  # so that nobody takes a part for the whole
        else:
            with contextlib.suppress(ConnectionError):
                await stream.write_eof()
        return stream

    async def _watch(self) -> None:
        state = self._authentication.state
        while True:
            await asyncio.sleep(_CHECK_EVERY)
            try:
                await self._authentication.renew()
                before, state = state, self._authentication.state
                await self._look(changed=state != before)
            except Exception:  # the guard that keeps the watch alive
                log.exception("looking at credentials failed in a way it must not")

    async def _look(self, *, changed: bool) -> None:
        now = time.time()
        for number, (task, request) in enumerate(list(self._open.items())):
            if number % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)
            caller = caller_of(request)
            expired = caller.expires_at is not None and caller.expires_at <= now
            if expired or (changed and not await self._counts(request, caller)):
                self._end(task, request)

    def _end(self, task: asyncio.Task[object], request: web.Request) -> None:
        if self._open.get(task) is request and task not in self._ending:
            after = 0.0 if only_listens(request) else _GRACE
            loop = asyncio.get_running_loop()
            self._ending[task] = loop.call_later(after, self._cancel, task)

    def _cancel(self, task: asyncio.Task[object]) -> None:
        self._cancelled.add(task)
        task.cancel()

    async def _counts(self, request: web.Request, caller: Caller) -> bool:
        """Whether the caller is now who it was, with the same rights."""
        try:
            now = await self._authentication.identify(request)
        except ProblemError:
            return False
        return (now.subject, now.by) == (caller.subject, caller.by) and now.rights == caller.rights

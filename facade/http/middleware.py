"""The outermost middleware: what all responses have in common, whatever answers.

A request passes, from the outside in: its trace → what decides who may ask
(:func:`mcp_discovery.facade.app.create_app` lists that) → its operation. Its response passes
problems, metrics, compression and CORS on the way back.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TypeAlias

from aiohttp import web
from aiohttp.typedefs import Middleware

from mcp_discovery.errors import DiscoveryError
from mcp_discovery.facade.http.body import release
from mcp_discovery.facade.http.compression import Compression, EncodedResponse
from mcp_discovery.facade.http.cors import Cors
from mcp_discovery.facade.http.metrics import Metrics
from mcp_discovery.facade.http.problems import Handler, problem_of
from mcp_discovery.facade.http.tracing import CURRENT_TRACE, Trace
from mcp_discovery.http_listener import sign
from mcp_discovery.telemetry.conventions import http_answered
from mcp_discovery.telemetry.spans import ids

log = logging.getLogger(__name__)

#: Raises :class:`~mcp_discovery.errors.DiscoveryError` for a request that is refused.
Check: TypeAlias = Callable[[web.Request], None]
#: Changes a response, if it is to a request that this is for.
Finish: TypeAlias = Callable[[web.Request, web.StreamResponse], None]


@dataclass(frozen=True, eq=False)
class OutermostMiddleware:
    """Traces, checks, times and counts each request, and finishes its response.

    ``check`` is for every request, before any middleware further in and before its operation.
    ``reshape_error`` gives problem documents another shape below the paths of an API that others
    have specified; ``sign`` sets further headers as the head of any response is written.
    """

    metrics: Metrics
    cors: Cors
    check: Check
    reshape_error: Finish
    sign: tuple[Finish, ...]
    _compression: Compression = field(default_factory=Compression, init=False)

    def install(self, app: web.Application, *inner: Middleware) -> None:
        """Makes this the outermost middleware of ``app``, with ``inner`` below it in that order."""
        app.middlewares.extend((self._answer, *inner))
        app.on_response_prepare.append(self._sign)

    @web.middleware
    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        trace = Trace(request)
        CURRENT_TRACE.set(trace)
        with trace.span:
            try:
                self.check(request)
                response = await handler(request)
            except web.HTTPException as error:
                if error.status < 400:
                    http_answered(trace.span, error.status)
                    trace.span.end()  # it has not failed
                    raise
                response = problem_of(request, error)
            except (DiscoveryError, web.RequestPayloadError) as error:
                response = problem_of(request, error)
            except Exception as error:  # the guard that keeps a fault of ours from a client's eyes
                log.exception(
                    "%s %s failed in a way it must not (request %s)",
                    *(request.method, request.rel_url.raw_path, trace.id),
                )
                response = problem_of(request, error)
            finally:
                release(request)
            status = response.status
            if trace.span.is_recorded:
                http_answered(trace.span, status, from_=500)
            if status >= 400:
                self.reshape_error(request, response)
            known = ids() if trace.span.is_recorded else None
            traced = known.trace if known is not None else None
            self.metrics.count(request, response, time.monotonic() - trace.began, traced)
            # A loop is the fault of who asks, 508 though it is (RFC 5842, 7.2), and every probe of
            # it.
            at_fault = status >= 500 and status != HTTPStatus.LOOP_DETECTED
            level = logging.WARNING if at_fault else logging.DEBUG
            if log.isEnabledFor(level):
                # The path only: what stands in a query is nobody else's business.
                log.log(
                    level,
                    "%s %s → %d (request %s)",
                    *(request.method, request.rel_url.raw_path, status, trace.id),
                )
        if type(response) is not EncodedResponse:
            await self._compression.compress(request, response)
        if status == 204 and request.method == "OPTIONS":
            self.cors.answer_preflight(request, response)
        trace.over = True
        return response

    async def _sign(self, request: web.Request, response: web.StreamResponse) -> None:
        """Sets the headers that streams and WebSockets have as well, as a head is written."""
        sign(request, response)
        if self.cors.origins:
            self.cors.sign(request, response)
        for finish in self.sign:
            finish(request, response)
        if (trace := CURRENT_TRACE.get()) is not None:
            trace.sign(response)
            if trace.span.is_recorded:
                trace.begin(request, response)

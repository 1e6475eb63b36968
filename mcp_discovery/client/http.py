"""The HTTP connections that everything in the client shares, with faults as responses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx2
import orjson
from mcp_types import CONNECTION_CLOSED

from mcp_discovery.client.attempt import ATTEMPT, Attempt
from mcp_discovery.errors import DiscoveryError

#: The largest response, in bytes, that is not an event stream.
MAX_RESPONSE = 64 * 2**20
#: Idle connections are closed before a server closes them (uvicorn does after 5 s).
_LIMITS = httpx2.Limits(max_connections=None, max_keepalive_connections=256, keepalive_expiry=4.0)
#: Faults after which the server cannot have received the request.
_NEVER_SENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.UnsupportedProtocol,
    httpx2.LocalProtocolError,
)
#: Seconds that a server may take to accept a notification; the SDK sends nothing else meanwhile.
_NOTIFICATION_TIMEOUT = 5.0


class BodyTooLargeError(DiscoveryError, httpx2.TransportError):
    """The answer is over :data:`MAX_RESPONSE`."""


class SharedHttp(httpx2.AsyncBaseTransport):
    """One pool of connections for a whole :class:`~mcp_discovery.client.Discovery`.

    Making a TLS context takes 31 to 75 ms, so there is one, made when the first https URL is
    called, in a thread.
    """

    def __init__(
        self,
        *,
        connect_timeout: float,
        guard: Callable[[httpx2.URL], Awaitable[None]] | None = None,
    ) -> None:
        self._guard = guard
        self._plain = httpx2.AsyncHTTPTransport(verify=False, limits=_LIMITS)
        self._secure: asyncio.Future[httpx2.AsyncHTTPTransport] | None = None
        self._timeout = httpx2.Timeout(connect_timeout, read=None, write=30.0, pool=None)
        #: For the facade: faults are raised.
        self.facade = httpx2.AsyncClient(transport=self, timeout=self._timeout)

    def client(
        self, *, auth: httpx2.Auth | None = None, headers: dict[str, str] | None = None
    ) -> httpx2.AsyncClient:
        """A client for one MCP server: its own credentials and cookies, the shared connections."""
        return httpx2.AsyncClient(
            transport=_FaultsAsResponses(self, self._guard),
            auth=auth,
            headers=headers,
            timeout=self._timeout,
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Sends ``request`` over a connection of the pool."""
        if request.url.scheme != "https":
            return await self._plain.handle_async_request(request)
        if self._secure is None:
            making = asyncio.to_thread(httpx2.AsyncHTTPTransport, limits=_LIMITS)
            self._secure = asyncio.ensure_future(making)
        secure = await asyncio.shield(self._secure)
        return await secure.handle_async_request(request)

    async def close(self) -> None:
        """Closes every connection."""
        await self.facade.aclose()
        await self._plain.aclose()
        if self._secure is not None:
            await (await self._secure).aclose()


class _FaultsAsResponses(httpx2.AsyncBaseTransport):
    """Turns a fault of the transport into a response, and records it in the :data:`ATTEMPT`.

    A fault that is raised ends the SDK's whole session, and with it every other call under way at
    that server. As a response it ends only its own request.
    """

    def __init__(
        self,
        inner: httpx2.AsyncBaseTransport,
        guard: Callable[[httpx2.URL], Awaitable[None]] | None,
    ) -> None:
        self._inner = inner
        self._guard = guard

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        attempt = ATTEMPT.get() or Attempt()
        try:
            if self._guard is not None:
                try:
                    await self._guard(request.url)
                except OSError as error:
                    raise httpx2.ConnectError(str(error)) from error
            async with asyncio.timeout(
                _NOTIFICATION_TIMEOUT if _is_notification(request) else None
            ):
                response = await self._inner.handle_async_request(request)
        except _NEVER_SENT as error:
            attempt.record_fault(error)
            return _fault_response(error)
        except httpx2.TransportError as error:
            attempt.sent = True
            attempt.record_fault(error)
            return _fault_response(error)
        except TimeoutError as error:
            return _fault_response(
                httpx2.ReadTimeout(
                    f"a notification was not taken in {_NOTIFICATION_TIMEOUT:g} s ({error})"
                )
            )
        except asyncio.CancelledError:
            attempt.sent = True  # how far it got is not known
            raise
        attempt.sent, attempt.status = True, response.status_code
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        kind = response.headers.get("content-type", "")
        limit = None if kind.startswith("text/event-stream") else MAX_RESPONSE
        response.stream = _BodyWithoutFaults(response.stream, attempt, limit)
        return response

    async def aclose(self) -> None:
        """The connections are shared: :meth:`SharedHttp.close` closes them."""


class _BodyWithoutFaults(httpx2.AsyncByteStream):
    """A body that ends where the connection breaks: incomplete JSON, or a stream that lacks the
    response, is an error of that request alone."""

    def __init__(self, inner: httpx2.AsyncByteStream, attempt: Attempt, limit: int | None) -> None:
        self._inner = inner
        self._attempt = attempt
        self._limit = limit

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        try:
            async for chunk in self._inner:
                size += len(chunk)
                if self._limit is not None and size > self._limit:
                    self._attempt.record_fault(BodyTooLargeError(f"over {self._limit:,} bytes"))
                    return
                yield chunk
        except httpx2.TransportError as error:
            self._attempt.record_fault(error)

    async def aclose(self) -> None:
        await self._inner.aclose()


def _fault_response(error: httpx2.TransportError) -> httpx2.Response:
    message = f"{type(error).__name__}: {error}"
    fault = {"code": CONNECTION_CLOSED, "message": message}
    body = orjson.dumps({"jsonrpc": "2.0", "id": None, "error": fault})
    return httpx2.Response(503, headers={"Content-Type": "application/json"}, content=body)


def _is_notification(request: httpx2.Request) -> bool:
    """Whether it is a notification or a response, which do not have both ``method`` and ``id``.

    The modern protocol has neither, and names the method of a request in a header. A message of
    more than 4 KiB is a request.
    """
    if request.method != "POST" or "Mcp-Method" in request.headers or len(request.content) > 4096:
        return False
    message = orjson.loads(request.content)
    return not (isinstance(message, dict) and "method" in message and "id" in message)

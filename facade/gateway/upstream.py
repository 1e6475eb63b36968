"""One request to one replica: its body, streamed, and the head of the response."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping

import aiohttp
import orjson
from aiohttp import web

from mcp_discovery.errors import DiscoveryError
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.probe import AddressRefusedError
from mcp_discovery.probe.endpoint import ProbedEndpoint
from mcp_discovery.probe.wire import within_origin
from mcp_discovery.record import Record

#: How many bytes of a body are buffered: nearly every call fits, so that it can be sent again.
_PREFIX_BYTES = 64 * 2**10
#: The largest body that is forwarded, in bytes.
MAX_BODY_BYTES = 64 * 2**20


class ForwardedBody:
    """The body of one request; its beginning is buffered, the rest is streamed.

    ``whole`` says that all of it is buffered; ``fault`` is the error that occurred while streaming.
    """

    def __init__(self, request: web.Request, timeout: float) -> None:
        """``timeout`` in seconds bounds the wait for each part of the body."""
        self._content = request.content
        self._length = request.content_length
        self._timeout = timeout
        self._prefix = b""
        self.whole = not request.can_read_body
        self.fault: ProblemError | None = None

    async def begin(self) -> None:
        """Buffers the beginning; raises :class:`ProblemError` where it is too large or too slow."""
        if (self._length or 0) > MAX_BODY_BYTES:
            raise _too_large()
        while not self.whole and len(self._prefix) < _PREFIX_BYTES:
            part = await self._part()
            self._prefix += part
            self.whole = not part

    def payload(self) -> bytes | AsyncIterator[bytes] | None:
        """The body to send; only a ``whole`` one can be sent twice."""
        if self.whole:
            return self._prefix or None
        return self._parts()

    @property
    def headers(self) -> dict[str, str]:
        """``Content-Length``, where the client sent it."""
        return {} if self.whole or self._length is None else {"Content-Length": str(self._length)}

    @property
    def id(self) -> str | int | float | None:
        """The id of the JSON-RPC request in it; ``None`` where it cannot be read."""
        try:
            message = orjson.loads(self._prefix)
        except orjson.JSONDecodeError:
            return None
        id = message.get("id") if isinstance(message, dict) else None
        return id if isinstance(id, str | int | float) and not isinstance(id, bool) else None

    async def _parts(self) -> AsyncIterator[bytes]:
        yield self._prefix
        sent = len(self._prefix)
        try:
            while part := await self._part():
                sent += len(part)
                if sent > MAX_BODY_BYTES:
                    raise _too_large()
                yield part
        except ProblemError as error:
            self.fault = error
            raise

    async def _part(self) -> bytes:
        try:
            async with asyncio.timeout(self._timeout):
                return await self._content.readany()
        except TimeoutError as error:
            detail = f"the body did not go on within {self._timeout:g} s; send it again"
            raise ProblemError(408, "slow-body", detail) from error
        except (ConnectionError, web.RequestPayloadError) as error:
            raise ProblemError(
                400, "body-broken-off", f"the body cannot be read: {error}"
            ) from error


def _too_large() -> ProblemError:
    return ProblemError(
        413, "body-too-large", f"the body is over the limit of {MAX_BODY_BYTES:,} bytes"
    )


#: How many seconds connecting may take.
_CONNECT_TIMEOUT = 5.0
#: The redirects that are followed: within the origin, with the same method and body.
_REDIRECTS = frozenset((301, 302, 307, 308))
_MOST_REDIRECTS = 2
#: Headers that aiohttp must not add.
_NOT_ADDED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class ReplicaUnreachableError(DiscoveryError):
    """No connection was made, so nothing was sent; ``late`` says that connecting timed out."""

    def __init__(self, why: str, *, late: bool) -> None:
        super().__init__(why)
        self.late = late


async def send_request(
    session: aiohttp.ClientSession,
    record: Record,
    request: web.Request,
    headers: Mapping[str, str],
    body: ForwardedBody,
    timeout: float,
) -> aiohttp.ClientResponse:
    """The server's response, with only its head read; the caller closes it.

    ``timeout`` in seconds bounds the wait for the head. Raises :class:`ReplicaUnreachableError`,
    after which another replica may be tried, and :class:`ProblemError`, after which none may: the
    server may have processed the request.
    """
    url = ProbedEndpoint.of(record.endpoint.url or "", record.endpoint.transport, None).urls[0]
    for _ in range(1 + _MOST_REDIRECTS):
        try:
            async with asyncio.timeout(timeout):
                response = await _send(session, url, request, headers, body)
        except TimeoutError as error:
            detail = f"{record.id} did not begin to answer within {timeout:g} s"
            raise ProblemError(504, "no-answer", detail, id=record.id) from error
        if response.status not in _REDIRECTS and response.status >= 200:
            return response
        response.close()
        if response.status < 200:
            detail = f"{record.id} answered HTTP {response.status}, to which nothing was to switch"
            raise ProblemError(502, "bad-answer", detail, id=record.id)
        target = within_origin(url, response.headers.get("Location", ""))
        if target is None or not body.whole:
            detail = f"{record.id} redirects its MCP endpoint to another address; register that one"
            raise ProblemError(502, "redirected", detail, id=record.id)
        url = target
    detail = f"{record.id} redirects its MCP endpoint again and again; register its last address"
    raise ProblemError(502, "redirected", detail, id=record.id)


async def _send(
    session: aiohttp.ClientSession,
    url: str,
    request: web.Request,
    headers: Mapping[str, str],
    body: ForwardedBody,
) -> aiohttp.ClientResponse:
    try:
        return await session.request(
            request.method,
            url,
            data=body.payload(),
            headers={**headers, **body.headers},
            skip_auto_headers=_NOT_ADDED,
            allow_redirects=False,
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT),
        )
    except aiohttp.ConnectionTimeoutError as error:
        raise ReplicaUnreachableError(
            f"no connection within {_CONNECT_TIMEOUT:g} s", late=True
        ) from error
    except (aiohttp.ClientConnectorError, aiohttp.InvalidURL, AddressRefusedError) as error:
        raise ReplicaUnreachableError(_why(error), late=False) from error
    except (aiohttp.ClientError, OSError) as error:
        if body.fault is not None:
            raise body.fault from error
        detail = (
            "the connection to the server broke before it answered; whether it took the request "
            "in is not known"
        )
        raise ProblemError(502, "broken-off", detail) from error


def _why(error: Exception) -> str:
    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return "no TLS connection can be made with it"
        case aiohttp.ClientConnectorDNSError():
            return "its host name does not resolve"
        case aiohttp.ClientConnectorError(os_error=ConnectionRefusedError()):
            return "connection refused"
        case aiohttp.ClientConnectorError(os_error=cause) if not isinstance(cause, ssl.SSLError):
            return cause.strerror or str(cause)
        case _:
            return str(error)[:200]

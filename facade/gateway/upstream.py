"""One request to one replica, up to the head of its answer."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping

import aiohttp
from aiohttp import web

from mcp_discovery.errors import DiscoveryError
from mcp_discovery.facade.gateway.body import Body
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.probe import AddressRefusedError
from mcp_discovery.probe.endpoint import Endpoint
from mcp_discovery.probe.wire import within_origin
from mcp_discovery.record import Record

#: How many seconds a connection may take to be made.
_CONNECT = 5.0
#: Only what a trailing slash causes is followed: same origin, same method, same body.
_REDIRECTS = frozenset((301, 302, 307, 308))
_MOST_REDIRECTS = 2
#: Headers that aiohttp would add of its own.
_NOT_ADDED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class ReplicaUnreachableError(DiscoveryError):
    """No connection was made, so that nothing of the request has left; ``late`` says that it took
    too long."""

    def __init__(self, why: str, *, late: bool) -> None:
        super().__init__(why)
        self.late = late


async def ask(
    session: aiohttp.ClientSession,
    record: Record,
    request: web.Request,
    headers: Mapping[str, str],
    body: Body,
    timeout: float,
) -> aiohttp.ClientResponse:
    """The server's answer, of which only the head has been read; it is the caller's to close.

    ``timeout`` in seconds is for the answer to begin. Raises :class:`ReplicaUnreachableError`,
    after which another replica may be asked, and :class:`ProblemError`, after which none may: it
    is not known what the server has made of the request.
    """
    url = Endpoint.of(record.endpoint.url or "", record.endpoint.transport, None).urls[0]
    for _ in range(1 + _MOST_REDIRECTS):
        try:
            async with asyncio.timeout(timeout):
                response = await _sent(session, url, request, headers, body)
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


async def _sent(
    session: aiohttp.ClientSession,
    url: str,
    request: web.Request,
    headers: Mapping[str, str],
    body: Body,
) -> aiohttp.ClientResponse:
    try:
        return await session.request(
            request.method,
            url,
            data=body.to_send(),
            headers={**headers, **body.headers},
            skip_auto_headers=_NOT_ADDED,
            allow_redirects=False,
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT),
        )
    except aiohttp.ConnectionTimeoutError as error:
        raise ReplicaUnreachableError(f"no connection within {_CONNECT:g} s", late=True) from error
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

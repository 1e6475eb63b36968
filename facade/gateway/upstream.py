"""One request to one replica: its headers, its body, streamed, and the head of the response."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Container, Iterable, Mapping

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

from mcp_discovery.connection_errors import connection_sentence, is_refused_handshake
from mcp_discovery.errors import DiscoveryError, InvalidInputError
from mcp_discovery.facade.access.audit.calls import PassedCalls
from mcp_discovery.facade.access.tokens import has_own_token
from mcp_discovery.facade.gateway.credentials import NO_CREDENTIALS, KnownCredentials
from mcp_discovery.facade.http.client_address import client_of
from mcp_discovery.facade.http.outbound import MARK
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.facade.http.tracing import REQUEST_ID, request_id
from mcp_discovery.glance import glance
from mcp_discovery.instance import HOLDER_HEADER
from mcp_discovery.probe import AddressRefusedError, ServerTls
from mcp_discovery.probe.tls import REMEDIES
from mcp_discovery.record import Record
from mcp_discovery.urls import resolve_in_origin, urls_of, wire_url

#: The header with a legacy session's id.
SESSION = "Mcp-Session-Id"


#: What the gateway calls itself in ``Via`` (RFC 9110, 7.6.3).
_PSEUDONYM = "mcp-discovery"
#: For one connection only (RFC 9110, 7.6.1), whether ``Connection`` names them or not.
_HOP_BY_HOP = frozenset(
    (
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization"),
        *("proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"),
    )
)
#: The headers of a client that go to the server: what HTTP, MCP and tracing want. Of any other one
#: nobody but its server knows what it is: a credential, or what a proxy says of somebody.
_TO_SERVER = frozenset(
    (
        *("accept", "accept-charset", "accept-encoding", "accept-language", "cache-control"),
        *("content-encoding", "content-language", "content-type", "idempotency-key", "if-match"),
        *("if-modified-since", "if-none-match", "if-unmodified-since", "last-event-id", "origin"),
        *("pragma", "prefer", "priority", "user-agent", "baggage", "traceparent", "tracestate"),
        *("mcp-protocol-version", "mcp-method", "mcp-name"),
    )
)
#: Arguments of tools, which stand in headers besides.
_ARGUMENT = "mcp-param-"
#: What goes to no server, whatever an operator says: what the gateway writes itself, cookies, since
#: all servers share the gateway's origin, and what proxies say of a client (``x-forwarded-…`` and
#: ``proxy-…`` besides), since the client may have written that.
_NOT_TO_SERVER = frozenset(
    (
        *("host", "content-length", "expect", "cookie", "cookie2", "set-cookie", "via"),
        "x-csrf-token",
        *(SESSION.lower(), MARK.lower(), REQUEST_ID.lower(), HOLDER_HEADER.lower()),
        *("forwarded", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "true-client-ip"),
        *("cf-connecting-ip", "fastly-client-ip", "x-original-forwarded-for"),
    )
)
_OF_PROXIES = ("x-forwarded-", "proxy-")
#: Headers not returned to the client: what would count for the gateway's whole origin, and so for
#: other servers and the facade, and what names the server's software. Neither are those of CORS,
#: which the facade sets itself.
_NOT_TO_CLIENT = frozenset(
    (
        *("set-cookie", "set-cookie2", "clear-site-data", "strict-transport-security", "alt-svc"),
        *("service-worker-allowed", "refresh", "nel", "report-to", "reporting-endpoints"),
        *("content-security-policy", "server", "x-powered-by", SESSION.lower()),
    )
)
#: What a server answers with is data: no script in it runs in the gateway's origin.
_DATA = ("Content-Security-Policy", "default-src 'none'; sandbox")
_CORS = "access-control-"
#: aiohttp decodes bytes that are no UTF-8 to surrogates, which it refuses to encode.
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", re.ASCII)
_SURROGATE = re.compile("[\ud800-\udfff]")


def reject_loop(request: web.Request) -> None:
    """Raises :class:`ProblemError` (508) for a request that a gateway has forwarded, or a probe.

    The address of a server in the list may be that of a facade, this one included: such a request
    would go round for ever.
    """
    through = (each.split()[1:2] for each in _listed(request, "Via"))
    if [_PSEUDONYM] in through or MARK in request.headers:
        detail = (
            "this request comes from a facade, and the address of a facade's gateway is no "
            "server's; register the server's own URL"
        )
        raise ProblemError(508, "loop", detail)


def require_passable(names: Iterable[str]) -> frozenset[str]:
    """The ``names`` of headers that an operator has passed on, in lower case; raises
    :class:`InvalidInputError`."""
    found = {name: _wide(name) for name in names}
    for name, low in found.items():
        where = f"--gateway-pass-header {name[:100]!r}"
        if low == "authorization":
            raise InvalidInputError(f"{where}: give --gateway-pass-authorization")
        if low in _HOP_BY_HOP | _NOT_TO_SERVER or low.startswith(_OF_PROXIES):
            raise InvalidInputError(f"{where}: this one goes to no server; name another")
        if _HEADER_NAME.fullmatch(name) is None:
            raise InvalidInputError(f"{where} is no name of a header; write for example X-Tenant")
    return frozenset(map(str.lower, found))


def to_server(
    request: web.Request,
    session: str | None,
    *,
    passed: Container[str] = (),
    authorization: bool,
    plain: bool,
) -> CIMultiDict[str]:
    """The headers for the server; ``session`` is the server's own session id, if there is one.

    Of the client's there are those that every server may have, and those ``passed`` besides, but
    no value with a token of a facade's own; ``Authorization`` where ``authorization`` says so.
    ``plain`` asks for an answer that is not encoded.
    """
    named = _named_in_connection(request.headers)
    forwarded: CIMultiDict[str] = CIMultiDict()
    for name, value in request.headers.items():
        low = name.lower()
        goes = low in _TO_SERVER or low in passed or low.startswith(_ARGUMENT)
        goes |= authorization and low == "authorization"
        is_text = _SURROGATE.search(value) is None
        if goes and is_text and low not in named and not has_own_token(value):
            forwarded.add(name, value)
    if plain:
        forwarded["Accept-Encoding"] = "identity"
        if request.method == "POST":
            forwarded["Content-Type"] = "application/json"
    if session is not None:
        forwarded[SESSION] = session
    if (id := request_id()) is not None:
        forwarded[REQUEST_ID] = id
    version = f"{request.version.major}.{request.version.minor}"
    forwarded["Via"] = ", ".join((*_listed(request, "Via"), f"{version} {_PSEUDONYM}"))
    client = client_of(request)
    if client.hops:
        forwarded["X-Forwarded-For"] = ", ".join(client.hops)
    forwarded["X-Forwarded-Host"], forwarded["X-Forwarded-Proto"] = client.host, client.scheme
    return forwarded


def to_client(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """The headers for the client of a response; that of its session is not among them."""
    dropped = _HOP_BY_HOP | _NOT_TO_CLIENT | _named_in_connection(headers)
    forwarded: CIMultiDict[str] = CIMultiDict(
        (name, value)
        for name, value in headers.items()
        if (low := _wide(name)) not in dropped
        and not low.startswith(_CORS)
        and _SURROGATE.search(value) is None
    )
    forwarded.add(*_DATA)
    return forwarded


def _named_in_connection(headers: Mapping[str, str]) -> frozenset[str]:
    """What ``Connection`` says is for one connection only."""
    return frozenset(each.strip().lower() for each in headers.get("Connection", "").split(","))


def _wide(name: str) -> str:
    """The name as servers may understand it: CGI, and WSGI as it, tell no ``_`` from a ``-``."""
    return name.lower().replace("_", "-")


def _listed(request: web.Request, name: str) -> list[str]:
    whole = ",".join(request.headers.getall(name, ()))
    return [each.strip() for each in whole.split(",") if each.strip()]


#: How many bytes of a body are buffered: nearly every call fits, so that it can be sent again.
_PREFIX_BYTES = 64 * 2**10
#: The largest body that is forwarded, in bytes.
MAX_BODY_BYTES = 64 * 2**20


class ForwardedRequest:
    """A request with its body, whose beginning is buffered and whose rest is streamed.

    ``whole`` says that all of it is buffered; ``fault`` is the error that occurred while streaming;
    ``began`` is when the beginning was there, in seconds of the monotonic clock.
    """

    def __init__(self, request: web.Request, timeout: float) -> None:
        """``timeout`` in seconds bounds the wait for each part of the body."""
        self.request = request
        self.began = 0.0
        self._length = request.content_length
        self._timeout = timeout
        self._prefix = b""
        self.whole = not request.can_read_body
        self.fault: ProblemError | None = None
        #: What is sent in the place of a whole body, if anything: that with the trace's context.
        self.rewritten: bytes | None = None
        #: The calls in it, where they are recorded.
        self.calls: PassedCalls | None = None

    @property
    def prefix(self) -> bytes:
        """What is buffered of the body."""
        return self._prefix

    async def begin(self) -> None:
        """Buffers the beginning; raises :class:`ProblemError` where it is too large or too slow."""
        if (self._length or 0) > MAX_BODY_BYTES:
            raise _too_large()
        while not self.whole and len(self._prefix) < _PREFIX_BYTES:
            part = await self._part()
            self._prefix += part
            self.whole = not part
        self.began = time.monotonic()

    async def read_whole(self, limit: int) -> bytes:
        """All of it; raises :class:`ProblemError` for more than ``limit`` bytes, too."""
        parts, size = [self._prefix], len(self._prefix)
        while not self.whole and size <= limit:
            parts.append(part := await self._part())
            size += len(part)
            self.whole = not part
        self._prefix = b"".join(parts)
        if size > limit:
            raise _too_large(limit)
        return self._prefix

    def drop_body(self) -> None:
        """Sends none."""
        self._prefix, self.rewritten, self.whole = b"", None, True

    def payload(self) -> bytes | AsyncIterator[bytes] | None:
        """The body to send; only a ``whole`` one can be sent twice."""
        if self.whole:
            return (self.rewritten or self._prefix) or None
        return self._parts()

    @property
    def headers(self) -> dict[str, str]:
        """``Content-Length``, where the client sent it."""
        return {} if self.whole or self._length is None else {"Content-Length": str(self._length)}

    @property
    def id(self) -> str | int | None:
        """The id of the JSON-RPC request in it, as far as what is buffered shows it."""
        return glance(self._prefix).request_id

    async def _parts(self) -> AsyncIterator[bytes]:
        yield self._prefix
        sent = len(self._prefix)
        try:
            while part := await self._part():
                sent += len(part)
                if sent > MAX_BODY_BYTES:
                    raise _too_large()
                if self.calls is not None:
                    self.calls.send(part)
                yield part
        except ProblemError as error:
            self.fault = error
            raise

    async def _part(self) -> bytes:
        try:
            async with asyncio.timeout(self._timeout):
                return await self.request.content.readany()
        except TimeoutError as error:
            detail = f"the body did not go on within {self._timeout:g} s; send it again"
            raise ProblemError(408, "slow-body", detail) from error
        except (ConnectionError, web.RequestPayloadError) as error:
            raise ProblemError(
                400, "body-broken-off", f"the body cannot be read: {error}"
            ) from error


def _too_large(limit: int = MAX_BODY_BYTES) -> ProblemError:
    return ProblemError(413, "body-too-large", f"the body is over the limit of {limit:,} bytes")


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
    forwarded: ForwardedRequest,
    headers: CIMultiDict[str],
    timeout: float,
    tls: ServerTls,
    credentials: KnownCredentials = NO_CREDENTIALS,
) -> aiohttp.ClientResponse:
    """The server's response, with only its head read; the caller closes it.

    The ``credentials`` for the server go with the request; where they are refused they are read
    again. ``timeout`` in seconds bounds the wait for the head. Raises
    :class:`ReplicaUnreachableError`, after which another replica may be tried, and
    :class:`ProblemError`, after which none may: the server may have processed the request.
    """
    url = urls_of(record.endpoint.url or "", record.endpoint.transport)[0]
    for _ in range(1 + _MOST_REDIRECTS):
        try:
            async with asyncio.timeout(timeout):
                own = credentials.headers(record.name, url)
                response = await _send(session, url, forwarded, headers, own, tls)
                refused = response.status == 401 and own and forwarded.whole
                # Nothing was done, and another token may have been written meanwhile.
                if refused and credentials.renew(record.name, url):
                    response.close()
                    own = credentials.headers(record.name, url)
                    response = await _send(session, url, forwarded, headers, own, tls)
        except TimeoutError as error:
            detail = f"{record.id} did not begin to answer within {timeout:g} s"
            raise ProblemError(504, "no-answer", detail, id=record.id) from error
        if response.status not in _REDIRECTS and response.status >= 200:
            return response
        response.close()
        if response.status < 200:
            detail = f"{record.id} answered HTTP {response.status}, to which nothing was to switch"
            raise ProblemError(502, "bad-answer", detail, id=record.id)
        target = resolve_in_origin(url, response.headers.get("Location", ""))
        if target is None or not forwarded.whole:
            detail = f"{record.id} redirects its MCP endpoint to another address; register that one"
            raise ProblemError(502, "redirected", detail, id=record.id)
        url = target
    detail = f"{record.id} redirects its MCP endpoint again and again; register its last address"
    raise ProblemError(502, "redirected", detail, id=record.id)


async def _send(
    session: aiohttp.ClientSession,
    url: str,
    forwarded: ForwardedRequest,
    headers: CIMultiDict[str],
    credentials: Mapping[str, str],
    tls: ServerTls,
) -> aiohttp.ClientResponse:
    sent = headers.copy()
    sent.update(credentials)
    sent.update(forwarded.headers)
    try:
        return await session.request(
            forwarded.request.method,
            wire_url(url),
            data=forwarded.payload(),
            headers=sent,
            skip_auto_headers=_NOT_ADDED,
            allow_redirects=False,
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT),
            **tls.options(),
        )
    except aiohttp.ConnectionTimeoutError as error:
        raise ReplicaUnreachableError(
            f"no connection within {_CONNECT_TIMEOUT:g} s", late=True
        ) from error
    except (aiohttp.ClientConnectorError, aiohttp.InvalidURL, AddressRefusedError) as error:
        raise ReplicaUnreachableError(connection_sentence(error, REMEDIES), late=False) from error
    except (aiohttp.ClientError, OSError) as error:
        if is_refused_handshake(error):  # in TLS 1.3 that is heard after the request was sent
            why = connection_sentence(error, REMEDIES)
            raise ReplicaUnreachableError(why, late=False) from error
        if forwarded.fault is not None:
            raise forwarded.fault from error
        detail = (
            "the connection to the server broke before it answered; whether it took the request "
            "in is not known"
        )
        raise ProblemError(502, "broken-off", detail) from error

"""The HTTP client of all stores that use HTTP: one policy for time-outs, TLS and errors."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import orjson

from mcp_discovery.adapters.backoff import Backoff
from mcp_discovery.adapters.store import StoreOptions
from mcp_discovery.bearer_tokens import BearerToken
from mcp_discovery.connection_errors import (
    Remedies,
    causes,
    connection_sentence,
    is_no_connection,
    tls_error,
    wants_tls,
)
from mcp_discovery.errors import (
    StoreFault,
    StoreUnavailableError,
    TokenError,
    UnauthenticatedError,
)
from mcp_discovery.health import utcnow
from mcp_discovery.telemetry import spans
from mcp_discovery.telemetry.conventions import http_answered, http_request
from mcp_discovery.tls_files import TLSFiles

log = logging.getLogger(__name__)

#: A query string's parameters; a sequence where one is repeated.
Params = Mapping[str, str] | Sequence[tuple[str, str]]

#: The largest response in bytes unless the caller gives another limit: several times the size of
#: the largest record or document.
MAX_RESPONSE = 64 * 2**20


#: A pause of more seconds is told.
_SILENT = 2.5
#: The longest time in seconds for which a store's Retry-After is honoured.
_LONGEST_RETRY_AFTER = 30.0


class ResponseTooLargeError(StoreUnavailableError):
    """A response was not read to its end because it is larger than the caller's limit."""


@dataclass(frozen=True, slots=True)
class StoreResponse:
    """A complete HTTP response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The first 300 bytes of the body as text, for messages."""
        return self.body[:300].decode("utf-8", "replace").strip()

    @property
    def retry_after(self) -> float:
        """The seconds that Retry-After asks for (RFC 9110, 10.2.3), at most 30; 0 if none."""
        given = self.headers.get("Retry-After", "").strip()
        if given.isascii() and given.isdigit():
            return min(float(given), _LONGEST_RETRY_AFTER)
        try:
            until = parsedate_to_datetime(given)
        except ValueError:
            return 0.0
        seconds = (until.astimezone(UTC) - utcnow()).total_seconds()
        return min(max(0.0, seconds), _LONGEST_RETRY_AFTER)

    @property
    def is_limited(self) -> bool:
        """Whether it says that there were too many requests or connections."""
        return self.status == 429 or (self.status == 503 and b"rate limit" in self.body[:500])

    def json(self) -> Any:
        """The body as JSON; raises :class:`ValueError` where it is not JSON."""
        return orjson.loads(self.body)


class HttpClient:
    """Requests to one store. ``store`` is its URL for messages; ``sign`` makes the headers that
    carry the token.

    The session is opened by the first request, in its event loop. The number of connections is not
    limited, because each watch keeps one open. A token, CA or client certificate that is rotated
    in its file is used by new requests and connections; one that was refused, with one of the
    statuses ``refusals``, is read or asked for again at once, and where it is another by then, the
    request is sent once more.

    ``is_limited`` says which responses are refusals because of too many requests: these are sent
    again, with growing pauses, as long as their time-out allows. ``remedies`` is what helps where
    no connection can be made, by default that of :func:`remedies_for`.

    Raises :class:`~mcp_discovery.errors.InvalidInputError` for files that cannot be used.
    """

    def __init__(
        self,
        store: str,
        options: StoreOptions,
        sign: Callable[[str], Mapping[str, str]] | None = None,
        *,
        is_limited: Callable[[StoreResponse], bool] = lambda _: False,
        refusals: Collection[int] = (401, 403),
        remedies: Remedies | None = None,
    ) -> None:
        self._store = store
        self._refusals = refusals
        self._remedies = remedies or remedies_for(store)
        self._options = options
        self._is_limited = is_limited
        self._sign = sign or (lambda _: {})
        self._token = BearerToken("store token", options.token, options.token_file)
        self._tls = TLSFiles(options.ca, options.certificate, options.key)
        self._session: aiohttp.ClientSession | None = None
        self._streams: set[aiohttp.ClientResponse] = set()
        self._closed = False

    async def request(
        self,
        method: str,
        url: str,
        *,
        params: Params | None = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        limit: int = MAX_RESPONSE,
    ) -> StoreResponse:
        """The complete response to one request, whatever its status, within ``timeout`` seconds
        (default: that of the options).

        Raises :class:`StoreUnavailableError` when there is no complete response in time, and
        :class:`ResponseTooLargeError` when it is over ``limit`` bytes.
        """
        backoff = Backoff(0.3, 2.0)
        left = timeout if timeout is not None else self._options.timeout
        deadline = time.monotonic() + left
        while True:
            with http_request(method, url, below=True) as span:
                if span.is_recorded:
                    spans.inject(headers := dict(headers or {}))
                async with self.stream(
                    method, url, params=params, data=data, headers=headers, timeout=left
                ) as response:
                    whole = await self.whole(response, limit)
                if whole.status != 404:  # what is not there is often only asked for
                    http_answered(span, whole.status)
            pause = max(backoff.next(), whole.retry_after * random.uniform(1.0, 1.2))
            if not self._is_limited(whole) or time.monotonic() + pause >= deadline:
                return whole
            if pause > _SILENT:
                why = f"too many requests, HTTP {whole.status}"
                log.warning("%s asks to wait %.0f s (%s)", self._store, pause, why)
            await asyncio.sleep(pause)
            left = max(0.1, round(deadline - time.monotonic(), 1))

    async def whole(
        self, response: aiohttp.ClientResponse, limit: int = MAX_RESPONSE
    ) -> StoreResponse:
        """A response with its body. Raises :class:`ResponseTooLargeError`, and
        :class:`StoreUnavailableError` where it says that TLS is spoken there."""
        body = bytearray()
        if (response.content_length or 0) <= limit:
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > limit:
                    break
            else:
                if wants_tls(response.status, body):
                    secure = _secure(self._store.partition(":")[0])
                    why = f"it speaks TLS there; write {secure}://"
                    raise StoreUnavailableError(self._store, why, fault=StoreFault.TLS)
                return StoreResponse(response.status, response.headers, bytes(body))
        response.close()  # otherwise the rest would be read, to reuse the connection
        raise ResponseTooLargeError(self._store, f"its answer is larger than {limit:,} bytes")

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        params: Params | None = None,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        idle: float | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A response whose body is read inside ``async with``.

        ``timeout`` bounds the whole block, in seconds. With ``idle`` it bounds only the wait for
        the headers, and ``idle`` the wait for each next part of a body without an end. Network
        errors inside the block are raised as :class:`StoreUnavailableError` as well.
        """
        limit = timeout if timeout is not None else self._options.timeout
        waited = limit
        # A long ``timeout`` is for the response, not for connecting.
        connect = min(limit, self._options.timeout)
        policy = aiohttp.ClientTimeout(total=None, connect=connect, sock_read=idle)
        try:
            # aiohttp bounds connecting and each read, but not the wait for the headers.
            async with asyncio.timeout(limit) as deadline:
                response = await self._answer(
                    method,
                    url,
                    headers or {},
                    params=params,
                    data=data,
                    timeout=policy,
                    allow_redirects=False,
                )
                if idle is not None:
                    waited = idle
                    deadline.reschedule(None)
                async with response:
                    self._streams.add(response)
                    try:
                        yield response
                    finally:
                        self._streams.discard(response)
        except TimeoutError as error:
            problem = f"no answer within {waited:.3g} s"
            raise StoreUnavailableError(self._store, problem, fault=StoreFault.SILENT) from error
        except TokenError as error:
            kind = UnauthenticatedError if error.denied else StoreUnavailableError
            raise kind(self._store, error.problem) from error
        except (aiohttp.ClientError, OSError, ssl.SSLError) as error:
            problem = self._why(error)
            raise StoreUnavailableError(self._store, problem, fault=fault_of(error)) from error

    async def _answer(
        self, method: str, url: str, headers: Mapping[str, str], **given: Any
    ) -> aiohttp.ClientResponse:
        """The response with the credentials as they are now, or as they are after a refusal."""
        token, tls = await self._token.current(), self._tls.current()
        try:
            response = await self._sent(method, url, headers, token, tls, **given)
        except (aiohttp.ClientError, OSError) as error:
            handshake = tls_error(error) is not None
            if not handshake and not any(isinstance(each, _CLOSED) for each in causes(error)):
                raise
            if (fresh_tls := self._tls.renewed()) is tls or not handshake:
                raise
            return await self._sent(method, url, headers, token, fresh_tls, **given)
        if response.status in self._refusals:
            fresh = await self._token.after_refusal(token)
            if fresh != token:
                response.release()
                return await self._sent(method, url, headers, fresh, tls, **given)
        return response

    async def _sent(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        token: str | None,
        tls: ssl.SSLContext | None,
        **given: Any,
    ) -> aiohttp.ClientResponse:
        signed = {**(self._sign(token) if token else {}), **headers}
        # A connection is used again only by requests with the same TLS context.
        verified = tls if tls is not None else True
        return await self._opened().request(method, url, headers=signed, ssl=verified, **given)

    def _why(self, error: BaseException) -> str:
        return _fault_of_files(error, self._tls) or connection_sentence(error, self._remedies)

    def _opened(self) -> aiohttp.ClientSession:
        if self._closed:
            raise StoreUnavailableError(self._store, "this store object is closed")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar()
            )
        return self._session

    @property
    def token(self) -> str | None:
        """The token that the next request carries, as far as is known before it is sent."""
        return self._token.last

    async def close(self) -> None:
        """Closes every connection; a request in flight raises :class:`StoreUnavailableError`."""
        self._closed = True
        for response in self._streams:
            response.close()  # closing the session alone would not wake its reader
        if self._session is not None:
            await self._session.close()
            # aiohttp closes TLS transports in the next iteration of the loop.
            await asyncio.sleep(0)


#: What a connection ends with whose server does not say why.
_CLOSED = (aiohttp.ServerDisconnectedError, ConnectionResetError)
#: OpenSSL's code for a certificate, or that of its CA, that has expired (x509_vfy.h).
_HAS_EXPIRED = 10


def _fault_of_files(error: BaseException, tls: TLSFiles) -> str | None:
    """What the connection's own files explain of ``error``; ``None`` where it is not them."""
    for cause in causes(error):
        if getattr(cause, "verify_code", None) == _HAS_EXPIRED:
            return tls.expired_ca()
        reason = str(getattr(cause, "reason", None)) if isinstance(cause, ssl.SSLError) else ""
        if "ALERT" in reason or isinstance(cause, _CLOSED):
            # Some servers name another reason, and some close the connection without an alert.
            return tls.client_fault(told="CERTIFICATE_EXPIRED" in reason)
    return None


def remedies_for(store: str, *, facade: bool = False) -> Remedies:
    """What helps where ``store`` cannot be connected to: a store that is given by ``--store``, or a
    ``facade`` by ``--facade``."""
    scheme = store.partition(":")[0]
    plain = "http" if scheme == "https" else scheme.removesuffix("+https")
    # Consul says it in words, and closes a connection without any where it has too many.
    closed = f"if it speaks TLS there, write {_secure(scheme)}://" if scheme == plain else ""
    return Remedies(
        ca="SSL_CERT_FILE" if facade else "--store-ca",
        plain=f"{plain}://",
        certificate="this has none" if facade else "give --store-cert and --store-key",
        refused="is it running, and is the address right?",
        closed="" if scheme == "consul" else closed,
        name="write one that it has",
    )


def _secure(scheme: str) -> str:
    """The scheme of the same store over TLS."""
    return "https" if scheme == "http" else f"{scheme}+https"


def fault_of(error: BaseException) -> StoreFault:
    """What a network error means to operators."""
    if tls_error(error) is not None:
        return StoreFault.TLS
    return StoreFault.UNREACHABLE if is_no_connection(error) else StoreFault.OTHER

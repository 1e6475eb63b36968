"""The HTTP client of all stores that use HTTP: one policy for time-outs, TLS and errors."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from mcp_discovery.adapters.store import StoreOptions
from mcp_discovery.errors import InvalidInputError, StoreUnavailableError

#: A query string's parameters; a sequence where one is repeated.
Params = Mapping[str, str] | Sequence[tuple[str, str]]

#: The largest response in bytes unless the caller gives another limit: several times the size of
#: the largest record or document.
MAX_RESPONSE = 64 * 2**20


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

    def json(self) -> Any:
        """The body as JSON; raises :class:`ValueError` where it is not JSON."""
        return orjson.loads(self.body)


class HttpClient:
    """Requests to one store. ``store`` is its URL for messages.

    The session is opened by the first request, in its event loop. The number of connections is not
    limited, because each watch keeps one open.
    """

    def __init__(
        self, store: str, options: StoreOptions, headers: Mapping[str, str] | None = None
    ) -> None:
        self._store = store
        self._options = options
        self._headers = dict(headers or {})
        self._tls = tls_context(options)
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
        async with self.stream(
            method, url, params=params, data=data, headers=headers, timeout=timeout
        ) as response:
            body = bytearray()
            if (response.content_length or 0) <= limit:
                async for chunk in response.content.iter_any():
                    body += chunk
                    if len(body) > limit:
                        break
                else:
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
                response = await self._opened().request(
                    method,
                    url,
                    params=params,
                    data=data,
                    headers=headers,
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
            raise StoreUnavailableError(self._store, f"no answer within {waited:g} s") from error
        except (aiohttp.ClientError, OSError, ssl.SSLError) as error:
            raise StoreUnavailableError(self._store, describe(error)) from error

    def _opened(self) -> aiohttp.ClientSession:
        if self._closed:
            raise StoreUnavailableError(self._store, "this store object is closed")
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, ssl=self._tls if self._tls else True)
            self._session = aiohttp.ClientSession(
                connector=connector, headers=self._headers, cookie_jar=aiohttp.DummyCookieJar()
            )
        return self._session

    async def close(self) -> None:
        """Closes every connection; a request in flight raises :class:`StoreUnavailableError`."""
        self._closed = True
        for response in self._streams:
            response.close()  # closing the session alone would not wake its reader
        if self._session is not None:
            await self._session.close()
            # aiohttp closes TLS transports in the next iteration of the loop.
            await asyncio.sleep(0)


def tls_context(options: StoreOptions) -> ssl.SSLContext | None:
    """The TLS context for ``options``; ``None`` for the system's defaults.

    Raises :class:`~mcp_discovery.errors.InvalidInputError` when a file cannot be used.
    """
    if not (options.ca or options.certificate or options.key):
        return None
    if bool(options.certificate) != bool(options.key):
        raise InvalidInputError(
            "a client certificate needs its key, and a key its certificate: give both"
        )
    try:
        context = ssl.create_default_context(cafile=options.ca)
        if options.certificate:
            context.load_cert_chain(options.certificate, options.key)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(f for f in (options.ca, options.certificate, options.key) if f)
        raise InvalidInputError(f"cannot use the TLS files {files}: {error}") from error
    return context


#: TLS alerts of a server (RFC 8446, section 6.2). Some servers send only the last one.
_ALERTS = {
    "CERTIFICATE_REQUIRED": "it wants a client certificate; give one and its key as options",
    "CERTIFICATE_EXPIRED": "it says that the client certificate has expired; renew it",
    "UNKNOWN_CA": "it does not know the CA of the client certificate; give one that it trusts",
    "BAD_CERTIFICATE": "it refuses the client certificate, or wants one and got none",
}


def describe(error: BaseException) -> str:
    """A network error as a phrase for messages."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConnectionRefusedError):
            return "connection refused; is it running, and is the address right?"
        if isinstance(cause, ssl.SSLCertVerificationError):
            # aiohttp's own error is of this type as well, and wraps the one with the message.
            fault = getattr(cause, "certificate_error", cause)
            return f"its certificate is not trusted: {getattr(fault, 'verify_message', fault)}"
        if isinstance(cause, ssl.SSLError):
            for alert, sentence in _ALERTS.items():
                if alert in (cause.reason or ""):
                    return sentence
        cause = cause.__cause__ or getattr(cause, "os_error", None)
    return str(error) or type(error).__name__

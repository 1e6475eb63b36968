"""What every transport offers the probe, and what they share in dealing with sockets."""

from __future__ import annotations

import errno
import ssl
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

import aiohttp
from yarl import URL

from mcp_discovery.probe.errors import AddressRefusedError, BadAnswerError, UnreachableError
from mcp_discovery.probe.limits import Budget
from mcp_discovery.probe.messages import McpAnswer, McpCall

# The probe's own deadlines bound every exchange; aiohttp's default total of 300 s would cut
# streams that are meant to stay open.
UNBOUNDED = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)

# Compression would only cost both ends time on loopback, and hides the size of an answer.
PLAIN = {"Accept-Encoding": "identity"}

_ERRNO_SENTENCES = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset by the server",
    errno.EPIPE: "connection reset by the server",
    errno.EHOSTUNREACH: "no route to the host",
    errno.ENETUNREACH: "no route to the network",
    errno.ETIMEDOUT: "connection attempt timed out",
}


class Wire(Protocol):
    """One MCP endpoint over one transport."""

    url: str

    @property
    def has_session(self) -> bool:
        """Whether the server remembers this probe between requests."""

    async def open(self) -> None:
        """Begin anew: forget any session and connect where the transport has a connection."""

    async def ask(self, call: McpCall, budget: Budget, known: bytes | None = None) -> McpAnswer:
        """Send ``call`` and return its answer; an answer of digest ``known`` is not decoded.

        Raises UnreachableError or BadAnswerError; the caller sets the deadline.
        """

    async def notify(self, body: bytes, headers: Mapping[str, str]) -> None:
        """Send a notification or a response, for which no answer is due."""

    def listen(
        self, headers: Mapping[str, str], call: McpCall | None
    ) -> AsyncGenerator[bytes, None]:
        """Yield messages that the server sends by itself until their stream ends.

        ``call`` is the request that opens the stream where one is needed. Raises as ``ask``.
        """

    async def close(self) -> None:
        """Let go of the session and of connections, best effort and within a second."""


@contextmanager
def socket_errors() -> Iterator[None]:
    """Turn aiohttp's and the socket's errors into UnreachableError or BadAnswerError."""
    try:
        yield
    except (aiohttp.ClientError, OSError, ssl.SSLError) as error:
        if isinstance(error, TimeoutError) and error.errno is None:
            raise  # a deadline of ours, not the socket's
        raise _translated(error) from error


def _translated(error: Exception) -> UnreachableError | BadAnswerError:
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return UnreachableError("the TLS certificate is not trusted")
        case aiohttp.ClientConnectorSSLError() | ssl.SSLError():
            return UnreachableError("the TLS handshake failed")
        case aiohttp.ClientConnectorError(os_error=AddressRefusedError() as refusal):
            return UnreachableError(str(refusal))
        case aiohttp.ClientConnectorDNSError():
            return UnreachableError("the host name does not resolve")
        case aiohttp.ClientConnectorError():
            return UnreachableError(_ERRNO_SENTENCES.get(error.errno or 0, "connection failed"))
        case aiohttp.ServerDisconnectedError():
            return UnreachableError(
                "the server closed the connection without an answer", was_connected=True
            )
        case aiohttp.ClientPayloadError():
            return UnreachableError("the answer broke off", was_connected=True)
        case aiohttp.WSServerHandshakeError():
            return BadAnswerError(
                f"HTTP {error.status} instead of a WebSocket handshake", status=error.status
            )
        case aiohttp.ClientResponseError():
            return BadAnswerError("answered, but not HTTP")
        case OSError():
            reason = _ERRNO_SENTENCES.get(error.errno or 0, "the connection broke")
            return UnreachableError(reason, was_connected=True)
        case _:
            return UnreachableError("connection failed")


async def read_whole(response: aiohttp.ClientResponse, budget: Budget) -> bytes:
    """Return the body of ``response``; raises BadAnswerError as soon as it exceeds ``budget``."""
    if response.content_length is not None and response.content_length > budget.bytes_left:
        budget.take_bytes(response.content_length)
    chunks: list[bytes] = []
    async for chunk in response.content.iter_any():
        budget.take_bytes(len(chunk))
        chunks.append(chunk)
    return b"".join(chunks)


async def read_beginning(response: aiohttp.ClientResponse, size: int = 65_536) -> bytes:
    """Return the beginning of an error's body, at most about ``size`` bytes."""
    chunks: list[bytes] = []
    async for chunk in response.content.iter_any():
        chunks.append(chunk)
        size -= len(chunk)
        if size <= 0:
            break
    return b"".join(chunks)


def within_origin(base: str, reference: str) -> str | None:
    """Resolve ``reference`` against ``base``; None when it leaves the origin or is no URL."""
    try:
        target = URL(base).join(URL(reference))
        return str(target) if target.origin() == URL(base).origin() else None
    except ValueError:
        return None

"""Requests to an authorization server: small JSON, bounded, never redirected."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson

from mcp_discovery.connection_errors import Remedies, connection_sentence
from mcp_discovery.errors import TokenError

#: Seconds for one request, and the most bytes of an answer.
_TIMEOUT, _MOST = 15.0, 2**20
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_REMEDIES = Remedies(
    ca="SSL_CERT_FILE",
    plain="http://",
    certificate="this has none",
    refused="is it running, and is its address right?",
    closed="if it speaks TLS there, write https://",
    name="write one that it has",
)


@dataclass(frozen=True, slots=True)
class OAuthAnswer:
    """An answer: its status, and its JSON object, which is empty where it is none."""

    status: int
    content: Mapping[str, Any]

    def text(self, name: str) -> str | None:
        """A member that is text; ``None`` where there is no such."""
        found = self.content.get(name)
        return found if isinstance(found, str) and found else None

    def words(self, name: str) -> tuple[str, ...]:
        """A member that is a list of text."""
        found = self.content.get(name)
        listed = found if isinstance(found, list) else []
        return tuple(each for each in listed if isinstance(each, str))

    def seconds(self, name: str) -> float | None:
        """A member that is a number above 0; some servers quote it."""
        try:
            found = float(self.content[name])
        except (KeyError, TypeError, ValueError):
            return None
        return found if 0 < found < 1e10 else None


async def ask(
    method: str,
    url: str,
    form: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> OAuthAnswer:
    """The answer to one request; raises :class:`TokenError` where there is none.

    A redirect is an answer without content: a secret goes to the address that was named alone.
    """
    session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
    try:
        async with (
            asyncio.timeout(_TIMEOUT),
            session,
            session.request(
                method,
                url,
                data=form,
                headers={"Accept": "application/json", **(headers or {})},
                allow_redirects=False,
            ) as response,
        ):
            body = await response.content.read(_MOST)
            while not response.content.at_eof() and len(body) < _MOST:
                body += await response.content.read(_MOST - len(body))
            status = response.status
    except TimeoutError as error:
        raise TokenError(f"{_shown(url)} did not answer within {_TIMEOUT:g} s") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        why = connection_sentence(error, _REMEDIES)
        raise TokenError(f"{_shown(url)} cannot be asked: {why}") from error
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        content = None
    return OAuthAnswer(status, content if isinstance(content, dict) else {})


def is_protected(url: str) -> bool:
    """Whether what is sent to ``url`` can be read by nobody else: TLS, or this machine."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return bool(parts.hostname) and (
        parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
    )


def _shown(url: str) -> str:
    """``url`` for messages, without what may be a secret in its query."""
    return url.partition("?")[0][:300]

"""Asking a plain HTTP health endpoint whether it is well."""

from __future__ import annotations

import asyncio

import aiohttp

from mcp_discovery.probe.errors import NoAnswerError, NotOkError
from mcp_discovery.probe.wire import PLAIN, UNBOUNDED, socket_errors


async def probe_health_url(session: aiohttp.ClientSession, url: str, timeout: float) -> float:
    """GET ``url`` and return how many seconds the answer took; its body is not read.

    Raises NotOkError when the status is not 2xx (redirects are not followed), UnreachableError
    without a connection, and NoAnswerError after ``timeout`` seconds.
    """
    loop = asyncio.get_running_loop()
    started = loop.time()
    try:
        with socket_errors():
            async with (
                asyncio.timeout(timeout),
                session.get(
                    url, headers=PLAIN, timeout=UNBOUNDED, allow_redirects=False
                ) as response,
            ):
                if not 200 <= response.status < 300:
                    raise NotOkError(response.status)
                return loop.time() - started
    except TimeoutError as error:
        raise NoAnswerError(timeout) from error

"""Answers of servers to callers that may see a part of them: read, filtered and written anew."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp

from mcp_discovery.errors import DiscoveryError
from mcp_discovery.facade.access.calling import PartialAccess
from mcp_discovery.facade.gateway.restriction import filtered
from mcp_discovery.mcp_messages import encoded, parsed

#: The largest answer, and the largest event of a stream, in bytes.
_LARGEST = 16 * 2**20
#: An answer of so many bytes is read beside the event loop.
_LARGE = 256 * 2**10
_JSON, _EVENTS = "application/json", "text/event-stream"
_LINE_END = re.compile(rb"\r\n|\n|\r")
_EVENT_END = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r(?!\n))")


class UnfilterableAnswerError(DiscoveryError):
    """An answer of which it cannot be said what the caller may see; ``str()`` says why."""


def is_stream(response: aiohttp.ClientResponse) -> bool:
    """Whether ``response`` is a stream of events."""
    return response.content_type == _EVENTS


async def filtered_parts(
    response: aiohttp.ClientResponse, access: PartialAccess
) -> AsyncIterator[bytes]:
    """The body of ``response``, with no more than ``access`` allows; an event at a time.

    Raises :class:`UnfilterableAnswerError`, for an answer that is no stream at its beginning.
    """
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnfilterableAnswerError("its answer is encoded, which nobody asked for")
    if is_stream(response):
        async for event in _events(response):
            if part := await _in_part(event, access, _filtered_event):
                yield part
        return
    whole = bytearray()
    async for chunk in response.content.iter_any():
        whole += chunk
        if len(whole) > _LARGEST:
            raise UnfilterableAnswerError(f"its answer is over the limit of {_LARGEST:,} bytes")
    if whole.strip():
        is_message = response.status < 300 and response.content_type == _JSON
        try:
            part = await _in_part(bytes(whole), access, _filtered_body)
        except UnfilterableAnswerError:
            if is_message:
                raise
            part = bytes(whole)  # what some component says in place of the server: no message
        if part:
            yield part


async def _in_part(
    data: bytes, access: PartialAccess, change: Callable[[bytes, PartialAccess], bytes]
) -> bytes:
    if len(data) < _LARGE:
        return change(data, access)
    return await asyncio.to_thread(change, data, access)


def _filtered_body(body: bytes, access: PartialAccess) -> bytes:
    message = _message(body)
    kept = filtered(message, access)
    return body if kept is message else b"" if kept is None else encoded(kept)


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Each event with the blank line behind it, as it is written."""
    buffer = bytearray()
    scanned = 0
    async for part in response.content.iter_any():
        buffer += part
        start = 0
        while end := _EVENT_END.search(buffer, max(start, scanned - 3)):
            yield bytes(buffer[start : end.end()])
            start = scanned = end.end()
        del buffer[:start]
        scanned = len(buffer)
        if scanned > _LARGEST:
            raise UnfilterableAnswerError(f"an event is over the limit of {_LARGEST:,} bytes")
    if buffer:
        yield bytes(buffer)


def _filtered_event(event: bytes, access: PartialAccess) -> bytes:
    lines = _LINE_END.split(event)
    values = [value for line in lines if (value := _data(line)) is not None]
    data = b"\n".join(values)
    if not data.strip():
        return event
    message = _message(data)
    kept = filtered(message, access)
    if kept is message:
        return event
    others = [line for line in lines if line and _data(line) is None]
    if kept is None:  # its id counts all the same: a client resumes behind it
        others = [line for line in others if not line.startswith(b"event")]
    else:
        others.append(b"data: " + encoded(kept))
    return b"".join(line + b"\n" for line in (*others, b""))


def _data(line: bytes) -> bytes | None:
    name, _, value = line.partition(b":")
    return value.removeprefix(b" ") if name.removeprefix(b"\xef\xbb\xbf") == b"data" else None


def _message(data: bytes) -> Any:
    try:
        return parsed(data)
    except ValueError as error:
        raise UnfilterableAnswerError("its answer is not JSON") from error

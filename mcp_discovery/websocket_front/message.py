"""The messages that clients send in frames, and how large they may be."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from mcp_discovery.json_values import count_values
from mcp_discovery.mcp_messages import (
    INVALID_REQUEST,
    PARSE_ERROR,
    VERSION,
    Id,
    JsonRpcError,
    parsed,
    routing_headers,
)

#: The largest message, in bytes, either way.
LARGEST: Final = 64 * 2**20
#: A message over so many bytes is parsed beside the event loop, and may have so many JSON values,
#: which take memory each.
LARGE, _MOST_VALUES = 64 * 2**10, 1_000_000


class SocketMessage(NamedTuple):
    """A message of a client, as it came; ``method`` is ``None`` for a response."""

    data: bytes
    id: Id | None
    method: str | None
    params: Mapping[str, Any]
    headers: dict[str, str]

    @property
    def is_modern(self) -> bool:
        """Whether it is a request of the modern era."""
        return VERSION in self.headers


async def read(data: bytes) -> SocketMessage:
    """The message in ``data``; raises :class:`JsonRpcError` where there is none."""
    value = _checked(data) if len(data) <= LARGE else await asyncio.to_thread(_checked, data)
    if isinstance(value, list):
        raise JsonRpcError(INVALID_REQUEST, "Invalid request: send each message in its own frame")
    if isinstance(value, dict):
        id, method = value.get("id"), value.get("method")
        params = value.get("params") or {}
        fit = isinstance(id, str | int) and not isinstance(id, bool)
        if method is None and ("result" in value or "error" in value):
            return SocketMessage(data, None, None, {}, {})
        if isinstance(method, str) and isinstance(params, dict) and (fit or "id" not in value):
            return SocketMessage(data, id, method, params, routing_headers(method, params))
    raise JsonRpcError(INVALID_REQUEST, "Invalid request: a frame is one JSON-RPC 2.0 message")


def _checked(data: bytes) -> Any:
    if len(data) > LARGE and count_values(data, _MOST_VALUES) > _MOST_VALUES:
        detail = f"the message has more than {_MOST_VALUES:,} JSON values; send it by POST"
        raise JsonRpcError(INVALID_REQUEST, detail)
    try:
        return parsed(data)
    except ValueError as error:
        raise JsonRpcError(PARSE_ERROR, "Parse error: the frame is not JSON") from error

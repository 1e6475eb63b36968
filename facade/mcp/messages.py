"""MCP's protocol versions, and its JSON-RPC messages and error codes.

https://modelcontextprotocol.io/specification/2025-11-25/basic and …/2026-07-28/basic
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import orjson

from mcp_discovery.errors import DiscoveryError

#: The legacy versions, which begin with ``initialize`` and keep a session; the latest is last.
LEGACY: Final = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
#: The modern version, in which every request stands for itself.
MODERN: Final = "2026-07-28"
#: The only version whose clients may send several messages in one body.
BATCHING: Final = "2025-03-26"

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
#: Legacy only; a modern client gets INVALID_PARAMS.
RESOURCE_NOT_FOUND: Final = -32002
HEADER_MISMATCH: Final = -32020
UNSUPPORTED_VERSION: Final = -32022
#: What the MCP SDK answers to a legacy request that was cancelled: its HTTP response must end.
CANCELLED: Final = -32800

#: The HTTP statuses of modern errors; an error that is not listed has 200.
STATUSES: Final[Mapping[int, int]] = {
    PARSE_ERROR: 400,
    INVALID_REQUEST: 400,
    INVALID_PARAMS: 400,
    HEADER_MISMATCH: 400,
    UNSUPPORTED_VERSION: 400,
    METHOD_NOT_FOUND: 404,
}

Id: TypeAlias = str | int


class JsonRpcError(DiscoveryError):
    """A JSON-RPC error to answer with; ``status`` is the HTTP status where the code has none."""

    def __init__(self, code: int, message: str, data: Any = None, status: int = 200) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data
        self.status = status

    def as_dict(self) -> dict[str, Any]:
        """The ``error`` member."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        return error if self.data is None else error | {"data": self.data}


@dataclass(frozen=True, slots=True)
class RpcRequest:
    """A request, or (``id`` is ``None``) a notification."""

    id: Id | None
    method: str
    params: Mapping[str, Any]

    @property
    def meta(self) -> Mapping[str, Any]:
        """``params._meta``, empty where there is none."""
        meta = self.params.get("_meta")
        return meta if isinstance(meta, dict) else {}

    @property
    def progress_token(self) -> Id | None:
        """The token that the client wants in its progress notifications."""
        token = self.meta.get("progressToken")
        return token if isinstance(token, str | int) and not isinstance(token, bool) else None

    def text(self, name: str) -> str:
        """A parameter that must be a string; raises :class:`JsonRpcError`."""
        value = self.params.get(name)
        if not isinstance(value, str):
            raise JsonRpcError(INVALID_PARAMS, f"{self.method} needs params.{name}, a string")
        return value

    def object(self, name: str) -> Mapping[str, Any]:
        """A parameter that must be an object where it is given; raises :class:`JsonRpcError`."""
        value = self.params.get(name)
        if value is not None and not isinstance(value, dict):
            raise JsonRpcError(INVALID_PARAMS, f"params.{name} of {self.method} must be an object")
        return value or {}


@dataclass(frozen=True, slots=True)
class RpcResponse:
    """A client's response to a request of this server, which sends none: it is ignored."""


Message: TypeAlias = RpcRequest | RpcResponse


def decoded(body: bytes) -> Any:
    """The JSON in ``body``; raises :class:`JsonRpcError`."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise JsonRpcError(
            PARSE_ERROR, f"Parse error: the body is not JSON ({error})", status=400
        ) from error


def message_of(value: Any) -> Message:
    """``value`` as one message; raises :class:`JsonRpcError` where it is none."""
    if isinstance(value, dict) and value.get("jsonrpc") == "2.0":
        id, method, params = value.get("id"), value.get("method"), value.get("params")
        fit = isinstance(id, str | int) and not isinstance(id, bool)
        if (
            isinstance(method, str)
            and isinstance(params, dict | None)
            and (fit or "id" not in value)
        ):
            return RpcRequest(id, method, params or {})
        if method is None and ("error" in value or (fit and isinstance(value.get("result"), dict))):
            return RpcResponse()
    raise JsonRpcError(
        INVALID_REQUEST,
        "Invalid request: the body must be one JSON-RPC 2.0 request, notification or response",
        status=400,
    )


def result(id: Id, content: Mapping[str, Any]) -> dict[str, Any]:
    """The response with a result to the request ``id``."""
    return {"jsonrpc": "2.0", "id": id, "result": content}


def failure(id: Id | None, fault: JsonRpcError) -> dict[str, Any]:
    """The response with an error to the request ``id``; ``None`` where that is not known."""
    return {"jsonrpc": "2.0", "id": id, "error": fault.as_dict()}


def notification(method: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A notification to a client."""
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
    return message if params is None else message | {"params": params}


def encoded(message: Any) -> bytes:
    """A message, or a batch of them, as JSON."""
    return orjson.dumps(message, default=dict)


def framed(message: Any) -> bytes:
    """A message as one server-sent event."""
    return b"event: message\ndata: %b\n\n" % encoded(message)

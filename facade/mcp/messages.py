"""JSON-RPC as MCP uses it: versions, codes, what comes in and what goes out.

https://modelcontextprotocol.io/specification/2025-11-25/basic and …/2026-07-28/basic
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import orjson

from mcp_discovery.errors import DiscoveryError

#: The versions that begin with ``initialize`` and keep a session.
LEGACY: Final = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
#: The version in which each request stands for itself.
MODERN: Final = "2026-07-28"
#: The version a client speaks that names none in its header.
UNNAMED: Final = "2025-03-26"
#: The only version whose clients may send several messages in one body.
BATCHING: Final = "2025-03-26"

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
#: Legacy only; a modern client is told INVALID_PARAMS.
RESOURCE_NOT_FOUND: Final = -32002
HEADER_MISMATCH: Final = -32020
UNSUPPORTED_VERSION: Final = -32022
#: What the MCP SDK answers to a legacy request that was cancelled: its HTTP response must end.
CANCELLED: Final = -32800

#: HTTP statuses of errors in the modern era; an error that is not here is told with 200.
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
        told: dict[str, Any] = {"code": self.code, "message": self.message}
        return told if self.data is None else told | {"data": self.data}


@dataclass(frozen=True, slots=True)
class Request:
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
        """What the client wants its progress to be told under."""
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
class Reply:
    """A client's answer to a request of ours; there are none, so it means nothing."""


Message: TypeAlias = Request | Reply


def decoded(body: bytes) -> Any:
    """The JSON in ``body``; raises :class:`JsonRpcError`."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise JsonRpcError(
            PARSE_ERROR, f"Parse error: the body is not JSON ({error})", status=400
        ) from (error)


def message_of(value: Any) -> Message:
    """One message; raises :class:`JsonRpcError` for what is none."""
    if isinstance(value, dict) and value.get("jsonrpc") == "2.0":
        id, method, params = value.get("id"), value.get("method"), value.get("params")
        fit = isinstance(id, str | int) and not isinstance(id, bool)
        if (
            isinstance(method, str)
            and isinstance(params, dict | None)
            and (fit or "id" not in value)
        ):
            return Request(id, method, params or {})
        if method is None and ("error" in value or (fit and isinstance(value.get("result"), dict))):
            return Reply()
    raise JsonRpcError(
        INVALID_REQUEST,
        "Invalid request: the body must be one JSON-RPC 2.0 request, notification or response",
        status=400,
    )


def result(id: Id, content: Mapping[str, Any]) -> dict[str, Any]:
    """A good answer to the request ``id``."""
    return {"jsonrpc": "2.0", "id": id, "result": content}


def failure(id: Id | None, fault: JsonRpcError) -> dict[str, Any]:
    """An error in answer to the request ``id``; ``None`` where it is not known."""
    return {"jsonrpc": "2.0", "id": id, "error": fault.as_dict()}


def notification(method: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A notification to a client."""
    told: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
    return told if params is None else told | {"params": params}


def encoded(message: Any) -> bytes:
    """A message, or a batch of them, as JSON."""
    return orjson.dumps(message, default=dict)


def framed(message: Any) -> bytes:
    """A message as one server-sent event."""
    return b"event: message\ndata: %b\n\n" % encoded(message)

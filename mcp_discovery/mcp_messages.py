"""MCP's protocol versions, its JSON-RPC messages, and the checks of requests to ``/mcp``.

https://modelcontextprotocol.io/specification/2025-11-25/basic and …/2026-07-28/basic
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import orjson

from mcp_discovery.errors import DiscoveryError

if TYPE_CHECKING:
    from aiohttp import web  # agents' library, which reads messages, does without

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

#: What may be an integer of more than 64 bits, and how many bytes of a text are searched for it.
_LARGE_INTEGER: Final = re.compile(rb"[0-9]{19}")
_LOOKED_THROUGH: Final = 64 * 2**10


class JsonRpcError(DiscoveryError):
    """A JSON-RPC error to answer with; ``status`` is that of HTTP, ``None``: that of its code."""

    def __init__(
        self, code: int, message: str, data: Any = None, status: int | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data
        self.status = status

    @property
    def modern_status(self) -> int:
        """The HTTP status for a modern client."""
        return STATUSES.get(self.code, 200) if self.status is None else self.status


class RpcRequest(NamedTuple):
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


def parsed(text: bytes) -> Any:
    """The JSON in ``text``; raises :class:`orjson.JSONDecodeError`.

    An integer of more than 64 bits, which orjson makes a float, stays one in all but long texts.
    """
    value = orjson.loads(text)
    if len(text) <= _LOOKED_THROUGH and _LARGE_INTEGER.search(text):
        with suppress(ValueError, RecursionError):
            return json.loads(text)
    return value


def decoded(body: bytes) -> Any:
    """The JSON in ``body``; raises :class:`JsonRpcError`."""
    try:
        return parsed(body)
    except orjson.JSONDecodeError as error:
        raise JsonRpcError(
            PARSE_ERROR, f"Parse error: the body is not JSON ({error})", status=400
        ) from error


def message_of(value: Any) -> RpcRequest | None:
    """``value`` as one message; raises :class:`JsonRpcError` where it is none.

    ``None`` is a client's response to a request of this server, which sends none: it is ignored.
    """
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
            return None
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
    error = {"code": fault.code, "message": fault.message}
    if fault.data is not None:
        error["data"] = fault.data
    return {"jsonrpc": "2.0", "id": id, "error": error}


def error_of(error: Any) -> JsonRpcError:
    """What another's message has as its ``error``, with what it lacks put in."""
    if not isinstance(error, dict):
        return JsonRpcError(INTERNAL_ERROR, str(error))
    code, message = error.get("code"), error.get("message")
    return JsonRpcError(
        code if type(code) is int else INTERNAL_ERROR,
        message if isinstance(message, str) else "",
        error.get("data"),
    )


def notification(method: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A notification to a client."""
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
    return message if params is None else message | {"params": params}


def encoded(message: Any) -> bytes:
    """A message, or a batch of them, as JSON.

    An error in the place of a response that is nested too deeply; raises :class:`JsonRpcError` for
    any other message that is.
    """
    try:
        return orjson.dumps(message, default=dict)
    except orjson.JSONEncodeError:  # an integer of more than 64 bits, or half a character
        try:
            return json.dumps(message, default=dict).encode()
        except RecursionError:
            fault = JsonRpcError(INTERNAL_ERROR, "the message is nested too deeply")
            if isinstance(message, dict) and "method" not in message:
                return encoded(failure(message.get("id"), fault))
            raise fault from None


def framed(message: Any) -> bytes:
    """A message as one server-sent event."""
    return b"event: message\ndata: %b\n\n" % encoded(message)


VERSION: Final = "MCP-Protocol-Version"
SESSION: Final = "Mcp-Session-Id"
_METHOD: Final = "Mcp-Method"
_NAME: Final = "Mcp-Name"
_JSON, _EVENTS = "application/json", "text/event-stream"

VERSION_KEY: Final = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES_KEY: Final = "io.modelcontextprotocol/clientCapabilities"
CLIENT_INFO_KEY: Final = "io.modelcontextprotocol/clientInfo"
SERVER_INFO_KEY: Final = "io.modelcontextprotocol/serverInfo"
SUBSCRIPTION_KEY: Final = "io.modelcontextprotocol/subscriptionId"
LOG_LEVEL_KEY: Final = "io.modelcontextprotocol/logLevel"

#: Method → the parameter that ``Mcp-Name`` repeats.
_NAMED: Final[Mapping[str, str]] = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
}
_PLAIN = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_BASE64 = re.compile(r"=\?base64\?(?P<payload>.*)\?=")


def accepts(request: web.Request) -> tuple[bool, bool]:
    """Whether the client accepts JSON, and whether it accepts event streams (RFC 9110, 12.5.1)."""
    return _accepted(",".join(request.headers.getall("Accept", [])))


@lru_cache(64)
def _accepted(header: str) -> tuple[bool, bool]:
    header = header.lower()
    types = {each.partition(";")[0].strip() for each in header.split(",")}
    anything = "*/*" in types
    return (
        anything or not types.isdisjoint((_JSON, "application/*")),
        anything or not types.isdisjoint((_EVENTS, "text/*")),
    )


def negotiated_version(rpc: RpcRequest) -> str:
    """The version to speak with the client of an ``initialize``; raises :class:`JsonRpcError`.

    The requested one where this server knows it, else the latest legacy version.
    """
    requested = rpc.text("protocolVersion")
    for name in ("capabilities", "clientInfo"):
        if name not in rpc.params:
            raise JsonRpcError(INVALID_PARAMS, f"initialize needs params.{name}, an object")
        rpc.object(name)
    return requested if requested in LEGACY else LEGACY[-1]


def check_posted(request: web.Request) -> None:
    """Raises :class:`JsonRpcError` (406, 415) unless the body is JSON and JSON is accepted."""
    if not accepts(request)[0]:
        detail = "Not acceptable: send Accept: application/json, text/event-stream"
        raise JsonRpcError(INVALID_REQUEST, detail, status=406)
    if request.content_type != _JSON:
        detail = "Unsupported media type: send Content-Type: application/json"
        raise JsonRpcError(INVALID_REQUEST, detail, status=415)


def check_event_stream(request: web.Request) -> None:
    """Raises :class:`JsonRpcError` (406) unless the client accepts an event stream."""
    if not accepts(request)[1]:
        detail = f"Not acceptable: this is answered with a stream; send Accept: {_EVENTS}"
        raise JsonRpcError(INVALID_REQUEST, detail, status=406)


def is_modern(request: web.Request) -> bool:
    """Whether the version header names no legacy version; without the header it is legacy."""
    version = request.headers.get(VERSION)
    return version is not None and version not in LEGACY


def only_listens(request: web.Request) -> bool:
    """Whether ``request`` waits for what happens, legacy or modern, and not for an answer."""
    return request.method == "GET" or request.headers.get("Mcp-Method") == "subscriptions/listen"


def check_version(request: web.Request, supported: Collection[str] = (MODERN,)) -> None:
    """Raises :class:`JsonRpcError` (400) unless the header names a version of ``supported``."""
    requested = request.headers.get(VERSION, "")
    if requested not in supported:
        raise _unsupported(requested, supported)


def check_envelope(
    request: web.Request, rpc: RpcRequest, supported: Collection[str] = (MODERN,)
) -> None:
    """Raises :class:`JsonRpcError` (400) unless a modern request's body and headers agree, and its
    version is one of ``supported``.

    https://modelcontextprotocol.io/specification/2026-07-28/basic/transports/streamable-http
    """
    for name in (VERSION, _METHOD, _NAME):
        if len(request.headers.getall(name, [])) > 1:
            raise JsonRpcError(HEADER_MISMATCH, f"the header {name} appears more than once")
    meta: Any = rpc.params.get("_meta")
    if not isinstance(meta, dict):
        detail = f"params._meta must be an object with {VERSION_KEY!r} and {CAPABILITIES_KEY!r}"
        raise JsonRpcError(INVALID_PARAMS, detail)
    if missing := [key for key in (VERSION_KEY, CAPABILITIES_KEY) if key not in meta]:
        raise JsonRpcError(INVALID_PARAMS, f"params._meta lacks {' and '.join(map(repr, missing))}")
    version = meta[VERSION_KEY]
    if request.headers.get(VERSION) != version:
        raise JsonRpcError(
            HEADER_MISMATCH, f"the header {VERSION} is not the version in params._meta"
        )
    if request.headers.get(_METHOD) != rpc.method:
        raise JsonRpcError(HEADER_MISMATCH, f"the header {_METHOD} is not the method in the body")
    _check_name(request, rpc.method, rpc.params)
    if version not in supported:
        raise _unsupported(version, supported)


def check_routing(request: web.Request, method: Any, params: Mapping[str, Any]) -> None:
    """Raises :class:`JsonRpcError` (400) where headers that proxies route by say something else
    than the body, in whatever version of the protocol."""
    for name in (_METHOD, _NAME):
        if len(request.headers.getall(name, [])) > 1:
            raise JsonRpcError(HEADER_MISMATCH, f"the header {name} appears more than once")
    if request.headers.get(_METHOD, method) != method:
        raise JsonRpcError(HEADER_MISMATCH, f"the header {_METHOD} is not the method in the body")
    if _NAME in request.headers:
        _check_name(request, method, params)


def _check_name(request: web.Request, method: Any, params: Mapping[str, Any]) -> None:
    key = _NAMED.get(method)
    value = None if key is None else params.get(key)
    if value is not None and decoded_header(request.headers.get(_NAME)) != value:
        raise JsonRpcError(HEADER_MISMATCH, f"the header {_NAME} is not params.{key} in the body")


def _unsupported(requested: str, supported: Collection[str]) -> JsonRpcError:
    data = {"supported": [*supported], "requested": requested}
    return JsonRpcError(UNSUPPORTED_VERSION, "Unsupported protocol version", data)


def routing_headers(method: str, params: Mapping[str, Any]) -> dict[str, str]:
    """The headers with which a modern request is posted, which repeat parts of its body; none where
    its ``_meta`` names no version, so that it is a legacy one."""
    meta = params.get("_meta")
    version = meta.get(VERSION_KEY) if isinstance(meta, dict) else None
    if not isinstance(version, str):
        return {}
    found = {VERSION: header_value(version), _METHOD: header_value(method)}
    if isinstance(name := params.get(_NAMED.get(method, "")), str):
        found[_NAME] = header_value(name)
    return found


def header_value(text: str) -> str:
    """``text`` as a header's value: in the form ``=?base64?…?=`` where it could not be one."""
    if _PLAIN.fullmatch(text) and not _BASE64.fullmatch(text):
        return text
    return f"=?base64?{base64.b64encode(text.encode(errors='replace')).decode()}?="


def decoded_header(value: str | None) -> str | None:
    """A header's value, decoded where it has the form ``=?base64?…?=``; ``None`` if malformed."""
    if value is None or (found := _BASE64.fullmatch(value)) is None:
        return value
    try:
        return base64.b64decode(found["payload"], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None

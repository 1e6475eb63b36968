"""Validates the headers of a request to ``/mcp``, and a modern request's envelope."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from aiohttp import web

from mcp_discovery.facade.mcp.messages import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    INVALID_REQUEST,
    LEGACY,
    MODERN,
    UNSUPPORTED_VERSION,
    JsonRpcError,
    RpcRequest,
)

VERSION: Final = "MCP-Protocol-Version"
SESSION: Final = "Mcp-Session-Id"
_METHOD: Final = "Mcp-Method"
_NAME: Final = "Mcp-Name"
_JSON, _EVENTS = "application/json", "text/event-stream"

_VERSION_KEY: Final = "io.modelcontextprotocol/protocolVersion"
_CAPABILITIES_KEY: Final = "io.modelcontextprotocol/clientCapabilities"
CLIENT_INFO_KEY: Final = "io.modelcontextprotocol/clientInfo"

#: Method → the parameter that ``Mcp-Name`` repeats.
_NAMED: Final[Mapping[str, str]] = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
}
_BASE64 = re.compile(r"=\?base64\?(?P<payload>.*)\?=")


def check_origin(request: web.Request, allowed: Iterable[str]) -> None:
    """Raises :class:`JsonRpcError` (403) for a page of another origin: prevents DNS rebinding.

    https://modelcontextprotocol.io/specification/2025-11-25/basic/transports#security-warning

    Allowed are no origin at all (no browser), the origins in ``allowed`` (``*``: all), and this
    host itself where it is an address or ``localhost``. A name is not enough: an attacker's name
    that was just made to resolve to this host has the same origin and host, too.
    """
    origin = request.headers.get("Origin")
    if origin is None or origin in allowed or "*" in allowed:
        return
    parts = urlsplit(origin)
    if parts.netloc and parts.netloc == request.host and _cannot_be_rebound(parts.hostname or ""):
        return
    detail = (
        f"Forbidden: pages of {origin[:100]!r} may not ask here; start the facade with "
        "--cors-origin for those that may"
    )
    raise JsonRpcError(INVALID_REQUEST, detail, status=403)


def _cannot_be_rebound(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def accepts(request: web.Request) -> tuple[bool, bool]:
    """Whether the client accepts JSON, and whether it accepts event streams (RFC 9110, 12.5.1)."""
    header = ",".join(request.headers.getall("Accept", [])).lower()
    types = {each.partition(";")[0].strip() for each in header.split(",")}
    anything = "*/*" in types
    return (
        anything or not types.isdisjoint((_JSON, "application/*")),
        anything or not types.isdisjoint((_EVENTS, "text/*")),
    )


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


def check_version(request: web.Request) -> None:
    """Raises :class:`JsonRpcError` (400) unless the header names the modern version."""
    requested = request.headers.get(VERSION, "")
    if requested != MODERN:
        raise _unsupported(requested)


def check_envelope(request: web.Request, rpc: RpcRequest) -> None:
    """Raises :class:`JsonRpcError` (400) unless a modern request's body and headers agree.

    https://modelcontextprotocol.io/specification/2026-07-28/basic/transports/streamable-http
    """
    for name in (VERSION, _METHOD, _NAME):
        if len(request.headers.getall(name, [])) > 1:
            raise JsonRpcError(HEADER_MISMATCH, f"the header {name} appears more than once")
    meta: Any = rpc.params.get("_meta")
    if not isinstance(meta, dict):
        detail = f"params._meta must be an object with {_VERSION_KEY!r} and {_CAPABILITIES_KEY!r}"
        raise JsonRpcError(INVALID_PARAMS, detail)
    if missing := [key for key in (_VERSION_KEY, _CAPABILITIES_KEY) if key not in meta]:
        raise JsonRpcError(INVALID_PARAMS, f"params._meta lacks {' and '.join(map(repr, missing))}")
    version = meta[_VERSION_KEY]
    if request.headers.get(VERSION) != version:
        raise JsonRpcError(
            HEADER_MISMATCH, f"the header {VERSION} is not the version in params._meta"
        )
    if request.headers.get(_METHOD) != rpc.method:
        raise JsonRpcError(HEADER_MISMATCH, f"the header {_METHOD} is not the method in the body")
    key = _NAMED.get(rpc.method)
    value = None if key is None else rpc.params.get(key)
    if value is not None and _decoded(request.headers.get(_NAME)) != value:
        raise JsonRpcError(HEADER_MISMATCH, f"the header {_NAME} is not params.{key} in the body")
    if version != MODERN:
        raise _unsupported(version)


def _unsupported(requested: str) -> JsonRpcError:
    data = {"supported": [MODERN], "requested": requested}
    return JsonRpcError(UNSUPPORTED_VERSION, "Unsupported protocol version", data)


def _decoded(value: str | None) -> str | None:
    """A header's value, decoded where it has the form ``=?base64?…?=``; ``None`` if malformed."""
    if value is None or (found := _BASE64.fullmatch(value)) is None:
        return value
    try:
        return base64.b64decode(found["payload"], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None

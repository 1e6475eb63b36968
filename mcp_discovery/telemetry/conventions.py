"""Spans by OpenTelemetry's semantic conventions, for HTTP clients and for MCP on both sides.

https://opentelemetry.io/docs/specs/semconv/http/http-spans/ and
https://github.com/open-telemetry/semantic-conventions-genai/blob/main/docs/gen-ai/mcp.md. What a
tool is given and answers is told to nobody, and neither is what stands in a query string; the id of
a session lets in whoever has it, so its digest stands for it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from mcp_discovery.telemetry import spans
from mcp_discovery.telemetry.spans import CONTEXT, NO_SPAN, Attribute, TraceSpan

#: The methods that HTTP itself has; any other makes no name.
_METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"))
#: A part of a path that names one thing: an id, a digest, a key.
_OF_ONE: Final = re.compile(r".*[0-9:%].*")
_MOST_PARTS: Final = 4
#: The longest name of a tool, or version, that is told.
_LONGEST: Final = 128


def http_method(method: str) -> str:
    """``http.request.method``."""
    return method if method in _METHODS else "_OTHER"


def http_request(method: str, url: str, *, below: bool = False) -> TraceSpan:
    """The span of a request that this process sends to ``url``."""
    if not spans.are_on():
        return NO_SPAN
    parts = urlsplit(url)
    found = spans.span(f"{http_method(method)} {_pattern(parts.path)}", "client", below=below)
    if found.is_recorded:
        known: dict[str, Attribute] = {
            "http.request.method": http_method(method),
            "server.address": parts.hostname or "",
            "url.full": f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}",
            "url.template": _pattern(parts.path),
        }
        if (port := parts.port or {"http": 80, "https": 443}.get(parts.scheme)) is not None:
            known["server.port"] = port
        found.set(known)
    return found


def http_answered(span: TraceSpan, status: int, *, from_: int = 400) -> None:
    """Tells the status of the answer, which is an error ``from_`` that one on."""
    if span.is_recorded:
        span.set({"http.response.status_code": status})
        if status >= from_:
            span.fail(str(status))


def _pattern(path: str) -> str:
    """The path with what names one thing left out, so that names of spans are few."""
    parts = path.split("/")[: _MOST_PARTS + 1]
    kept = [each if at < 2 else _OF_ONE.sub("{id}", each) for at, each in enumerate(parts)]
    return "/".join(kept) or "/"


def mcp_request(
    side: Literal["server", "client"],
    method: str,
    params: Mapping[str, Any] | None,
    *,
    id: Any = None,
    session: str | None = None,
    protocol: str | None = None,
    transport: Literal["tcp", "pipe"] = "tcp",
    parent: Mapping[str, Any] | None = None,
    below: bool = False,
) -> TraceSpan:
    """The span of one request of MCP, on the side that answers or on the one that asks.

    ``params._meta`` carries the parent for the side that answers, or ``parent`` where it does not.
    """
    if not spans.are_on():
        return NO_SPAN
    given = params or {}
    if side == "server" and isinstance(meta := given.get("_meta"), dict) and CONTEXT[0] in meta:
        parent = meta
    target = given.get("name") if method in ("tools/call", "prompts/get") else None
    name = method[:_LONGEST]
    if isinstance(target, str):
        name += f" {target[:_LONGEST]}"
    found = spans.span(name, side, parent=parent, below=below)
    if not found.is_recorded:
        return found
    known: dict[str, Attribute] = {
        "mcp.method.name": method[:_LONGEST],
        "network.transport": transport,
    }
    if method == "tools/call":
        known["gen_ai.operation.name"] = "execute_tool"
    if isinstance(target, str):
        kind = "tool" if method == "tools/call" else "prompt"
        known[f"gen_ai.{kind}.name"] = target[:_LONGEST]
    if isinstance(uri := given.get("uri"), str) and method.startswith("resources/"):
        known["mcp.resource.uri"] = uri[: 4 * _LONGEST]
    if id is not None:
        known["jsonrpc.request.id"] = str(id)[:_LONGEST]
    if session is not None:
        known["mcp.session.id"] = hashlib.sha256(session.encode()).hexdigest()[:16]
    if protocol is not None:
        known["mcp.protocol.version"] = protocol[:_LONGEST]
    found.set(known)
    return found


def mcp_result(span: TraceSpan, result: Mapping[str, Any]) -> None:
    """Tells what a request had as its result: a tool's own error is one."""
    if span.is_recorded and result.get("isError") is True:
        span.fail("tool_error")


def mcp_failure(span: TraceSpan, code: int, message: str) -> None:
    """Tells the JSON-RPC error that a request had as its answer."""
    if span.is_recorded:
        span.set({"rpc.response.status_code": str(code)})
        span.fail(str(code), message)

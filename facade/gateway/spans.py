"""The span of a request that the gateway passes on, and its context in the message itself.

A message that carries a context in ``params._meta`` (SEP-414) is given the context of this span in
its place, which is as long: no other byte changes. Where it carries none, it is added; what cannot
be found in the bytes without doubt stays as it is. Without a tracer nothing is read or changed.
"""

from __future__ import annotations

import re
from typing import Any, Final

import orjson
from multidict import CIMultiDict

from mcp_discovery.facade.gateway.upstream import SESSION, ForwardedRequest
from mcp_discovery.record import Record
from mcp_discovery.telemetry import spans
from mcp_discovery.telemetry.conventions import mcp_request
from mcp_discovery.telemetry.spans import CONTEXT, NO_SPAN, TraceSpan
from mcp_discovery.urls import urls_of

_PARENT: Final = CONTEXT[0]
_VALUE: Final = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def passed_on(exchange: ForwardedRequest, record: Record) -> TraceSpan:
    """The span of sending the request to ``record``: that of the MCP request in it, or of HTTP."""
    request = exchange.request
    if not spans.are_on() or request.method != "POST":
        return NO_SPAN
    message = _message(exchange) if exchange.whole else {}
    method, params = message.get("method"), message.get("params")
    meta = params.get("_meta") if isinstance(params, dict) else None
    span = mcp_request(
        "client",
        method if isinstance(method, str) else "",
        params if isinstance(params, dict) else None,
        id=message.get("id"),
        session=request.headers.get(SESSION),
        protocol=request.headers.get("MCP-Protocol-Version"),
        parent=meta if isinstance(meta, dict) else None,
    )
    if span.is_recorded:
        url = urls_of(record.endpoint.url or "", record.endpoint.transport)[0]
        span.set(
            {
                "url.full": url.partition("?")[0],
                "mcp_discovery.server": record.name,
                "mcp_discovery.instance": record.id,
            }
        )
    return span


def carry(exchange: ForwardedRequest, headers: CIMultiDict[str]) -> None:
    """Writes the current context into what goes to the server: its headers, and its message."""
    if not spans.are_on():
        return
    context: dict[str, str] = {}
    spans.inject(context)
    headers.update(context)
    if exchange.whole and exchange.request.method == "POST" and _PARENT in context:
        exchange.rewritten = with_context(exchange.prefix, context)


def with_context(body: bytes, context: dict[str, str]) -> bytes:
    """``body`` with ``context`` in its ``params._meta``, all other bytes as they are; ``body``
    itself where that cannot be."""
    try:
        message = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body
    params = message.get("params") if isinstance(message, dict) else None
    if not isinstance(params, dict) or not isinstance(params.get("_meta", {}), dict):
        return body
    own = params.get("_meta", {}).get(_PARENT)
    if own is not None:
        if not isinstance(own, str) or _VALUE.fullmatch(own) is None:
            return body
        written = body.replace(own.encode(), context[_PARENT].encode())
        wanted = {**params["_meta"], _PARENT: context[_PARENT]}
    else:
        written = _added(body, context, within=b"_meta" if "_meta" in params else b"params")
        wanted = {**params.get("_meta", {}), **context}
    # Bytes that look the same may stand elsewhere, too: then it would be another message.
    try:
        same = orjson.loads(written) == {**message, "params": {**params, "_meta": wanted}}
    except orjson.JSONDecodeError:
        return body
    return written if same else body


def _added(body: bytes, context: dict[str, str], *, within: bytes) -> bytes:
    """``body`` with ``context`` first in its object ``within``, if there is one such member."""
    places = list(re.finditer(rb'"%b"\s*:\s*\{(?=\s*(\}?))' % within, body))
    if len(places) != 1:
        return body
    members = orjson.dumps(context)[1:-1]
    if within == b"params":
        members = b'"_meta":{%b}' % members
    end = places[0].end()
    return body[:end] + members + (b"" if places[0][1] else b",") + body[end:]


def _message(exchange: ForwardedRequest) -> dict[str, Any]:
    try:
        message = orjson.loads(exchange.prefix)
    except orjson.JSONDecodeError:
        return {}
    return message if isinstance(message, dict) else {}

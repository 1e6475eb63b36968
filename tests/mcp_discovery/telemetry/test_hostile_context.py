"""Contexts that others send and no propagator takes: what they are in is answered all the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.telemetry import spans
from mcp_discovery.telemetry.conventions import mcp_request
from mcp_discovery.telemetry.sdk import ApiTracer
from tests.facade.harness import served

_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
_PARENT = f"00-{_TRACE}-00f067aa0ba902b7-01"


@pytest.fixture(autouse=True)
def _traced() -> Iterator[None]:
    spans.use(ApiTracer())
    yield
    spans.use(None)


_HOSTILE: list[dict[str, Any]] = [
    {"traceparent": 1},
    {"traceparent": [1]},
    {"traceparent": {"a": 1}},
    {"traceparent": "x" * 1_000_000},
    {"traceparent": _PARENT, "tracestate": 5},
    {"traceparent": _PARENT, "tracestate": [1]},
    {"traceparent": _PARENT, "tracestate": ",".join(f"k{n}=v" for n in range(5000))},
    {"traceparent": _PARENT, "baggage": 5},
    {"traceparent": _PARENT, "baggage": ",".join(f"k{n}=v" for n in range(5000))},
    {"traceparent": _PARENT, "baggage": "a=b\r\nX-Admin: yes"},
]


@pytest.mark.parametrize("meta", _HOSTILE, ids=lambda meta: str(meta)[-60:])
async def test_a_message_with_it_is_answered(meta: dict[str, Any]) -> None:
    known = {"protocolVersion": "2025-11-25", "capabilities": {}}
    client = {"clientInfo": {"name": "hostile", "version": "1"}}
    params = {**known, **client, "_meta": meta}
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
    headers = {"Accept": "application/json, text/event-stream"}
    async with EmbeddedStore() as store, served(store) as ask:
        reply = await ask("POST", "/mcp", message, headers=headers)
    assert reply.status == 200, reply.body
    assert b'"serverInfo"' in reply.body


def test_bytes_of_a_header_that_are_no_text_are_not_passed_on() -> None:
    carried: dict[str, Any] = {}
    headers = {"traceparent": _PARENT, "baggage": "a=\udcff"}  # as aiohttp decodes them
    with spans.span("GET", "server", parent=headers):
        spans.inject(carried)
    assert carried["traceparent"].split("-")[1] == _TRACE
    assert "baggage" not in carried


def test_a_method_is_no_name_of_any_length() -> None:
    class Naming(ApiTracer):
        names: ClassVar[list[str]] = []

        def start(self, name: str, *given: Any, **more: Any) -> spans.TraceSpan:
            self.names.append(name)
            return super().start(name, *given, **more)

    spans.use(Naming())
    with mcp_request("server", "x" * 100_000, None):
        pass
    assert Naming.names == ["x" * 128]

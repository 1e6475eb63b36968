"""What a glance at a message shows, in the orders in which SDKs write its members."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mcp_discovery.glance import HEAD, TAIL, Glance, glance

_LARGE = "x" * 2 * HEAD


@pytest.mark.parametrize("size", ["small", _LARGE])
@pytest.mark.parametrize(
    ("members", "kind", "id"),
    [
        ({"jsonrpc": "2.0", "id": 7, "result": {"id": 8, "text": "$"}}, "result", "7"),
        ({"result": {"text": "$", "id": 8}, "jsonrpc": "2.0", "id": 7}, "result", "7"),
        ({"result": {"text": "$", "id": 8}, "id": "7", "jsonrpc": "2.0"}, "result", '"7"'),
        ({"result": {"text": "$", "id": 8}, "jsonrpc": "2.0"}, "result", None),
        ({"id": 7, "error": {"data": "$"}, "result": None}, "error", "7"),
        ({"result": None, "id": 7, "error": {"data": "$"}}, "error", "7"),
        ({"error": None, "id": 7, "result": {"error": "$"}}, "result", "7"),
        ({"id": None, "error": {"data": "$"}}, "error", "null"),
        ({"method": "m", "params": {"id": 8, "p": "$"}, "jsonrpc": "2.0", "id": 7}, "method", "7"),
        ({"jsonrpc": "2.0", "id": 7, "method": "m", "params": {"p": "$"}}, "method", "7"),
        ({"jsonrpc": "2.0", "method": "m", "params": {"id": 8, "p": "$"}}, "method", None),
        ({"status": "ok", "text": "$"}, None, None),
        ([{"id": 7, "result": "$"}], None, None),
        ("text", None, None),
    ],
)
@pytest.mark.parametrize("blanks", [(",", ":"), (" , ", " : ")])
def test_kind_and_id(
    members: Any, kind: str | None, id: str | None, size: str, blanks: tuple[str, str]
) -> None:
    data = json.dumps(members, separators=blanks).replace("$", size).encode()
    assert glance(data) == Glance(kind, id)  # type: ignore[arg-type]
    if len(data) > HEAD + TAIL:
        assert glance(data[:HEAD] + data[-TAIL:]) == Glance(kind, id)  # type: ignore[arg-type]


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"{", b'{"id":', b"grant_type=x", b"[" * 10**5])
def test_what_is_no_message_is_none(data: bytes) -> None:
    assert glance(data) == Glance(None, None)


def test_only_a_request_has_a_requests_id() -> None:
    assert glance(b'{"id": 7, "method": "m"}').request_id == 7
    assert glance(b'{"id": "a", "method": "m"}').request_id == "a"
    for other in (b'{"method": "m"}', b'{"id": 7, "result": {}}', b'{"id": true, "method": "m"}'):
        assert glance(other).request_id is None

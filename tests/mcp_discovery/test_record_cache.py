"""What instances say alike is read once: nobody can tell, but by the memory that it takes."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from mcp_discovery.document import compact
from mcp_discovery.errors import InvalidRecordError
from mcp_discovery.instance import decode_registration
from mcp_discovery.record import Record
from tests.records import record

LEASE = {"holder": "abc", "host": "web-3", "by": "sidecar", "ttl": 10, "reapAfter": 300}
WHOLE = record().to_dict() | {"lease": LEASE, "metadata": {"region": "eu"}, "zone": "a"}
_DEEP: Any = 1
for _ in range(300):
    _DEEP = [_DEEP]

#: Fields and what somebody may write there; ``None``: it is left out.
changes = st.lists(
    st.sampled_from(
        [
            ("id", None),
            ("id", "Not A Label"),
            ("id", "another-1"),
            ("name", "other"),
            ("name", "Not A Label"),
            ("endpoint", {"url": "http://10.0.0.7:80/mcp"}),
            ("endpoint", {"url": "http://user:pass@10.0.0.7/mcp"}),
            ("endpoint", {"url": "http://10.0.0.7/mcp", "unknown": _DEEP}),
            ("endpoint", {"url": "http://10.0.0.7/mcp", "apiKey": "abcdefgh"}),
            ("endpoint", {"transport": "stdio", "command": "uvx", "args": ["--token", "abc"]}),
            ("endpoint", {"transport": "stdio", "command": "uvx", "args": ["server"]}),
            ("endpoint", 7),
            ("metadata", {"replica": 7}),
            ("metadata", {"token": "in clear"}),
            ("metadata", []),
            ("registered_at", "2026-01-02T03:04:05Z"),
            ("registeredAt", "yesterday"),
            ("health_url", "http://10.0.0.7/health"),
            ("healthUrl", "ftp://10.0.0.7"),
            ("startedAt", "2026-01-02T03:04:05.678Z"),
            ("zone", ""),
            ("zone", "b"),
            ("description", "ghp_0123456789abcdefghij0123"),
            ("description", "d" * 5000),
            ("description", "d" * 4000),
            ("websiteUrl", "https://example.com/?token=abc"),
            ("unknown", {"deep": 1}),
            ("unknown", _DEEP),
            ("secret", "in clear"),
            ("tags", ["b", "a", "b"]),
            ("version", "one"),
        ]
    ),
    max_size=4,
)


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content).encode()  # orjson writes nothing that deep


def outcome(read: Any, *given: Any) -> Record | str:
    try:
        found = read(*given)
    except InvalidRecordError as error:
        return str(error)
    return found if isinstance(found, Record) else found[0]


@given(changes)
def test_a_registration_says_what_its_record_says(changed: list[tuple[str, Any]]) -> None:
    content: dict[str, Any] = {**WHOLE}
    for name, value in changed:
        content[name] = value
        if value is None:
            del content[name]
    shared = outcome(decode_registration, _json(content))
    del content["lease"]
    alone = outcome(Record.parse, content)
    assert shared == alone
    if isinstance(shared, Record) and isinstance(alone, Record):
        assert shared.to_dict() == alone.to_dict()


def test_what_is_alike_is_kept_once() -> None:
    one, other = (
        decode_registration(_json(WHOLE | {"id": id, "endpoint": {"url": f"http://{id}/mcp"}}))[0]
        for id in ("one", "other")
    )
    assert one.endpoint.url == "http://one/mcp" and other.endpoint.url == "http://other/mcp"
    assert one.capabilities is other.capabilities and one.tags is other.tags
    assert one.description is other.description


def test_what_is_kept_takes_no_room_that_nobody_needs() -> None:
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept = [compact(orjson.dumps({"text": "x" * 5000})) for _ in range(100)]
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 1.2 * sum(map(len, kept))

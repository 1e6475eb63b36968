"""What was found to be slow, or to raise what it must not, when a stranger wrote it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from mcp_discovery import secrets
from mcp_discovery.adapters.etcd.keys import LiveValue
from mcp_discovery.errors import InvalidRecordError
from mcp_discovery.health import healthy
from mcp_discovery.instance import (
    Holder,
    Instance,
    Lease,
    decode_registration,
    encode_registration,
    instance_to_dict,
)
from mcp_discovery.probe.errors import BadAnswerError
from mcp_discovery.probe.event_stream import EventReader
from mcp_discovery.query.corpus import Corpus
from mcp_discovery.query.index import SearchIndex
from mcp_discovery.query.versions import VersionRange
from mcp_discovery.query.words import words
from mcp_discovery.record import Record
from tests.records import record

_LEASE = Lease(Holder("holder", "host", "sidecar"), 30, 60)
_LIVE = b'{"holder":"a","name":"b","status":"healthy","reason":%b,"since":"%b","lastSeen":"%b"}'
_MOMENT = b"2026-01-01T00:00:00Z"


def _seconds(act: Callable[[], Any]) -> float:
    began = time.thread_time()
    act()
    return time.thread_time() - began


def _registration(**fields: Any) -> bytes:
    return orjson.dumps(orjson.loads(encode_registration(record(), _LEASE)) | fields)


def test_an_unknown_field_full_of_beginnings_of_tokens_costs_no_more_than_other_text() -> None:
    hostile = _registration(x="-eyJaaaaaaaa" * 20_000)
    assert _seconds(lambda: decode_registration(hostile)) < 1.0


def test_tokens_are_found_wherever_they_begin() -> None:
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9"
    for text in (token, f"see {token}", f"of-{token} x", f"a.b.{token}", f"http://h/{token}"):
        assert secrets.why_secret(text), text
        assert "eyJ" not in secrets.without_tokens(text)


def test_a_hundred_thousand_faults_are_not_all_told() -> None:
    hostile = _registration(capabilities={"tools": [1] * 39_000})

    def read() -> None:
        with pytest.raises(InvalidRecordError, match=r"capabilities.tools.0: is no text"):
            decode_registration(hostile)

    assert _seconds(read) < 0.2


def test_words_of_many_combining_characters_are_normalised_in_linear_time() -> None:
    assert _seconds(lambda: list(words("a" + "\u0301" * 50_000 + "\u0316" * 50_000))) < 1.0


def test_a_record_of_thirty_thousand_tools_is_indexed_in_linear_time() -> None:
    many = record(capabilities={"tools": [f"{number:x}" for number in range(30_000)]})
    index = SearchIndex(Corpus())
    index.put(many)
    assert _seconds(lambda: list(index.work())) < 1.5


@pytest.mark.parametrize("levels", [300, 900, 1010])
def test_what_is_nested_too_deeply_is_an_invalid_record(levels: int) -> None:
    deep = b"[" * levels + b"]" * levels
    places = (
        b'"name":"a","endpoint":{"transport":"stdio","command":"a","args":%b}' % deep,
        b'"name":"a","endpoint":{"transport":"stdio","command":%b}' % deep,
        b'"name":"a","endpoint":{"url":"http://127.0.0.1/"},"x":%b' % deep,
        b'"name":"a","endpoint":{"url":"http://127.0.0.1/"},"icons":[{"src":%b}]' % deep,
    )
    for place in places:
        with pytest.raises(InvalidRecordError):
            decode_registration(b'{"lease":%b,%b}' % (orjson.dumps(_LEASE.to_dict()), place))


def test_a_reason_that_is_no_text_is_no_health() -> None:
    for reason in (b"[" * 1010 + b"]" * 1010, b"{}", b"null", b"1"):
        with pytest.raises(ValueError, match="not a health"):
            LiveValue.decode(_LIVE % (reason, _MOMENT, _MOMENT))
        with pytest.raises(ValueError, match="not a health"):
            LiveValue.decode((_LIVE % (b'""', _MOMENT, _MOMENT)).replace(b'"healthy"', reason))


def test_metadata_of_numbers_beyond_64_bits_is_spelled_out() -> None:
    assert record(metadata={"big": 10**30}).metadata["big"] == "1" + "0" * 30


def test_unknown_fields_do_not_pass_for_what_a_facade_says_of_an_instance() -> None:
    hostile = _registration(
        status="healthy",
        reason="trust me",
        load="much",
        uptime=1e9,
        lastSeen="now",
        endpoint={"transport": "stdio", "command": "serve"},
        url="http://elsewhere/",
    )
    made, lease = decode_registration(hostile)
    shown = instance_to_dict(Instance(made, healthy(), lease))
    assert "load" not in shown
    assert "url" not in shown
    assert "uptime" not in shown
    assert shown["reason"] == "answers MCP"


def test_names_that_mean_something_to_other_languages_are_names_like_any_other() -> None:
    names = ("__proto__", "constructor", "prototype", "__class__", "model_config", "toString")
    fields: dict[str, Any] = {name: {"polluted": True} for name in names}
    made = record("a", metadata=dict.fromkeys(names, "x"), **fields)
    again, _ = decode_registration(encode_registration(made, _LEASE))
    assert again == made
    assert set(names) <= instance_to_dict(Instance(again, healthy(), _LEASE)).keys()
    assert type(again) is Record


@pytest.mark.parametrize("text", ["a - b", "\0 - \0", " - ", "1 - x - 2", "!"])
def test_a_range_of_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"(?i)invalid|empty|unpack"):
        VersionRange.parse(text)


def test_an_event_of_endless_empty_lines_is_too_large_at_last() -> None:
    reader = EventReader(100_000)
    with pytest.raises(BadAnswerError, match="more than 100000 bytes"):
        for _ in range(1000):
            reader.feed(b"data:\n" * 1000)

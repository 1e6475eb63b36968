"""The event stream parser: however the bytes are cut, the events are the same."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_discovery.probe import BadAnswerError
from mcp_discovery.probe.event_stream import Event, EventReader

STREAM = (
    b"\xef\xbb\xbf: a comment\r\n\r\n"
    b"event: endpoint\r\ndata: /messages?id=1\r\n\r\n"
    b"id: 7\nretry: 3000\ndata:no space\n\n"
    b"data: two\rdata: lines\r\r"
    b"event: named and without data\n\n"
    b"data\n\n"
    b'data: {"unicode": "\xc3\xbc"}\n\n'
    b"data: unfinished"
)
EVENTS = [
    Event("endpoint", b"/messages?id=1"),
    Event("message", b"no space", "7"),
    Event("message", b"two\nlines", "7"),
    Event("message", b"", "7"),
    Event("message", b'{"unicode": "\xc3\xbc"}', "7"),
    Event("message", b"unfinished", "7"),
]


@settings(deadline=None)
@given(st.lists(st.integers(0, len(STREAM)), max_size=40))
def test_any_cut(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    reader = EventReader(1000)
    events = [event for start, end in pairwise(edges) for event in reader.feed(STREAM[start:end])]
    assert events + reader.finish() == EVENTS


def test_bounded() -> None:
    for chunk in (b"data: " + b"x" * 60, b"data: x\n" * 60):
        reader = EventReader(50)
        with pytest.raises(BadAnswerError, match="more than 50 bytes"):
            reader.feed(chunk)

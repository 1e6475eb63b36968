"""Events are cut alike, however their bytes come."""

from __future__ import annotations

import pytest

from mcp_discovery.client.answers import EventCutter, event_data, with_data

_EVENTS = (
    "data: one",
    "event: message{n}data: {{}}{n}id: 3",
    ": a comment",
    "data:two{n}data: lines",
)


def _cut(stream: bytes, size: int, limit: int = 10**6) -> list[tuple[bytes, bool]]:
    cutter = EventCutter(limit)
    found: list[tuple[bytes, bool]] = []
    for at in range(0, len(stream), size):
        for parts, whole in cutter.cut(stream[at : at + size]):
            found.append((parts.whole(), whole))
    return found


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 1000])
def test_any_end_of_a_line_in_any_pieces(end: str, size: int) -> None:
    events = [each.format(n=end) for each in _EVENTS]
    stream = "".join(each + end + end for each in events).encode()
    found = _cut(stream, size)
    # Of a last CRLF the LF may begin the next event, as an empty line.
    assert [data.strip() for data, _ in found if data.strip()] == [each.encode() for each in events]
    assert [event_data(data) for data, _ in found if data.strip()] == [
        b"one",
        b"{}",
        b"",
        b"two\nlines",
    ]
    assert all(whole for _, whole in found)


@pytest.mark.parametrize("size", [1, 64, 10**4])
def test_one_over_the_limit_is_known_by_its_ends(size: int) -> None:
    large = b"data: <" + b"x" * 10**4 + b">\n\n"
    found = _cut(b"data: a\n\n" + large + b"data: b\n\n", size, limit=1000)
    assert [whole for _, whole in found] == [True, False, True]
    data = event_data(found[1][0])
    assert (data[:1], data[-1:]) == (b"<", b">")


def test_data_in_the_place_of_other_data() -> None:
    event = with_data(b"id: 4\r\nevent: message\r\ndata: a\r\ndata: b\r\n\r\n", b"c")
    assert event == b"id: 4\nevent: message\ndata: c\n\n"

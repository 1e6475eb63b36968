"""The reading half of server-sent events: bytes in, events out.

Rules: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

from __future__ import annotations

import re
from typing import NamedTuple

from mcp_discovery.probe.errors import BadAnswerError

_LINE_END = re.compile(rb"\r\n|\n|\r")
#: What a line of data costs beside its bytes: without it a stream of empty lines had no end.
_LINE = 64
_BOM = b"\xef\xbb\xbf"


class Event(NamedTuple):
    """One dispatched event: its name (``message`` unless given), its data, and the last id that
    was given up to then: what ``Last-Event-ID`` resumes from."""

    name: str
    data: bytes
    id: str = ""


class EventReader:
    """Incremental parser; ``feed`` chunks as they come, ``finish`` at the end of the stream.

    Raises BadAnswerError once a single event exceeds ``limit`` bytes.
    """

    def __init__(self, limit: int) -> None:
        self._id = ""
        self._limit = limit
        self._buffer = bytearray()
        self._scanned = 0
        self._data: list[bytes] = []
        self._size = 0
        self._name = ""
        self._skip_lf = False
        self._started = False

    def feed(self, chunk: bytes) -> list[Event]:
        """Take the next bytes of the stream and return the events that they complete."""
        if self._skip_lf and chunk:
            # The previous chunk ended in CR, which may have been half of a CRLF.
            chunk = chunk.removeprefix(b"\n")
            self._skip_lf = False
        self._buffer += chunk
        if not self._started and len(self._buffer) >= len(_BOM):
            self._started = True
            if self._buffer.startswith(_BOM):
                del self._buffer[: len(_BOM)]
        events: list[Event] = []
        start = 0
        while match := _LINE_END.search(self._buffer, max(start, self._scanned)):
            line = bytes(self._buffer[start : match.start()])
            start = match.end()
            if start == len(self._buffer) and match.group() == b"\r":
                self._skip_lf = True
            self._take_line(line, events)
        del self._buffer[:start]
        self._scanned = len(self._buffer)
        if self._size + len(self._buffer) > self._limit:
            raise BadAnswerError(f"sent an event of more than {self._limit} bytes", over_limit=True)
        return events

    def finish(self) -> list[Event]:
        """Return the event that a careless server left without its closing blank line."""
        events: list[Event] = []
        if self._buffer:
            self._take_line(bytes(self._buffer), events)
            self._buffer.clear()
        self._take_line(b"", events)
        return events

    def _take_line(self, line: bytes, events: list[Event]) -> None:
        if not line:
            if self._data:
                events.append(Event(self._name or "message", b"\n".join(self._data), self._id))
            self._data = []
            self._size = 0
            self._name = ""
            return
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
            self._size += len(value) + _LINE
        elif field == b"event":
            self._name = value.decode("utf-8", "replace")
        elif field == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace")

"""Answers as they come off the wire: events cut out of a stream, JSON-RPC messages recognized
without being parsed, errors made regular. None is held in memory beyond a limit."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterator
from typing import Any

from mcp_types import INTERNAL_ERROR, ErrorData, RequestId

from mcp_discovery.errors import DiscoveryError
from mcp_discovery.glance import HEAD, TAIL

#: An empty line: two ends of lines, of whichever kind (HTML, 9.2.6: CRLF, LF or CR).
_EMPTY_LINE = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")


class UnusableAnswerError(DiscoveryError):
    """An answer came that cannot be taken; the connection is as good as before."""


class OversizedAnswerError(UnusableAnswerError):
    """The answer is over ``limit`` bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the answer is over {size_text(limit)}")
        self.limit = limit


class MisdirectedAnswerError(UnusableAnswerError):
    """The answer to the request ``id`` has the id ``found``, which is JSON."""

    def __init__(self, id: RequestId, found: str | None) -> None:
        what = "without an id" if found is None else f"with the id {found}"
        super().__init__(f"it answered the request {id!r} {what}")


def size_text(size: int) -> str:
    """``size`` in bytes in words: ``64 MiB``, or ``1,000,000 bytes``."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size >= unit and size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size:,} bytes"


def error_of(data: bytes | str) -> tuple[Any, ErrorData] | None:
    """The id and the error of a JSON-RPC error, however irregular; ``None`` where it is none.

    What lacks a code, or a message that is a string, is given them: a server's words arrive.
    """
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict) or message.get("error") is None:
        return None
    error = message["error"]
    if not isinstance(error, dict):
        error = {"message": error}
    said = error.get("message")
    text = "" if said is None else said if isinstance(said, str) else json.dumps(said)
    # Half of a surrogate pair is valid JSON, and no text.
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    code = _integer(error.get("code"))
    code = INTERNAL_ERROR if code is None else code
    return message.get("id"), ErrorData(code=code, message=text, data=error.get("data"))


def _integer(value: object) -> int | None:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"-?\d{1,18}", value, re.ASCII) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def error_message(id: RequestId | None, error: ErrorData) -> bytes:
    """The JSON-RPC message with ``error``."""
    fault = {"code": error.code, "message": error.message}
    if error.data is not None:
        fault["data"] = error.data
    message = {"jsonrpc": "2.0", "id": id, "error": fault}
    return json.dumps(message, ensure_ascii=False).encode(errors="replace")


class Parts(deque[bytes]):
    """The parts of something large, in the order in which they came."""

    def whole(self) -> bytes:
        """All of it."""
        return b"".join(self)

    def ends(self) -> bytes:
        """Its beginning and its end, or all of it where that is short."""
        if sum(map(len, self)) <= HEAD + TAIL:
            return self.whole()
        head = tail = b""
        for part in self:
            head += part[: HEAD - len(head)]
            if len(head) == HEAD:
                break
        for part in reversed(self):
            tail = part[-(TAIL - len(tail)) :] + tail
            if len(tail) == TAIL:
                break
        return head + tail

    def taken(self) -> Iterator[bytes]:
        """Its parts, of which each is held no longer than until it is taken."""
        while self:
            yield self.popleft()


class EventCutter:
    """Cuts a stream of server-sent events, of which none is held beyond ``limit`` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._last = b""
        #: The event that is coming; of one over the limit its beginning and its end.
        self.parts = Parts()

    @property
    def oversized(self) -> bool:
        """Whether the event that is coming is over the limit."""
        return self._size > self._limit

    def cut(self, chunk: bytes) -> Iterator[tuple[Parts, bool]]:
        """The events that ``chunk`` completes, and whether each is whole.

        Of one over the limit there are its beginning and its end.
        """
        at = 0
        # Nearly every part of a large event has no end of a line at all, which is quickly seen.
        while b"\n" in chunk or b"\r" in chunk:
            before = self._last  # where an empty line may have begun
            found = _EMPTY_LINE.search(before + chunk if before else chunk, at)
            if found is None:
                break
            end = found.end() - len(before)
            self._add(chunk[at:end])
            at = end
            parts, whole = self.parts, not self.oversized
            self.parts, self._size, self._last = Parts(), 0, b""
            yield parts, whole
        self._add(chunk[at:])

    def _add(self, part: bytes) -> None:
        self._last = (self._last + part[-3:])[-3:]
        self._size += len(part)
        self.parts.append(part)
        if self.oversized:
            self.parts = Parts((self.parts.ends(),))


def event_data(event: bytes) -> bytes:
    """The data of an event."""
    lines = (each for each in event.splitlines() if each.startswith(b"data:"))
    return b"\n".join(each[5:].removeprefix(b" ") for each in lines)


def with_data(event: bytes, data: bytes) -> bytes:
    """``event`` with other data."""
    lines = (each for each in event.splitlines() if each and not each.startswith(b"data"))
    return b"\n".join((*lines, b"data: " + data)) + b"\n\n"

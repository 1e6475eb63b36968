"""What a JSON-RPC message of any size is, seen from its beginning and its end alone."""

from __future__ import annotations

import json
import re
from typing import Any, Literal, NamedTuple

#: So many bytes of a message's beginning and of its end are looked at.
HEAD, TAIL = 64 * 2**10, 4 * 2**10
_MEMBER = re.compile(r'\s*[{,]\s*("(?:[^"\\]|\\.)*")\s*:\s*')
#: An id behind the other members of a message, where some SDKs write it.
_LAST_ID = re.compile(
    r',\s*"id"\s*:\s*(-?\d+|null|"(?:[^"\\]|\\.)*")\s*(?:,\s*"jsonrpc"\s*:\s*"2\.0"\s*)?\}\s*$'
)
_DECODER = json.JSONDecoder()


class Glance(NamedTuple):
    """What a message is, and its id.

    ``kind`` is the member that says so, ``None`` where it is no JSON-RPC message; ``id`` is JSON,
    ``None`` where there is none.
    """

    kind: Literal["method", "result", "error"] | None
    id: str | None

    @property
    def value(self) -> int | str | None:
        """The id, where it is one that a request may have."""
        found = json.loads(self.id) if self.id is not None else None
        return found if isinstance(found, int | str) and not isinstance(found, bool) else None

    @property
    def request_id(self) -> int | str | None:
        """The id of a request; ``None`` where it is none."""
        return self.value if self.kind == "method" else None

    def names(self, id: int | str) -> bool:
        """Whether it has the id ``id``, as a number or as a string."""
        return self.id is not None and self.id.strip('"') == str(id)


def glance(data: bytes) -> Glance:
    """Looks at a message, or at its beginning and its end, of at least :data:`TAIL` bytes."""
    text = data[:HEAD].decode(errors="replace")
    kind: Any = None
    id: str | None = None
    at = 0
    while id is None or kind is None:
        if (member := _MEMBER.match(text, at)) is None:
            break
        name, at = member[1][1:-1], member.end()
        absent = name != "method" and text.startswith("null", at)  # some send both, one as null
        if name in ("method", "result", "error") and not absent:
            kind = kind or name
            if kind != "method":
                break
        try:
            end = _DECODER.raw_decode(text, at)[1]
        except (json.JSONDecodeError, RecursionError):
            break
        if name == "id":
            id = text[at:end]
        at = end
    if id is None and kind is not None:
        last = _LAST_ID.search(data[-TAIL:].decode(errors="replace"))
        id = last[1] if last else None
    return Glance(kind, id)

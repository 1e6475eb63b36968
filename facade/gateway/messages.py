"""The messages in a body for a server, and which of them it may take for calls of tools.

What calls is counted, and recorded, by what any server could read in the body. So a batch is passed
on only where all of it is known and it is no longer than others; and of a message that servers read
in different ways (a member twice, or in other letters) it is not said which tool it calls.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

import orjson
from aiohttp import web

from mcp_discovery.facade.http.problems import ProblemError

#: The largest number of messages in one body.
MOST_MESSAGES: Final = 100
#: A call's arguments; :data:`NOT_SEEN` where they were not read.
Arguments: TypeAlias = Any
NOT_SEEN: Final[Arguments] = object()

_CALL: Final = "tools/call"
#: The members that say what is called.
_OF_MESSAGE, _OF_PARAMS = frozenset(("method", "params")), frozenset(("name", "arguments"))
#: What may stand before the first character of JSON, in any encoding.
_BEFORE = b" \t\r\n\v\f\0\xef\xbb\xbf\xff\xfe"


class Call(NamedTuple):
    """A message that a server may take for a call; ``tool`` is empty where it is not known."""

    id: Any
    tool: str
    arguments: Arguments


@dataclass(frozen=True, slots=True)
class Messages:
    """What a body holds. ``calls`` are those that a server may find in it.

    ``whole`` says that all of it was read; of one that was not, nothing is known but that it is no
    batch.
    """

    calls: tuple[Call, ...]
    whole: bool

    @classmethod
    def of(cls, request: web.Request, body: bytes, *, whole: bool) -> Messages:
        """The messages in ``body``, which is only the beginning of it unless it is ``whole``.

        Raises :class:`ProblemError` for a batch that is too long or cannot be read, and for a body
        that is encoded: it may be one.
        """
        if request.method != "POST" or not (body or not whole):
            return cls((), True)
        _require_plain(request)
        begun = body.lstrip(_BEFORE)
        if begun.startswith(b"[") or not (begun or whole):
            return cls(_calls_of_batch(body, whole=whole), whole)
        if not whole:
            return cls((Call(None, "", NOT_SEEN),), False)
        found = _call_in(_read(body))
        return cls(() if found is None else (found,), True)


def _calls_of_batch(body: bytes, *, whole: bool) -> tuple[Call, ...]:
    if not whole:
        detail = "a batch is passed on up to 64 KiB; send its messages one by one"
        raise ProblemError(413, "batch-too-large", detail)
    try:
        # Counted by the quicker parser first.
        number = len(orjson.loads(body))
    except orjson.JSONDecodeError as error:
        detail = f"the batch is not JSON in UTF-8 ({error}); send its messages one by one"
        raise ProblemError(400, "not-json", detail) from error
    if number > MOST_MESSAGES:
        detail = f"a batch has up to {MOST_MESSAGES} messages, and this one {number}; send fewer"
        raise ProblemError(413, "batch-too-large", detail, most=MOST_MESSAGES)
    messages = _read(body)
    if not isinstance(messages, list) or not all(isinstance(each, dict) for each in messages):
        detail = "a batch is an array of JSON-RPC messages, which are objects; send them one by one"
        raise ProblemError(400, "not-a-batch", detail)
    return tuple(call for each in messages if (call := _call_in(each)) is not None)


def _require_plain(request: web.Request) -> None:
    encoding = ",".join(request.headers.getall("Content-Encoding", ())).strip().lower()
    charset = (request.charset or "utf-8").lower().replace("_", "-")
    if encoding not in ("", "identity") or charset not in ("utf-8", "utf8"):
        detail = "a body is passed on as it is read: send it in UTF-8, without a Content-Encoding"
        raise ProblemError(415, "unknown-encoding", detail)


# -- reading as any server may -----------------------------------------------------------------


class _Ambiguous(dict[str, Any]):
    """An object with a member twice, or with such an object in it: servers differ in what it is."""


def _read(body: bytes) -> Any:
    """What ``body`` is as JSON; an :class:`_Ambiguous` where it is none."""
    try:
        return json.loads(body.decode(), object_pairs_hook=_object, parse_constant=_no_json)
    except (ValueError, RecursionError):
        return _Ambiguous()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs) or any(map(_is_ambiguous, found.values())):
        return _Ambiguous(found)
    return found


def _is_ambiguous(value: Any) -> bool:
    kind = type(value)
    return kind is _Ambiguous or (kind is list and any(map(_is_ambiguous, value)))


def _no_json(text: str) -> None:
    raise ValueError(f"{text} is no JSON")


def _call_in(message: Any) -> Call | None:
    """The call that a server may take ``message`` for."""
    if not isinstance(message, dict):
        return Call(None, "", NOT_SEEN)
    id, method, params = (message.get(name) for name in ("id", "method", "params"))
    unknown = Call(id, "", NOT_SEEN)
    if isinstance(message, _Ambiguous) or not _is_exact(message, _OF_MESSAGE):
        return unknown
    if method != _CALL:
        other = method is None or (isinstance(method, str) and _CALL not in method.casefold())
        return None if other else unknown
    params = {} if params is None else params
    if not isinstance(params, dict) or not _is_exact(params, _OF_PARAMS):
        return unknown
    name = params.get("name")
    return Call(id, name if isinstance(name, str) else "", params.get("arguments"))


def _is_exact(value: Mapping[str, Any], names: frozenset[str]) -> bool:
    """Whether no member is one of ``names`` in other letters, which some decoders take for it."""
    return all(key in names or key.casefold() not in names for key in value)

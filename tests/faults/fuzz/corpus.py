"""What the parsers are fed: JSON as a hostile writer spells it, and bytes that are none."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

#: Stands in a value for what Python's own encoder could not write: so many levels of nesting.
_DEEP = "@deep-{kind}-{levels}@"
_MARKED = re.compile(r'"@deep-(list|object)-([0-9]+)@"')
_KINDS = {"list": ("[", "]"), "object": ('{"a":', "}")}

_KEYS = [
    *("__proto__", "constructor", "prototype", "__class__", "__dict__", "model_config", "toString"),
    *("id", "name", "lease", "endpoint", "url", "args", "tags", "metadata", "capabilities", "load"),
    *("status", "reason", "since", "lastSeen", "ttl", "holder", "server", "servers", "kv", "key"),
    *("value", "events", "result", "header", "revision", "error", "code", "Node", "Checks", "Key"),
]
_STRINGS = [
    *("", " ", "\0", "\ud800", "\ufffe", "\u202e", "a" * 300, "é" * 5000, "1e999", "${X}", "../.."),
    *("2026-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "24:00"),
    *(
        "http://[",
        "http://a:99999999",
        "HTTP://user:pass@h/",
        "1.0.0",
        "9" * 5000,
        "٣",
        "²",
        "healthy",
    ),
    *(
        "Bearer " * 50,
        "-eyJaaaaaaaaaa" * 50,
        "sha256:",
        "e\u0301\u0316" * 50,
        "c2hvcnQ=",
        "=",
        "live/",
    ),
]
_NUMBERS: list[Any] = [0, -1, 1, 2**31, 2**63 - 1, 2**64, -(2**64), 10**40, 1e308, 1e-308, -0.0]
_NUMBERS += [float("inf"), float("nan"), 366 * 86400, 0.1]

#: As deep as orjson writes (254) and reads (1024), as Python follows (1000), and more.
_deep = st.builds(
    lambda kind, levels: _DEEP.format(kind=kind, levels=levels),
    st.sampled_from(sorted(_KINDS)),
    st.sampled_from([100, 250, 300, 980, 1015, 5000]),
)
scalars: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(_STRINGS),
    st.sampled_from(_NUMBERS),
    st.text(max_size=20),
    _deep,
)
keys = st.one_of(st.sampled_from(_KEYS), st.text(max_size=8))
values: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(keys, inner, max_size=4),
    ),
    max_leaves=8,
)


def encoded(value: Any) -> bytes:
    """``value`` as JSON, deep nesting included; what JSON cannot say is said all the same."""
    text = json.dumps(value, ensure_ascii=True)

    def deep(found: re.Match[str]) -> str:
        opening, closing = _KINDS[found[1]]
        return opening * int(found[2]) + "1" + closing * int(found[2])

    return _MARKED.sub(deep, text).encode()


def _places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [way]
    if isinstance(value, dict):
        for key, item in value.items():
            found += _places(item, (*way, key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            found += _places(item, (*way, number))
    return found


def _put(value: Any, way: Sequence[Any], other: Any) -> Any:
    if not way:
        return other
    head, *rest = way
    if isinstance(value, dict):
        return {**value, head: _put(value[head], rest, other)}
    return [_put(item, rest, other) if at == head else item for at, item in enumerate(value)]


@st.composite
def _mutated(draw: st.DrawFn, seeds: Sequence[Any]) -> bytes:
    """A seed with a few of its values replaced, removed or added to."""
    value = draw(st.sampled_from(list(seeds)))
    for _ in range(draw(st.integers(0, 3))):
        way = draw(st.sampled_from(_places(value)))
        value = _put(value, way, draw(st.one_of(scalars, values, _deep)))
        if isinstance(value, dict) and draw(st.booleans()):
            value = {**value, draw(keys): draw(values)}
    return encoded(value)


@st.composite
def _truncated(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """A seed that was cut, or of which bytes were exchanged."""
    data = bytearray(draw(st.sampled_from(list(seeds))))
    for _ in range(draw(st.integers(0, 4))):
        if data:
            at = draw(st.integers(0, len(data) - 1))
            data[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


def json_like(*seeds: Any) -> st.SearchStrategy[bytes]:
    """JSON near ``seeds``, JSON far from them, and what is no JSON."""
    written = [encoded(seed) for seed in seeds]
    return st.one_of(
        _mutated(seeds),
        _mutated(seeds),
        _truncated(written),
        values.map(encoded),
        st.binary(max_size=64),
        st.sampled_from(
            [b"[" * 100_000, b'{"a":' * 50_000, b'"' + b"\xff" * 10, b"\xef\xbb\xbf{}"]
        ),
    )


def text_like(*seeds: str) -> st.SearchStrategy[bytes]:
    """Text near ``seeds``, and any text and bytes."""
    written = [seed.encode() for seed in seeds]
    return st.one_of(
        _truncated(written),
        st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")),
        st.lists(st.sampled_from(_STRINGS + list(seeds)), max_size=4).map(
            lambda parts: "".join(parts).encode("utf-8", "surrogatepass")
        ),
        st.binary(max_size=64),
    )

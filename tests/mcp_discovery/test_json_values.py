"""Counting the values of a JSON text before it is parsed."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_discovery.json_values import count_values

_MOST = 1000
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=40,
)


def values(content: Any) -> int:
    inner: list[Any] = []
    if isinstance(content, list):
        inner = content
    elif isinstance(content, dict):
        inner = list(content.values())
    return 1 + sum(map(values, inner))


@given(_JSON)
def test_no_value_escapes_the_count(content: Any) -> None:
    data, true = orjson.dumps(content), values(content)
    assert count_values(data, _MOST) >= min(true, _MOST)
    # Commas and brackets in texts do not count where they would make too many.
    assert count_values(data, true) <= true


@pytest.mark.parametrize(
    "data",
    [
        b"[" + b"[]," * _MOST + b"[]]",
        b'{"a":' + b"[{},[0]," * _MOST,
        b'["' + b'","' * _MOST,
        b'["\\\\"' + b',"\\""' * _MOST,
        b"[" * (_MOST + 1),
        b'["x\\"[,"' + b',["a"]' * (_MOST // 2) + b"]",
    ],
)
def test_too_many_are_seen_whole_or_broken(data: bytes) -> None:
    assert count_values(data, _MOST) > _MOST


def test_prose_is_one_value() -> None:
    data = orjson.dumps(['well, "so", [he] {said}\\, ' * 100_000])
    assert count_values(data, _MOST) == 2

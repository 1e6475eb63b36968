"""Bounded looks at JSON values from servers that may be hostile: how large, whether the same."""

from __future__ import annotations

import math
from typing import Any

import orjson

_DEEPEST = 64


def weight(value: object, limit: int) -> int | None:
    """About how many characters of JSON ``value`` is; ``None`` over ``limit``, or when no JSON.

    Looks at no more than ``limit`` parts, and no deeper than a JSON library goes.
    """
    total = 0
    waiting: list[tuple[object, int]] = [(value, 0)]
    while waiting:
        each, depth = waiting.pop()
        total += 1
        if isinstance(each, str):
            total += len(each)
        elif isinstance(each, float):
            total += 8
            if not math.isfinite(each):
                return None
        elif isinstance(each, int):
            total += each.bit_length() // 3
            if not -(2**63) <= each < 2**64:
                return None
        elif isinstance(each, list | tuple | dict):
            if depth == _DEEPEST or total + len(each) > limit:
                return None
            if isinstance(each, dict):
                if not all(isinstance(key, str) for key in each):
                    return None
                total += sum(map(len, each))
            inside = each.values() if isinstance(each, dict) else each
            waiting.extend((part, depth + 1) for part in inside)
        elif each is not None:
            return None
        if total > limit:
            return None
    return total


def text(value: object, limit: int) -> str | None:
    """``value`` as compact JSON of at most ``limit`` characters, or ``None``."""
    if weight(value, limit) is None:
        return None
    return orjson.dumps(value).decode()


def same(one: Any, other: Any) -> bool:
    """Whether JSON Schema counts them as equal: ``1`` is not ``true``; too deep is different."""
    if one is other:
        return True
    if isinstance(one, bool) is not isinstance(other, bool):
        return False
    try:
        return bool(one == other)
    except RecursionError:
        return False

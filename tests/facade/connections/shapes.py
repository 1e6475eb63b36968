"""Compares an answer with an example by its shape: the same members, of the same JSON types."""

from __future__ import annotations

from collections.abc import Container
from typing import Any


def assert_shape(answer: Any, example: Any, *, beside: Container[str] = (), at: str = "$") -> None:
    """Fails unless ``answer`` has each member of ``example``, of the same type, all the way down.

    Every item of a list must be like the example's first. Members that ``example`` has not are
    a fault, too, unless their names are in ``beside``. Integers and other numbers are alike.
    """
    assert _type(answer) == _type(example), f"{at}: {answer!r} is not like {example!r}"
    if isinstance(example, dict):
        missing = example.keys() - answer.keys()
        assert not missing, f"{at} lacks {sorted(missing)}: {answer!r}"
        more = {key for key in answer.keys() - example.keys() if key not in beside}
        assert not more, f"{at} has {sorted(more)} besides: {answer!r}"
        for key in example:
            assert_shape(answer[key], example[key], beside=beside, at=f"{at}.{key}")
    if isinstance(example, list) and example:
        assert answer, f"{at} is empty"
        for number, item in enumerate(answer):
            assert_shape(item, example[0], beside=beside, at=f"{at}[{number}]")


def _type(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, int | float) else type(value).__name__

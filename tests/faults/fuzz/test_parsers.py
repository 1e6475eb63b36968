"""Every target for a moment; ``python -m tests.faults.fuzz`` goes on for as long as it is told."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator

import pytest

from tests.faults.fuzz.__main__ import examine
from tests.faults.fuzz.corpus import json_like
from tests.faults.fuzz.target import Finding, Target
from tests.faults.fuzz.targets import TARGETS

_EXAMPLES = 80


@pytest.fixture(autouse=True)
def _silence() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_it_answers_with_a_value_or_an_error_of_ours(target: Target) -> None:
    examine(target, _EXAMPLES, 1)


def test_a_parser_that_raises_anything_else_is_found() -> None:
    def fragile(data: bytes) -> None:
        if b"[" in data:
            raise KeyError("a slip")

    with pytest.raises(Finding, match=r"fragile: raised KeyError[\s\S]*input: b"):
        examine(Target("fragile", fragile, (ValueError,), json_like([1])), 200, 1)

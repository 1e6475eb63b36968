"""Ranges of semantic versions, as operators and npm write them."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import semantic_version

#: The longest text, in characters, that is parsed as a range.
MAX_RANGE = 200
_AFTER_OPERATOR = re.compile(r"([<>=!~^]=?)\s+")


@dataclass(frozen=True, slots=True)
class VersionRange:
    """Versions between bounds: ``>=1.2,<2`` (:class:`semantic_version.SimpleSpec`) or, as npm
    writes it, ``>=1.2 <2``, ``1.x || >=2.5``, ``1.2 - 2.3`` (:class:`semantic_version.NpmSpec`).

    Build one with :meth:`parse`. Two are equal when their texts are.
    """

    text: str

    @classmethod
    def parse(cls, text: str) -> VersionRange:
        """The range that ``text`` writes; raises :class:`ValueError` for any other text."""
        if len(text) > MAX_RANGE:
            raise ValueError(f"a range has {MAX_RANGE} characters at most")
        canonical = re.sub(r"\s*,\s*", ",", _AFTER_OPERATOR.sub(r"\1", text.strip()))
        _spec(canonical)
        return cls(canonical)

    def __str__(self) -> str:
        return self.text

    def __contains__(self, version: str) -> bool:
        return _within(self.text, version)


@lru_cache(1024)
def _spec(text: str) -> Any:
    if not text:
        raise ValueError("the range is empty")
    with suppress(ValueError):
        return semantic_version.SimpleSpec(text)
    try:
        return semantic_version.NpmSpec(text)
    except AttributeError as error:  # a fault of the library: "x - y" where x is no version
        raise ValueError(f"invalid range: {text!r}") from error


@lru_cache(65_536)
def _within(text: str, version: str) -> bool:
    return bool(_spec(text).match(semantic_version.Version(version)))


@lru_cache(16_384)
def precedence(version: str) -> Any:
    """The sort key of ``version`` by the rules of semantic versions (semver 2.0.0, section 11).

    Raises :class:`ValueError` for a text that is no semantic version.
    """
    parsed = semantic_version.Version(version)
    return parsed.precedence_key[:4]  # the fifth part is the build, which has no precedence

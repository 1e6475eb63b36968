"""Ranges of semantic versions, as operators and npm write them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import semantic_version

#: The longest range that is read.
MAX_RANGE = 200
_AFTER_OPERATOR = re.compile(r"([<>=!~^]=?)\s+")


@dataclass(frozen=True, slots=True)
class VersionRange:
    """Versions between bounds: ``>=1.2,<2`` (:class:`semantic_version.SimpleSpec`) or, as npm
    writes it, ``>=1.2 <2``, ``1.x || >=2.5``, ``1.2 - 2.3`` (:class:`semantic_version.NpmSpec`).

    Build one with :meth:`parse`. Two are equal when they are spelled alike.
    """

    text: str

    @classmethod
    def parse(cls, text: str) -> VersionRange:
        """The range in ``text``; raises :class:`ValueError` where it is none."""
        if len(text) > MAX_RANGE:
            raise ValueError(f"a range has {MAX_RANGE} characters at most")
        spelled = re.sub(r"\s*,\s*", ",", _AFTER_OPERATOR.sub(r"\1", text.strip()))
        _spec(spelled)
        return cls(spelled)

    def __contains__(self, version: str) -> bool:
        return _within(self.text, version)


@lru_cache(1024)
def _spec(text: str) -> Any:
    if not text:
        raise ValueError("the range is empty")
    try:
        return semantic_version.SimpleSpec(text)
    except ValueError:
        pass
    try:
        return semantic_version.NpmSpec(text)
    except AttributeError as error:  # its own slip over "x - y" of what are no versions
        raise ValueError(f"invalid range: {text!r}") from error


@lru_cache(65_536)
def _within(text: str, version: str) -> bool:
    return bool(_spec(text).match(semantic_version.Version(version)))


@lru_cache(16_384)
def precedence(version: str) -> Any:
    """What ``version`` is ordered by (semver 2.0.0, section 11); comparable with its like.

    Raises :class:`ValueError` for what is no semantic version.
    """
    parsed = semantic_version.Version(version)
    return parsed.precedence_key[:4]  # what follows is the build, which has no precedence

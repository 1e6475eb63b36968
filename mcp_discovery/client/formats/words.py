"""What a format cannot say, in words that a model reads in a description."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mcp_discovery.client.formats.values import text

#: What is longer is left out: a description is no place for it.
_LONGEST = 160
_PHRASES = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "exclusiveMinimum": "more than {}",
    "exclusiveMaximum": "less than {}",
    "multipleOf": "a multiple of {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "minProperties": "at least {} members",
    "maxProperties": "at most {} members",
    "pattern": "matches the regular expression {}",
    "default": "{} by default",
    "const": "always {}",
    "format": "format {}",
    "contentEncoding": "encoded as {}",
    "contentMediaType": "of the media type {}",
}
_BARE = frozenset(("pattern", "format", "contentEncoding", "contentMediaType"))


def words(keyword: str, value: Any) -> str | None:
    """What ``keyword: value`` asks for, or ``None`` where that is too long to say."""
    if keyword == "uniqueItems":
        return "no item twice" if value else None
    said = text(value, _LONGEST)
    if said is None or '"$ref"' in said:
        return None
    if keyword == "enum":
        return f"one of {said[1:-1].replace(',', ', ')}"
    if keyword in _BARE:
        said = str(value)
    return _PHRASES.get(keyword, keyword + ": {}").format(said)


def described(description: str | None, hints: Sequence[str]) -> str | None:
    """``description`` with ``hints`` behind it."""
    said = "; ".join(dict.fromkeys(hints))
    if not said:
        return description or None
    return f"{description} ({said})" if description else said


def joined(outer: str | None, inner: str | None) -> str | None:
    """What a part and the only thing in it say of themselves, as one text."""
    if not outer or not inner or inner in outer:
        return outer or inner
    return f"{outer} ({inner})"


def listed(names: Sequence[str], last: str = "and") -> str:
    """``a, b and c``."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} {last} {names[-1]}"

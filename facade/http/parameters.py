"""Reads single values out of a query string, and refuses each bad one with a sentence."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime

from aiohttp import web

from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.nearest import nearest
from mcp_discovery.query.filters import duration

#: How many values one parameter may have.
MAX_VALUES = 256
#: Control characters, and what stands where the bytes were no UTF-8.
_UNREADABLE = re.compile("[\x00-\x1f\x7f\ufffd\ud800-\udfff]")


def every(request: web.Request, name: str) -> list[str]:
    """All values of a parameter that is repeated, without the empty ones.

    Raises :class:`ProblemError` (400) for too many, control characters or broken UTF-8.
    """
    return _checked(name, request.query.getall(name, []))


def listed(request: web.Request, name: str) -> list[str]:
    """The values of a parameter, repeated or separated by commas; raises as :func:`every`."""
    parts = (part for value in request.query.getall(name, []) for part in value.split(","))
    return _checked(name, parts)


def once(request: web.Request, name: str) -> str | None:
    """The one value of a parameter, ``None`` where it is absent or empty.

    Raises as :func:`every`, and where it is given twice with different values.
    """
    return _single(name, every(request, name))


def sentence(request: web.Request, name: str) -> str | None:
    """As :func:`once`, for a text of several lines: what separates its words is one space each."""
    values = [" ".join(value.split()) for value in request.query.getall(name, [])]
    return _single(name, _checked(name, values))


def one_of(name: str, value: str, allowed: Collection[str]) -> str:
    """``value``, if it is ``allowed``; raises :class:`ProblemError` (400), naming the nearest."""
    if value in allowed:
        return value
    near = nearest(value, allowed)
    hint = f"did you mean {near!r}? " if near else ""
    detail = f"{name}={value[:100]!r} is not known; {hint}use one of {', '.join(allowed)}"
    facts = {"nearest": near} if near else {}
    raise ProblemError(400, "unknown-value", detail, parameter=name, **facts)


def seconds(request: web.Request, name: str, *, most: float) -> float:
    """A duration such as ``30s``, ``10m``, ``2h`` or plain seconds; 0 where it is absent.

    Raises :class:`ProblemError` (400) for anything else, and what is not in (0, ``most``] seconds.
    """
    text = once(request, name)
    if text is None:
        return 0.0
    value = duration(text)
    if value is None:
        detail = f"{name}={text[:100]!r} is no duration; write 30s, 10m, 2h or a number of seconds"
        raise ProblemError(400, "bad-duration", detail, parameter=name)
    if not 0 < value <= most:
        detail = f"{name}={text[:100]!r} is out of bounds; it is above 0 and at most {most:g} s"
        raise ProblemError(400, "out-of-bounds", detail, parameter=name, most=most)
    return value


def whole(request: web.Request, name: str, *, least: int, most: int) -> int | None:
    """A whole number between two bounds, ``None`` if absent; raises :class:`ProblemError`."""
    text = once(request, name)
    if text is None:
        return None
    if re.fullmatch(r"\d{1,9}", text, re.ASCII) is None or not least <= int(text) <= most:
        detail = f"{name}={text[:100]!r} is no whole number from {least} to {most}"
        raise ProblemError(400, "out-of-bounds", detail, parameter=name, least=least, most=most)
    return int(text)


def moment(request: web.Request, name: str) -> datetime | None:
    """A time (RFC 3339; in UTC, where it does not say) or a day; ``None`` where it is absent.

    Raises :class:`ProblemError` (400) for anything else.
    """
    text = once(request, name)
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text.replace(" ", "+"))  # a + that was not encoded
        return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        detail = f"{name}={text[:100]!r} is no time; write 2026-01-31 or 2026-01-31T12:00:00Z"
        raise ProblemError(400, "bad-time", detail, parameter=name) from None


def flag(request: web.Request, name: str) -> bool:
    """``true`` or ``false``, false where it is absent; raises :class:`ProblemError` otherwise."""
    text = once(request, name)
    return text is not None and one_of(name, text, ("true", "false")) == "true"


def _single(name: str, given: Sequence[str]) -> str | None:
    if len(set(given)) > 1:
        raise ProblemError(400, "repeated-parameter", f"give {name} once", parameter=name)
    return given[0] if given else None


def _checked(name: str, values: Iterable[str]) -> list[str]:
    found = [part for value in values if (part := value.strip(" "))]
    if len(found) > MAX_VALUES and len(set(found)) > MAX_VALUES:
        detail = f"{name} has {len(found)} values; it may have {MAX_VALUES} at most"
        raise ProblemError(400, "too-many-values", detail, parameter=name, most=MAX_VALUES)
    for value in found:
        if _UNREADABLE.search(value):
            detail = f"{name} has control characters, or bytes that are no UTF-8; leave them out"
            raise ProblemError(400, "unreadable-value", detail, parameter=name)
    return found

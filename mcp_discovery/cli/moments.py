"""Times as people write and read them, in the zone of this machine."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import typer

from mcp_discovery.cli.options import seconds
from mcp_discovery.errors import InvalidInputError

_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_CLOCK = re.compile(r"(?:(.*?)(?:\s+at)?\s+)?(\d{1,2}):(\d{2})(?::(\d{2}))?", re.ASCII)
_AGO = re.compile(r"(.+?)\s*ago", re.ASCII)


def moment(option: str, text: str, now: datetime | None = None) -> datetime:
    """The time that ``text`` means, which was given with ``option``, as it is ``now``.

    That is RFC 3339; a day (2026-11-30, ``today``, ``yesterday``, ``monday``: the last one), with
    or without a time of day behind it; a time of day; or ``2h ago``. Without a zone it is of this
    machine's, and a day alone is its beginning. Raises :class:`InvalidInputError`.
    """
    at = (now or datetime.now()).astimezone()
    words = " ".join(text.lower().split())
    try:
        if words == "now":
            return at
        if (ago := _AGO.fullmatch(words)) is not None:
            return at - timedelta(seconds=seconds(ago[1]))
        if (clock := _CLOCK.fullmatch(words)) is not None:
            day = _day(clock[1] or "today", at)
            time = [int(each or 0) for each in clock.groups()[1:]]
            return day.replace(hour=time[0], minute=time[1], second=time[2]).astimezone()
        if words == "today" or words == "yesterday" or words in _DAYS:
            return _day(words, at).astimezone()
        return datetime.fromisoformat(text.strip()).astimezone()
    except (ValueError, OverflowError, typer.BadParameter):
        problem = f"{option} {text[:60]!r} is no time"
        raise InvalidInputError(
            f"{problem}; write 2026-11-30T16:00, '2026-11-30 16:00', 'yesterday 16:00', 16:00 or "
            "'2h ago'"
        ) from None


def _day(word: str, now: datetime) -> datetime:
    """The beginning of a day, without a zone; raises :class:`ValueError`."""
    today = now.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    if word in ("today", "yesterday"):
        return today - timedelta(days=word == "yesterday")
    if word in _DAYS:
        back = (today.weekday() - _DAYS.index(word)) % 7
        return today - timedelta(days=back or 7)
    return datetime.strptime(word, "%Y-%m-%d")


def shown(moment: datetime, *, beside: datetime | None = None) -> str:
    """``moment`` in this machine's zone, which it names; without the day that it has in common with
    ``beside``."""
    local = moment.astimezone()
    same = beside is not None and beside.astimezone().date() == local.date()
    exact = "%H:%M:%S" if local.second else "%H:%M"
    return local.strftime(f"{exact} %Z" if same else f"%Y-%m-%d {exact} %Z")

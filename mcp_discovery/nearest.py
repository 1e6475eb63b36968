"""Which of the known names somebody probably meant: what every "did you mean" is made from."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

#: So many characters of a name, and so many known names, are compared.
_LENGTH, _KNOWN = 100, 10_000


def nearest(value: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The one of ``known`` that ``value`` was probably meant to be; see :func:`all_nearest`."""
    found = all_nearest(value, known, most=1, cutoff=cutoff)
    return found[0] if found else None


def all_nearest(
    value: str, known: Iterable[str], *, most: int = 3, cutoff: float = 0.6
) -> tuple[str, ...]:
    """Those of ``known`` that ``value`` was probably meant to be, the likeliest first.

    At most ``most``, each with a similarity of at least ``cutoff`` (0 to 1, that of ``difflib``).
    Never ``value`` itself: where that is known and cannot be had, a message has to say why.
    """
    others = sorted({*known} - {value})[:_KNOWN]
    return tuple(difflib.get_close_matches(value[:_LENGTH], others, n=most, cutoff=cutoff))

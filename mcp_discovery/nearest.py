"""Which of the known names somebody probably meant: what every "did you mean" is made from."""

from __future__ import annotations

import difflib
import heapq
from collections.abc import Iterable

#: So many characters of a name, and so many known names, are compared at all; of these so many
#: whole, which takes the square of their length.
_LENGTH, _KNOWN, _WHOLE = 100, 2000, 20


def nearest(value: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The one of ``known`` that ``value`` was probably meant to be; see :func:`all_nearest`."""
    found = all_nearest(value, known, most=1, cutoff=cutoff)
    return found[0] if found else None


def all_nearest(
    value: str, known: Iterable[str], *, most: int = 3, cutoff: float = 0.6
) -> tuple[str, ...]:
    """Those of ``known`` that ``value`` was probably meant to be, the likeliest first.

    At most ``most``, each with a similarity of at least ``cutoff`` (0 to 1, that of ``difflib``).
    Never ``value`` itself: where that is known and cannot be had, a message has to say why. Of very
    many, those that begin alike are looked at.
    """
    text = value[:_LENGTH]
    length = len(text)
    # No two texts are more alike than their lengths are.
    fit = [
        each
        for each in {*known} - {value}
        if 2 * min(length, len(each)) >= cutoff * (length + len(each))
    ]
    if len(fit) > _KNOWN:
        fit = heapq.nsmallest(_KNOWN, fit, key=lambda each: (each[:1] != text[:1], each))
    matcher = difflib.SequenceMatcher()
    matcher.set_seq2(text)
    alike = []
    for each in fit:
        matcher.set_seq1(each)
        if (most_alike := matcher.quick_ratio()) >= cutoff:
            alike.append((most_alike, each))
    found = []
    for _, each in heapq.nlargest(max(_WHOLE, most), alike):
        matcher.set_seq1(each)
        if (ratio := matcher.ratio()) >= cutoff:
            found.append((ratio, each))
    return tuple(each for _, each in heapq.nlargest(most, found))

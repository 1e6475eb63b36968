"""Order of a list, and pages of it that stay right while the list changes.

A cursor says after which entry the next page begins: that entry's sort key and id, not a position.
So an entry that stays as it is stands on exactly one page, whatever comes and goes in between.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeAlias

from mcp_discovery.adapters.view import Entry
from mcp_discovery.facade.http import cursors
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.facade.servers.search_index import ServerRanks
from mcp_discovery.query.ranking import Scales, are_scales
from mcp_discovery.query.versions import precedence

#: What an entry is sorted by, as a cursor can carry it; ``None`` (not known) comes last.
Key: TypeAlias = str | int | float | list[Any] | None

_FORMAT = 2
_NUMBER = int | float


class _Field(NamedTuple):
    kind: Any  # the type of its keys, as isinstance takes it
    key: Callable[[Entry, ServerRanks | None, datetime], Key]


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _load(entry: Entry, _: ServerRanks | None, __: datetime) -> Key:
    load = entry.instance.load
    return None if load is None else load.ratio


_FIELDS: Mapping[str, _Field] = {
    "name": _Field(str, lambda entry, _, __: entry.record.name),
    "id": _Field(str, lambda entry, _, __: entry.id),
    "status": _Field(str, lambda entry, _, __: entry.health.status.value),
    "since": _Field(_NUMBER, lambda entry, _, __: _milliseconds(entry.health.since)),
    "lastSeen": _Field(_NUMBER, lambda entry, _, at: _milliseconds(entry.last_seen(at))),
    "version": _Field(str, lambda entry, _, __: entry.record.version),
    "registeredAt": _Field(_NUMBER, lambda entry, _, __: _milliseconds(entry.record.registered_at)),
    "zone": _Field(str, lambda entry, _, __: entry.record.zone),
    "owner": _Field(str, lambda entry, _, __: entry.record.owner),
    "weight": _Field(_NUMBER, lambda entry, _, __: entry.record.weight),
    "load": _Field(_NUMBER, _load),
    # The best come first without a "-".
    "relevance": _Field(list, lambda entry, ranks, _: ranks.key(entry) if ranks else None),
}
SORTS = tuple(_FIELDS)


@dataclass(frozen=True, slots=True)
class Sort:
    """By which of :data:`SORTS`, and which way; ids decide between equals.

    Entries of which it is not known come last either way.
    """

    field: str = "name"
    descending: bool = False

    @property
    def moves(self) -> bool:
        """Whether the order changes by the clock alone."""
        return self.field == "lastSeen"

    def key(self, entry: Entry, ranks: ServerRanks | None, at: datetime) -> Key:
        """What ``entry`` is sorted by at ``at``."""
        return _FIELDS[self.field].key(entry, ranks, at)

    def ordered(
        self, entries: Sequence[Entry], ranks: ServerRanks | None, at: datetime
    ) -> list[Entry]:
        """``entries`` (by name and id, as a view gives them) in this order."""
        if self == BY_NAME:
            return list(entries)
        keyed = [(self.key(entry, ranks, at), entry) for entry in entries]
        keyed.sort(key=lambda each: each[1].id)
        known = [each for each in keyed if each[0] is not None]
        known.sort(key=lambda each: self._comparable(each[0]), reverse=self.descending)
        return [entry for _, entry in known] + [entry for key, entry in keyed if key is None]

    def after(self, entries: Sequence[Entry], cursor: Cursor, ranks: ServerRanks | None) -> int:
        """The position in ordered ``entries`` of the first behind ``cursor``."""
        last = self._comparable(cursor.key)

        def is_after(entry: Entry) -> bool:
            key = self._comparable(self.key(entry, ranks, cursor.at))
            if key is None or last is None:
                return entry.id > cursor.id if key is last else key is None
            if key == last:
                return entry.id > cursor.id
            return bool(key < last if self.descending else key > last)

        return bisect_left(entries, True, key=is_after)

    def fits(self, key: Any) -> bool:
        """Whether ``key`` may be one of this order's."""
        if key is None:
            return True
        if not isinstance(key, _FIELDS[self.field].kind) or isinstance(key, bool):
            return False
        try:
            self._comparable(key)
        except ValueError:
            return False
        return True

    def _comparable(self, key: Key) -> Any:
        return precedence(str(key)) if self.field == "version" and key is not None else key


#: The order of a list unless another is requested.
BY_NAME = Sort()


@dataclass(frozen=True, slots=True)
class Cursor:
    """Behind which entry a page begins.

    ``fingerprint`` is that of the request, ``at`` the moment of the first page, by
    which what moves with the clock stays sorted as it was, ``limit`` the length of the page.
    ``scales`` are those of its search, by which scores stay as they were.
    """

    fingerprint: str
    at: datetime
    key: Key
    id: str
    limit: int
    scales: Scales = ()

    def encode(self) -> str:
        """The cursor as URL-safe text."""
        at = _milliseconds(self.at)
        parts = [_FORMAT, self.fingerprint, at, self.key, self.id, self.limit, self.scales]
        return cursors.encode(*parts)

    @classmethod
    def decode(cls, text: str, sort: Sort, fingerprint: str) -> Cursor:
        """The cursor in ``text``; :class:`ProblemError` (400) if bad or of another fingerprint."""
        match cursors.decode(text):
            case [int(version), str(made_for), int(at), key, str(id), int(limit), list(scales)] if (
                version == _FORMAT
                and 0 <= at < 10**14
                and 1 <= limit <= 1000
                and are_scales(scales)
            ):
                pass
            case _:
                raise _bad("this cursor was not made here; start again without a cursor")
        if made_for != fingerprint:
            raise _bad(
                "this cursor is of another question; send it with the same filters and sort, or "
                "start again without a cursor"
            )
        if not sort.fits(key):
            raise _bad("this cursor was changed on its way; start again without a cursor")
        moment = datetime.fromtimestamp(at / 1000, UTC)
        return cls(made_for, moment, key, id, limit, tuple(scales))


def _bad(detail: str) -> ProblemError:
    return ProblemError(400, "bad-cursor", detail, parameter="cursor")

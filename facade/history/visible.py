"""What of a history a caller sees: what it could have seen while it was so.

An instance that was hidden from the caller was not there for it, as one that had left the list.
What is partly visible has the digest of what was visible of its document, and what changed of the
rest is no change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple, overload

from cachetools import LRUCache

from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import InvalidDocumentError
from mcp_discovery.facade.access.rights import Grant, Rights
from mcp_discovery.facade.access.trimming import trim
from mcp_discovery.facade.history.change import LOST, Period, State, moment_of, record_of
from mcp_discovery.facade.history.store import HistoryStore
from mcp_discovery.facade.http.pauses import sliced

#: The status of an instance that is not listed (any more), and why, by how it was before.
GONE = "gone"
_WHY_GONE = {
    "draining": "it was drained, and has left",
    "down": "it was down, and was removed",
    "degraded": "it has left the list",
}
_LEFT = "it was deregistered"
#: Of how many trimmed documents the digest is cached, and how many bytes of documents.
_CACHED, _CACHED_BYTES = 4096, 8 * 2**20


@dataclass(frozen=True, slots=True)
class ShownChange:
    """How the instance ``id`` was from ``at`` until ``until`` (``None``: it still is).

    ``status`` is ``gone`` where it was not listed; then it has no ``since``, ``digest`` and
    ``state``, which is not for callers. ``changed`` are the names of what became different, or
    ``registered`` for one that came.
    """

    id: str
    name: str
    at: datetime
    until: datetime | None
    status: str
    reason: str
    since: datetime | None
    digest: str | None
    version: str
    url: str | None
    registrant: dict[str, Any]
    changed: tuple[str, ...]
    state: State | None = field(repr=False, compare=False)


class _Seen(NamedTuple):
    """A state, and the digest of what of its document is seen."""

    state: State
    digest: str | None


class Seen:
    """Reads a history for callers."""

    def __init__(self, store: HistoryStore) -> None:
        self._store = store
        #: ``None``: nothing of it is seen, or it is not kept.
        self._digests: LRUCache[tuple[str, tuple[Grant, ...]], str | None] = LRUCache(_CACHED)
        self._documents: LRUCache[str, CapabilityDocument] = LRUCache(
            _CACHED_BYTES, getsizeof=lambda document: len(document.canonical)
        )

    async def changes(self, periods: Iterable[Period], rights: Rights) -> list[ShownChange]:
        """What a caller with ``rights`` sees of ``periods``, oldest first."""
        found: list[ShownChange] = []
        ordered = await asyncio.to_thread(sorted, periods, key=attrgetter("instance", "at"))
        seen: list[tuple[Period, _Seen]] = []
        everything = rights.sees_all
        async for each in sliced(ordered):
            whole = _Seen(each.state, each.state.digest) if everything else None
            if (shown := whole or await self._seen(each.state, rights)) is not None:
                seen.append((each, shown))
        instances = groupby(seen, key=lambda pair: pair[0].instance)
        async for _, of_one in sliced(instances):
            found += await _merged(list(of_one))
        return await asyncio.to_thread(sorted, found, key=attrgetter("at", "id"))

    async def document(self, state: State, rights: Rights) -> CapabilityDocument | None:
        """What a caller sees of what an instance offered that was so; ``None`` where that is not
        kept."""
        document = await self._read(state.document)
        if document is None or document.digest != state.digest:  # nothing but names
            return None
        grants = self._grants(state, rights)
        return trim(document, grants) if grants else document

    async def _seen(self, state: State, rights: Rights) -> _Seen | None:
        grants = self._grants(state, rights)
        if grants is None:
            return None
        if not grants:
            return _Seen(state, state.digest)
        key = state.document, grants
        if key not in self._digests:
            document = await self._read(state.document)
            if document is None:
                return None
            trimmed = await asyncio.to_thread(trim, document, grants)
            offers = any(trimmed.names().values())
            whole = document.digest == state.digest  # or nothing but names is known of it
            self._digests[key] = (trimmed.digest if whole else "") if offers else None
        digest = self._digests[key]
        return None if digest is None else _Seen(state, digest or None)

    def _grants(self, state: State, rights: Rights) -> tuple[Grant, ...] | None:
        """Those that an instance which was so is seen by in part; none where it is as a whole, and
        ``None`` where it is not."""
        found = tuple(dict.fromkeys(rights.covering("read", record_of(state), state.owner)))
        if not found:
            return None
        return () if any(not each.is_partial for each in found) else found

    async def _read(self, key: str) -> CapabilityDocument | None:
        if (known := self._documents.get(key)) is not None:
            return known
        content = await self._store.document(key) or await self._store.document(LOST + key)
        if content is None:
            return None
        try:
            document = await asyncio.to_thread(CapabilityDocument.from_compressed, content)
        except InvalidDocumentError:
            return None
        if len(document.canonical) <= _CACHED_BYTES // 4:
            self._documents[key] = document
        return document


async def _merged(periods: Sequence[tuple[Period, _Seen]]) -> list[ShownChange]:
    """Of one instance: without what took no millisecond, and equal ones joined."""
    kept = [
        each
        for each in periods
        if (until := each[0].until) is None or until // 1000 > each[0].at // 1000
    ]
    found: list[ShownChange] = []
    before: tuple[Period, _Seen] | None = None
    async for each in sliced(kept):
        period, seen = each
        connected = before is not None and _whole(before[0].until) == _whole(period.at)
        if before is not None and connected and _alike(before[1], seen):
            joined = Period(period.instance, before[0].at, period.until, before[1].state)
            found[-1] = _shown(joined, before[1], found[-1].changed)
            before = joined, before[1]
            continue
        if before is not None and not connected:
            found.append(_gone(before, period.at))
        changed = _changed(before[1], seen) if before is not None and connected else ("registered",)
        found.append(_shown(period, seen, changed))
        before = each
    if before is not None and before[0].until is not None:
        found.append(_gone(before, None))
    return found


def _gone(before: tuple[Period, _Seen], until: int | None) -> ShownChange:
    period, state = before[0], before[1].state
    assert period.until is not None
    why = _WHY_GONE.get(state.status, _LEFT)
    return ShownChange(
        *(period.instance, state.name, _whole(period.until), _whole(until), GONE, why, None, None),
        *(state.version, state.url, state.registrant, ("status",), None),
    )


def _shown(period: Period, seen: _Seen, changed: tuple[str, ...]) -> ShownChange:
    state, until = seen.state, period.until
    return ShownChange(
        *(period.instance, state.name, _whole(period.at), _whole(until), state.status),
        *(state.reason, moment_of(state.since), seen.digest, state.version, state.url),
        *(state.registrant, changed, state),
    )


@overload
def _whole(micros: int) -> datetime: ...
@overload
def _whole(micros: int | None) -> datetime | None: ...
def _whole(micros: int | None) -> datetime | None:
    """The moment in whole milliseconds, as it is shown."""
    return None if micros is None else moment_of(micros // 1000 * 1000)


def _facts(seen: _Seen) -> dict[str, Any]:
    state = seen.state
    return {
        "status": state.status,
        "reason": state.reason,
        "since": state.since,
        "version": state.version,
        "digest": seen.digest,
        "url": state.url,
        "registrant": state.registrant,
        "name": state.name,
    }


def _alike(one: _Seen, other: _Seen) -> bool:
    if one.digest != other.digest or one.state.reason != other.state.reason:
        return False
    return one.state == other.state or _facts(one) == _facts(other)


def _changed(before: _Seen, now: _Seen) -> tuple[str, ...]:
    was, is_ = _facts(before), _facts(now)
    names = [name for name in is_ if was[name] != is_[name]]
    # Since when it has been so follows from the status, unless that is the same again.
    return tuple(name for name in names if name != "since" or len(names) == 1)

"""What a history answers to the caller of a request, as plain data."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, TypeVar

from aiohttp import web

from mcp_discovery.adapters.live_list import LiveList
from mcp_discovery.facade.access.audit.journal import AuditLogError
from mcp_discovery.facade.access.caller import caller_of
from mcp_discovery.facade.history.availability import (
    Availability,
    Watched,
    availability,
    unwatched,
)
from mcp_discovery.facade.history.change import micros, moment_of
from mcp_discovery.facade.history.diff import DocumentDiff, diff
from mcp_discovery.facade.history.recorder import Recorder
from mcp_discovery.facade.history.store import (
    IN_MEMORY,
    LEAD,
    MOST_READ,
    STORED,
    HistoryStore,
    MemoryStore,
    Of,
)
from mcp_discovery.facade.history.visible import GONE, Seen, ShownChange
from mcp_discovery.facade.http.cursors import decode, encode
from mcp_discovery.facade.http.pauses import sliced
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.facade.servers.current_list import unknown, view_of
from mcp_discovery.health import PREFERENCE, utcnow

if TYPE_CHECKING:
    from mcp_discovery.facade.access.audit.database import DatabaseLog

T = TypeVar("T")
DAY, MONTH = timedelta(days=1), timedelta(days=30)
#: For how many seconds an answer waits for what happened before it was asked for.
_SETTLE = 2.0
_EVER = 2**62


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """What became of a server (``of``), or an instance. ``changes`` and ``unwatched`` are newest
    first; ``since`` is how far back anything is known; ``cursor`` leads on, where there are more
    changes. ``kept`` says where: in a ``store``, or in ``memory``, and so since the facade began.
    """

    of: Of
    name: str
    kept: str
    since: datetime | None
    changes: tuple[ShownChange, ...]
    unwatched: tuple[Watched, ...]
    day: Availability
    month: Availability
    cursor: str | None


@dataclass(frozen=True, slots=True)
class HistoryMoment:
    """How a server, or an instance, was at a moment.

    ``status`` is the best of its ``instances``, ``gone`` where it was not listed, and ``None``
    where nothing is known. ``unwatched`` is the time around the moment in which nobody watched;
    then the instances are as they were known last.
    """

    of: Of
    name: str
    at: datetime
    status: str | None
    instances: tuple[ShownChange, ...]
    unwatched: Watched | None


@dataclass(frozen=True, slots=True)
class DocumentVersion:
    """One of the documents that a server has had. ``last_seen`` is ``None`` while it is offered,
    ``versions`` are those that were registered with it; ``is_kept``: it can be compared."""

    digest: str
    versions: tuple[str, ...]
    first_seen: datetime
    last_seen: datetime | None
    instances: tuple[str, ...]
    is_kept: bool


class History:
    """The history of one facade over ``catalog``: who writes it, and what callers see of it.

    It is kept for ``keep`` seconds in ``log``, the store of an audit, and without one in memory.
    """

    def __init__(self, catalog: LiveList, keep: float, log: DatabaseLog | None) -> None:
        if log is None:
            self.store: HistoryStore = MemoryStore(
                replace(IN_MEMORY, keep=min(keep, IN_MEMORY.keep))
            )
        else:
            from mcp_discovery.facade.history.database import StoredHistory

            self.store = StoredHistory(log, replace(STORED, keep=keep))
        self.recorder = Recorder(catalog, self.store)
        self.seen = Seen(self.store)


HISTORY = web.AppKey("history", History)


async def history_of(
    request: web.Request,
    name: str,
    *,
    of: Of | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 100,
    cursor: str | None = None,
) -> HistoryPage:
    """What became of the server ``name``, or else of the instance with that id.

    Raises :class:`ProblemError`: 404 where the caller has never seen such a one, or nothing is
    kept; 400 for a bad cursor; 503 while the history cannot be read.
    """
    history = await _of(request)
    spans, now = await _watched(history), utcnow()
    known, changes, whole = await _changes(request, history, name, of)
    first = spans[0].began if spans else None
    complete = _clipped(spans, whole)
    day, month = [
        await asyncio.to_thread(availability, changes, complete, now - back, now)
        for back in (DAY, MONTH)
    ]
    wanted = [
        each
        for each in reversed(changes)
        if (until is None or each.at < until)
        and (since is None or each.until is None or each.until > since)
    ]
    page, further = _page(wanted, limit, cursor)
    seen = changes[0].at if changes else now
    earliest = seen if since is None or since < seen else since
    gaps = unwatched(spans, earliest, until or now)
    return HistoryPage(
        *(known, name, history.store.kind, first, tuple(page), tuple(gaps), day, month, further)
    )


async def moment_of_history(
    request: web.Request, name: str, at: datetime, *, of: Of | None = None
) -> HistoryMoment:
    """How the server ``name``, or the instance with that id, was ``at`` a moment; raises as
    :func:`history_of` does."""
    history = await _of(request)
    spans = await _watched(history)
    known, changes, whole = await _changes(request, history, name, of, at)
    if at > (now := utcnow()):
        detail = f"{at.isoformat()} has not come yet; ask for a time before {now.isoformat()}"
        raise ProblemError(400, "bad-time", detail, parameter="at")
    gap = next((each for each in unwatched(spans, None, now) if _covers(each, at)), None)
    if not spans or at < spans[0].began:
        first = spans[0].began if spans else now
        return HistoryMoment(known, name, at, None, (), Watched(at, first))
    reference = at if gap is None else gap.began
    there = [
        each
        for each in changes
        if each.at <= reference and (each.until is None or each.until > reference)
    ]
    order = {status.value: number for number, status in enumerate(PREFERENCE)}
    there.sort(key=lambda each: (order.get(each.status, len(order)), each.id))
    if at < whole:
        return HistoryMoment(known, name, at, None, tuple(there), Watched(at, whole))
    return HistoryMoment(known, name, at, there[0].status if there else GONE, tuple(there), gap)


async def documents_of(
    request: web.Request, name: str, *, of: Of | None = None
) -> tuple[Of, list[DocumentVersion]]:
    """The documents that the server ``name``, or the instance with that id, has had, newest first;
    raises as :func:`history_of` does."""
    history = await _of(request, documents=True)
    known, changes, _ = await _changes(request, history, name, of)
    versions = _by_digest(changes)
    states = {digest: having[-1].state for digest, having in versions.items()}
    keys = {digest: state.document for digest, state in states.items() if state is not None}
    kept = await _reading(history.store.kept(keys.values()))
    found: list[DocumentVersion] = []
    for digest, having in versions.items():
        untils = [each.until for each in having]
        last = None if None in untils else max(filter(None, untils))
        found.append(
            DocumentVersion(
                digest,
                tuple(dict.fromkeys(each.version for each in having)),
                *(min(each.at for each in having), last),
                tuple(sorted({each.id for each in having})),
                keys[digest] in kept,
            )
        )
    found.sort(key=lambda each: (each.first_seen, each.digest), reverse=True)
    return known, found


async def diff_of(
    request: web.Request, name: str, newer: str, older: str | None, *, of: Of | None = None
) -> DocumentDiff:
    """How the document ``newer`` of a server differs from ``older``, or from the one that it had
    before; raises as :func:`history_of` does, and 404 where one of them is not kept."""
    history, rights = await _of(request, documents=True), caller_of(request).rights
    _, changes, _ = await _changes(request, history, name, of)
    known = _by_digest(changes)
    if older is None:
        offered = [digest for digest, _ in groupby(filter(None, (c.digest for c in changes)))]
        places = [n for n, digest in enumerate(offered) if digest == newer]
        if places == [0]:
            detail = f"{newer} is the first document of {name!r} that is known; give with=DIGEST"
            raise ProblemError(404, "document-not-found", detail, digest=newer)
        older = offered[places[-1] - 1] if places else ""
    both = []
    for digest in (older, newer):
        state = known[digest][-1].state if digest in known else None
        document = None
        if state is not None:
            document = await _reading(history.seen.document(state, rights))
        if document is None:
            missing = digest or newer
            detail = f"no document {missing[:64]} of {name[:100]!r} is kept; "
            detail += f"GET /servers/{name[:100]}/documents lists those that are"
            raise ProblemError(404, "document-not-found", detail, digest=missing[:64])
        both.append(document)
    return await asyncio.to_thread(diff, both[0], both[1])


async def _of(request: web.Request, *, documents: bool = False) -> History:
    """The history, up to this moment, if need be with all ``documents``."""
    found = request.app.get(HISTORY)
    if found is None:
        detail = "no history is kept here; start the facade without --history-keep 0"
        raise ProblemError(404, "history-off", detail)
    view_of(request)  # raises until there is a first list
    # Of what is seen in part, documents tell what.
    documents |= not caller_of(request).rights.sees_all
    await found.recorder.caught_up(_SETTLE, documents=documents)
    if (why := found.recorder.never_written) is not None:
        raise _unavailable(why)
    return found


async def _reading(reading: Awaitable[T]) -> T:
    try:
        return await reading
    except AuditLogError as error:
        raise _unavailable(str(error)) from error


def _unavailable(why: str) -> ProblemError:
    detail = f"the history cannot be read now: {why}; try again soon"
    return ProblemError(503, "history-unavailable", detail)


async def _watched(history: History) -> list[Watched]:
    """When the list was watched; the last time lasts where it still is, be it by another facade."""
    spans = await _reading(history.store.spans())
    found = [Watched(moment_of(each.began), moment_of(each.ended)) for each in spans]
    ended = found[-1].ended if found else None
    if ended is None:
        return found
    lately = not history.recorder.is_stale and (utcnow() - ended).total_seconds() < LEAD
    if history.recorder.is_writing or lately:
        found[-1] = Watched(found[-1].began, None)
    keep = timedelta(seconds=history.store.bounds.keep)
    cut = moment_of(await _reading(history.store.cut()))
    return _clipped(found, max(cut, utcnow() - keep))


def _clipped(spans: Sequence[Watched], since: datetime) -> list[Watched]:
    """``spans`` as far as they are after ``since``."""
    kept = (each for each in spans if each.ended is None or each.ended > since)
    return [Watched(max(each.began, since), each.ended) for each in kept]


async def _changes(
    request: web.Request, history: History, name: str, of: Of | None, at: datetime | None = None
) -> tuple[Of, list[ShownChange], datetime]:
    """Of what ``name`` is, what the caller sees of it, oldest first, and since when that is all:
    there may be more than is kept, or read. With ``at`` what is read is what came before that
    moment, if need be.
    """
    kinds: tuple[Of, ...] = ("server", "instance")
    for kind in kinds:
        if of not in (None, kind):
            continue
        found, kept, read = await _changes_until(request, history, kind, name, _EVER)
        if found and at is not None and at < read:
            before = micros(at) + 1
            found, _, read = await _changes_until(request, history, kind, name, before)
            return kind, found, max(kept, read)
        if found:
            return kind, found, max(kept, read)
    view, ever = view_of(request), moment_of(0)
    if of != "instance" and name in view.keys("name"):  # nothing is written of it yet
        return "server", [], ever
    if of != "server" and name in view.entries:
        return "instance", [], ever
    raise unknown(name)


async def _changes_until(
    request: web.Request, history: History, kind: Of, name: str, until: int
) -> tuple[list[ShownChange], datetime, datetime]:
    """What the caller sees of what came before ``until``; since when all of that is kept, and since
    when it is read."""
    store, rights = history.store, caller_of(request).rights
    periods, read = await _reading(store.periods(kind, name, 0, until)), 0
    if len(periods) >= MOST_READ:  # what was so already then is wanted, too
        read = periods[0].at
        lasting = await _reading(store.periods(kind, name, read, read + 1))
        both = {(each.instance, each.at): each for each in (*lasting, *periods)}
        periods = tuple(both.values())
    found = await _reading(history.seen.changes(periods, rights))
    seen = {each.id for each in found}
    firsts: dict[str, int] = {}
    counts: Counter[str] = Counter()
    async for each in sliced(periods):
        if each.instance in seen:
            firsts[each.instance] = min(firsts.get(each.instance, each.at), each.at)
            counts[each.instance] += 1
    cut = (firsts[id] for id, number in counts.items() if number >= store.bounds.each)
    return found, moment_of(max(cut, default=0)), moment_of(read)


def _by_digest(changes: Sequence[ShownChange]) -> dict[str, list[ShownChange]]:
    """Those with a document, by its digest, in the order in which they came."""
    found: dict[str, list[ShownChange]] = {}
    for each in changes:
        if each.digest is not None:
            found.setdefault(each.digest, []).append(each)
    return found


def _page(
    changes: Sequence[ShownChange], limit: int, cursor: str | None
) -> tuple[Sequence[ShownChange], str | None]:
    """The first of ``changes``, which are newest first, and where the next ones begin: behind so
    many of those of one moment, so that it tells nothing of what a caller does not see."""
    if cursor is not None:
        match decode(cursor):
            case [int(at), int(skipped)]:
                before = [each for each in changes if micros(each.at) <= at]
                same = sum(micros(each.at) == at for each in before)
                changes = before[min(skipped, same) :]
            case _:
                detail = "cursor is none of this list; start over without"
                raise ProblemError(400, "unknown-cursor", detail, parameter="cursor")
    page = changes[:limit]
    if len(changes) <= limit:
        return page, None
    last = page[-1].at
    skipped_ = sum(each.at == last for each in page)
    if cursor is not None and decode(cursor)[0] == micros(last):
        skipped_ += decode(cursor)[1]
    return page, encode(micros(last), skipped_)


def _covers(gap: Watched, at: datetime) -> bool:
    return gap.began <= at and (gap.ended is None or at < gap.ended)

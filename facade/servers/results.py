"""Answers questions for the list: selects, orders, cuts, spells, and remembers what is asked often.

Nothing here knows of HTTP. An answer belongs to one view of the list and never changes, but for
``lastSeen``, which is put in when its bytes are asked for.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from operator import attrgetter
from types import TracebackType
from typing import Any, Self

import orjson

from mcp_discovery.adapters.catalog import Catalog
from mcp_discovery.adapters.view import Entry, View
from mcp_discovery.facade.http.etag import tag_of
from mcp_discovery.facade.servers import list_json
from mcp_discovery.facade.servers.paging import Cursor, Scores
from mcp_discovery.facade.servers.query import MAX_LIMIT, ServerQuery
from mcp_discovery.facade.servers.search_index import Searching
from mcp_discovery.health import Status, rfc3339

#: How many selections, and how many bytes of answers, are kept for those who ask the same.
_SELECTIONS = 128
_ANSWER_BYTES = 32 * 2**20
#: For how many answers it is remembered what they were.
_TAGS = 16_384


@dataclass(frozen=True, slots=True)
class Selection:
    """All that match, in order, as of one view; ``due`` is when that changes by the clock alone."""

    view: View
    known: int
    at: datetime
    entries: Sequence[Entry]
    scores: Scores
    due: datetime | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered to one question.

    ``tag`` is the same for as long as the list that was asked for is, but for ``lastSeen``;
    ``etag`` also minds what stands beside the list. ``parts`` are entries cut down to some fields,
    empty where they are whole.
    """

    selection: Selection
    tag: str
    etag: str
    entries: Sequence[Entry]
    parts: tuple[bytes, ...]
    tells_last_seen: bool
    members: dict[str, object]

    @property
    def view(self) -> View:
        """The view that it is of."""
        return self.selection.view

    @property
    def position(self) -> str:
        """Of which state of the list it is: ``<epoch>:<revision>``."""
        return list_json.position(self.view)

    def body(self, now: datetime) -> bytes:
        """The JSON as of ``now``."""
        if self.parts:
            items = list(self.parts)
            if self.tells_last_seen:
                items = [
                    b'%b,"lastSeen":"%b"}' % (part[:-1], rfc3339(entry.last_seen(now)).encode())
                    for part, entry in zip(items, self.entries, strict=True)
                ]
            servers = b"[" + b",".join(items) + b"]"
        else:
            servers = list_json.joined(self.entries, now)
        return list_json.with_members(b'{"servers":' + servers + b"}", self.members)


class Lists:
    """All answers from one catalog. Use it as ``async with``.

    What was selected is kept while the view stays; what was spelled is kept for a second, so that
    a list that many ask for is made once.
    """

    def __init__(self, catalog: Catalog, searching: Searching) -> None:
        self._catalog = catalog
        self._searching = searching
        self._selections: OrderedDict[tuple[str, int], Selection] = OrderedDict()
        self._answers: OrderedDict[str, Answer] = OrderedDict()
        self._bodies: OrderedDict[tuple[str, str, int], bytes] = OrderedDict()
        self._bodies_size = 0
        self._tags: OrderedDict[tuple[str, str], str] = OrderedDict()
        #: How many selections were made rather than remembered.
        self.selected = 0

    async def __aenter__(self) -> Self:
        await self._searching.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._searching.__aexit__(kind, error, trace)

    @property
    def documents_known(self) -> int:
        """Of how many documents the descriptions are searched."""
        return self._searching.documents_known

    async def answer(self, asked: ServerQuery) -> Answer:
        """The answer as the list is now."""
        scores: Scores | None = None
        if asked.words:
            scores = await self._searching.scores(asked.words)
        # From here to the end nothing is awaited: what is answered is of this view.
        selection = self._select(asked, scores)
        known = self._answers.get(asked.key)
        if known is None or known.selection is not selection:
            known = self._compose(asked, selection)
            self._answers[asked.key] = known
            if len(self._answers) > _SELECTIONS:
                self._answers.popitem(last=False)
        self._answers.move_to_end(asked.key)
        self._remember(asked, known)
        return known

    def body(self, asked: ServerQuery, answer: Answer) -> bytes:
        """The JSON of ``answer``, at most a second old."""
        now = answer.view.as_of
        key = asked.key, answer.etag, int(now.timestamp())
        if (made := self._bodies.get(key)) is None:
            made = self._bodies[key] = answer.body(now)
            self._bodies_size += len(made)
            while self._bodies_size > _ANSWER_BYTES or len(self._bodies) > 4 * _SELECTIONS:
                self._bodies_size -= len(self._bodies.popitem(last=False)[1])
        return made

    def tag_at(self, asked: ServerQuery, index: tuple[str, int]) -> str | None:
        """The tag of what was answered to the same question at ``index``; ``None``: not known."""
        epoch, revision = index
        return self._tags.get((asked.key, f"{epoch}:{revision}"))

    def _remember(self, asked: ServerQuery, answer: Answer) -> None:
        self._tags[asked.key, answer.position] = answer.tag
        self._tags.move_to_end((asked.key, answer.position))
        if len(self._tags) > _TAGS:
            self._tags.popitem(last=False)

    def _select(self, asked: ServerQuery, scores: Scores | None) -> Selection:
        view = self._catalog.view
        at = asked.cursor.at if asked.cursor is not None else view.as_of
        now = view.as_of
        # The same for all but those whose order moves with the time.
        sorted_at = int(at.timestamp() * 1000) if asked.sort.moves else 0
        key = asked.fingerprint, sorted_at
        known = self._searching.documents_known
        found = self._selections.get(key)
        if (
            found is None
            or found.view is not view
            or (found.due is not None and found.due <= now)
            or (asked.words and found.known != known)
        ):
            entries = view.select(asked.query, among=scores, now=now)
            ordered = asked.sort.ordered(entries, scores or {}, at)
            due = _due(view, asked, scores, now) if asked.query.min_uptime else None
            found = Selection(view, known, at, ordered, scores or {}, due)
            self.selected += 1
            self._selections[key] = found
            if len(self._selections) > _SELECTIONS:
                self._selections.popitem(last=False)
        self._selections.move_to_end(key)
        return found

    def _compose(self, asked: ServerQuery, selection: Selection) -> Answer:
        view, entries = selection.view, selection.entries
        members: dict[str, object] = {}
        if asked.limit is not None:
            start = 0
            if asked.cursor is not None:
                start = asked.sort.after(entries, asked.cursor, selection.scores)
            page = entries[start : start + asked.limit]
            members["total"] = len(entries)
            if start + asked.limit < len(entries):
                key = asked.sort.key(page[-1], selection.scores, selection.at)
                cursor = Cursor(asked.fingerprint, selection.at, key, page[-1].id, asked.limit)
                members["nextCursor"] = cursor.encode()
            entries = page
        parts = _picked(entries, asked.fields, view.as_of) if asked.fields is not None else ()
        content = b"".join(parts or [entry.digest for entry in entries])
        tag = tag_of(asked.key, content, members.get("total"), "nextCursor" in members)
        beside: dict[str, object] = dict(list_json.staleness(view))
        if asked.explain:
            beside |= _left_out(asked, selection)
        return Answer(
            selection=selection,
            tag=tag,
            etag=tag_of(tag, beside),
            entries=entries,
            parts=parts,
            tells_last_seen=asked.fields is not None and "lastSeen" in asked.fields,
            members=members | beside,
        )


def _picked(entries: Sequence[Entry], fields: Sequence[str], now: datetime) -> tuple[bytes, ...]:
    """Each entry with these of its fields alone, and without ``lastSeen``."""
    wanted = frozenset(fields) - {"lastSeen"}
    found = []
    for entry in entries:
        whole: dict[str, Any] = orjson.loads(entry.json(now))
        found.append(orjson.dumps({name: whole[name] for name in whole if name in wanted}))
    return tuple(found)


def _left_out(asked: ServerQuery, selection: Selection) -> dict[str, object]:
    """For each instance that is left out, by name and id, which filters it fails."""
    view = selection.view
    inside = {entry.id for entry in selection.entries}
    outside = [entry for entry in view if entry.id not in inside]
    most = asked.limit or MAX_LIMIT
    excluded = []
    for entry in heapq.nsmallest(most, outside, key=attrgetter("order")):
        failed = asked.query.failed(entry.instance, view.as_of)
        if asked.words and entry.id not in selection.scores:
            failed.append("q")
        excluded.append(
            {
                "id": entry.id,
                "name": entry.record.name,
                "filters": failed,
                "status": entry.health.status.value,
                "reason": entry.health.reason,
            }
        )
    return {"excluded": excluded, "totalExcluded": len(outside)}


def _due(view: View, asked: ServerQuery, scores: Scores | None, now: datetime) -> datetime | None:
    """When the next instance will have been up for as long as is asked for."""
    wanted = asked.query.min_uptime
    candidates = view.select(replace(asked.query, min_uptime=0.0), among=scores, now=now)
    times = (
        entry.health.since + timedelta(seconds=wanted)
        for entry in candidates
        if entry.health.status is not Status.DOWN
    )
    return min((each for each in times if each > now), default=None)

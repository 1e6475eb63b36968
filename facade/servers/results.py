"""Answers list requests: selects, sorts, pages and serializes, and caches each of these steps.

A result belongs to one view of the list and never changes, but for ``lastSeen``, which is set when
it is serialized.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any

import orjson
from cachetools import LRUCache

from mcp_discovery.adapters.live_list import LiveList
from mcp_discovery.adapters.view import Entry, View
from mcp_discovery.facade.access.parts import Part
from mcp_discovery.facade.http.etag import tag_of
from mcp_discovery.facade.http.prepared import PreparedResponse
from mcp_discovery.facade.servers import list_json
from mcp_discovery.facade.servers.namesakes import shared_name
from mcp_discovery.facade.servers.paging import Cursor
from mcp_discovery.facade.servers.query import MAX_LIMIT, ServerQuery
from mcp_discovery.facade.servers.search_index import MANY, ServerRanks, ServerSearch, aside
from mcp_discovery.facade.servers.unmatched import of_other_status, unknown_values
from mcp_discovery.health import Status, rfc3339
from mcp_discovery.query.ranking import Scales

#: How many selections, and how many results, are cached for requests for the same.
_SELECTIONS = 128
#: How many bytes of prepared responses are cached.
_RESPONSE_BYTES = 32 * 2**20
#: Of how many results the tag is remembered, for long polls that name their revision.
_TAGS = 16_384


@dataclass(frozen=True, slots=True)
class ListSelection:
    """All that match, in order, as of one view; ``due`` is when that changes by the clock alone."""

    view: View
    known: int
    at: datetime
    entries: Sequence[Entry]
    ranks: ServerRanks | None
    due: datetime | None


@dataclass(frozen=True, slots=True)
class ListResult:
    """The servers that one request is answered with.

    ``tag`` is the same for as long as the requested list is, but for ``lastSeen``; ``etag`` also
    depends on the members beside the list. ``parts`` are entries cut down to some fields, empty
    where they are whole; ``whys`` are their members ``why``, empty where none is shown.
    """

    selection: ListSelection
    tag: str
    etag: str
    entries: Sequence[Entry]
    parts: tuple[bytes, ...]
    whys: tuple[bytes, ...]
    has_last_seen: bool
    members: dict[str, object]

    @property
    def position(self) -> str:
        """Of which state of the list it is: ``<epoch>:<revision>``."""
        return list_json.position(self.selection.view)

    def body(self, now: datetime) -> bytes:
        """The JSON as of ``now``."""
        if self.parts or self.whys:
            items = list(self.parts) or [entry.json(now) for entry in self.entries]
            if self.has_last_seen:
                items = [
                    b'%b,"lastSeen":"%b"}' % (part[:-1], rfc3339(entry.last_seen(now)).encode())
                    for part, entry in zip(items, self.entries, strict=True)
                ]
            if self.whys:
                items = [
                    b"%b,%b}" % (item[:-1], why) for item, why in zip(items, self.whys, strict=True)
                ]
            servers = b"[" + b",".join(items) + b"]"
        else:
            servers = list_json.joined(self.entries, now)
        return list_json.with_members(b'{"servers":' + servers + b"}", self.members)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A prepared response: the result that it is of, and the second of its ``lastSeen``.

    ``view``: all requests for the same have this response while that is the catalog's view.
    """

    result: ListResult
    second: int
    view: View | None
    response: PreparedResponse


def _size(prepared: _Prepared) -> int:
    """About how many bytes it holds, its compressed form included."""
    return 2 * len(prepared.response.body) + 4096


class ServerLists:
    """The results for one catalog.

    A selection is cached for as long as the view stays, a prepared response for a second at most,
    so that a list that many ask for is serialized once.
    """

    def __init__(self, catalog: LiveList, search: ServerSearch) -> None:
        self._catalog = catalog
        self.search = search
        self._selections: LRUCache[tuple[str, int, Scales], ListSelection] = LRUCache(_SELECTIONS)
        self._results: LRUCache[str, ListResult] = LRUCache(_SELECTIONS)
        self._prepared: LRUCache[str, _Prepared] = LRUCache(_RESPONSE_BYTES, getsizeof=_size)
        self._tags: LRUCache[tuple[str, str], str] = LRUCache(_TAGS)
        #: Held while much is made in a thread, so that what many ask for is made once.
        self._turn = asyncio.Lock()
        #: How many selections were made rather than found in the cache.
        self.selected = 0

    async def result(self, wanted: ServerQuery) -> ListResult:
        """The result as the list is now."""
        selection = await self.selection(wanted)
        # The result is of this selection's view, whatever the list is when it is made.
        many = len(selection.view) > MANY
        async with self._turn if many else nullcontext():
            result = self._results.get(wanted.key)
            if result is None or result.selection is not selection:
                result = await aside(many, self._compose, wanted, selection)
                self._results[wanted.key] = result
        self._tags[wanted.key, result.position] = result.tag
        return result

    async def selection(self, wanted: ServerQuery) -> ListSelection:
        """All that match, as the list is now."""
        ranks = None
        if wanted.question is not None:
            scales = wanted.cursor.scales if wanted.cursor is not None else None
            ranks = await self.search.servers(wanted.question, scales)
        many = len(self._catalog.view if ranks is None else ranks.ranking) > MANY
        async with self._turn if many else nullcontext():
            return await self._select(wanted, ranks, many)

    def prepared(self, wanted: ServerQuery) -> PreparedResponse | None:
        """The response to a steady request, where it was prepared for this view and second."""
        try:
            known = self._prepared[wanted.key]
        except KeyError:
            return None
        current = known.view is self._catalog.view and known.second == int(time.time())
        return known.response if current else None

    async def prepare(self, wanted: ServerQuery, result: ListResult) -> PreparedResponse:
        """The response with ``result``, whose ``lastSeen`` are at most a second old."""
        many = len(result.entries) > MANY
        async with self._turn if many else nullcontext():
            known, second = self._prepared.get(wanted.key), int(time.time())
            if known is not None and known.result is result and known.second == second:
                return known.response
            headers = {list_json.REVISION: result.position}
            view = result.selection.view
            body = await aside(many, result.body, view.as_of)
            response = PreparedResponse(result.etag, body, headers)
            made = _Prepared(result, second, view if wanted.steady else None, response)
            if _size(made) <= _RESPONSE_BYTES:
                self._prepared[wanted.key] = made
            return response

    def tag_at(self, wanted: ServerQuery, index: tuple[str, int]) -> str | None:
        """The tag of the result of an equal request at ``index``; ``None``: not known."""
        epoch, revision = index
        return self._tags.get((wanted.key, f"{epoch}:{revision}"))

    async def _select(
        self, wanted: ServerQuery, ranks: ServerRanks | None, many: bool
    ) -> ListSelection:
        view = self._catalog.view
        at = wanted.cursor.at if wanted.cursor is not None else view.as_of
        now = view.as_of
        # The same for all but those whose order moves with the time.
        sorted_at = int(at.timestamp() * 1000) if wanted.sort.moves else 0
        scales = ranks.ranking.scales if ranks is not None else ()
        key = wanted.fingerprint, sorted_at, scales
        known = self.search.documents_known
        found = self._selections.get(key)
        if (
            found is None
            or found.view is not view
            or (found.due is not None and found.due <= now)
            or (wanted.question and found.known != known)
        ):
            among = ranks.ranking if ranks is not None else None

            def made() -> ListSelection:
                entries = view.select(wanted.query, among=among, now=now)
                ordered = wanted.sort.ordered(entries, ranks, at)
                due = _due(view, wanted, ranks, now) if wanted.query.min_uptime else None
                return ListSelection(view, known, at, ordered, ranks, due)

            found = await aside(many, made)
            self.selected += 1
            self._selections[key] = found
        return found

    def _compose(self, wanted: ServerQuery, selection: ListSelection) -> ListResult:
        view, entries = selection.view, selection.entries
        members: dict[str, object] = {}
        if wanted.limit is not None:
            start = 0
            if wanted.cursor is not None:
                start = wanted.sort.after(entries, wanted.cursor, selection.ranks)
            page = entries[start : start + wanted.limit]
            members["total"] = len(entries)
            if start + wanted.limit < len(entries):
                key = wanted.sort.key(page[-1], selection.ranks, selection.at)
                scales = ranks.ranking.scales if (ranks := selection.ranks) is not None else ()
                cursor = Cursor(
                    wanted.fingerprint, selection.at, key, page[-1].id, wanted.limit, scales
                )
                members["nextCursor"] = cursor.encode()
            entries = page
        parts = _picked(entries, wanted.fields, view.as_of) if wanted.fields is not None else ()
        whys: tuple[bytes, ...] = ()
        if (ranks := selection.ranks) is not None and "why" in (wanted.fields or ("why",)):
            whys = tuple(b'"why":' + orjson.dumps(ranks.ranking.why(each.id)) for each in entries)
        content = b"".join((*(parts or [entry.digest for entry in entries]), *whys))
        tag = tag_of(wanted.key, content, members.get("total"), "nextCursor" in members)
        beside: dict[str, object] = dict(list_json.caveats(view))
        if wanted.explain:
            beside |= _left_out(wanted, selection)
        return ListResult(
            selection=selection,
            tag=tag,
            etag=tag_of(tag, beside),
            entries=entries,
            parts=parts,
            whys=whys,
            has_last_seen=wanted.fields is not None and "lastSeen" in wanted.fields,
            members=members | beside,
        )


def _picked(entries: Sequence[Entry], fields: Sequence[str], now: datetime) -> tuple[bytes, ...]:
    """Each entry with these of its fields alone, and without ``lastSeen``."""
    wanted = frozenset(fields) - {"lastSeen"}
    wholes: Iterator[dict[str, Any]] = (orjson.loads(entry.json(now)) for entry in entries)
    return tuple(
        orjson.dumps({name: whole[name] for name in whole if name in wanted}) for whole in wholes
    )


def _left_out(wanted: ServerQuery, selection: ListSelection) -> dict[str, object]:
    """For each instance that is left out, by name and id, which filters it fails; and which names
    in the list are not of one server."""
    view = selection.view
    inside = {entry.id for entry in selection.entries}
    outside = [entry for entry in view if entry.id not in inside]
    most = wanted.limit or MAX_LIMIT
    excluded = []
    for entry in heapq.nsmallest(most, outside, key=attrgetter("order")):
        failed = wanted.query.failed(entry.instance, view.as_of)
        if selection.ranks is not None and entry.id not in selection.ranks.ranking:
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
    names = sorted({entry.record.name for entry in selection.entries})
    shared = [each.to_dict() for name in names if (each := shared_name(view, name)) is not None]
    return {
        "excluded": excluded,
        "totalExcluded": len(outside),
        "unknownValues": [each.to_dict() for each in unknown_values(view, wanted.query)],
        "otherStatuses": of_other_status(
            view, wanted.query, selection.ranks.ranking if selection.ranks is not None else None
        ),
        "namesakes": shared,
    }


def _due(
    view: View, wanted: ServerQuery, ranks: ServerRanks | None, now: datetime
) -> datetime | None:
    """When the next instance will have been up for the required time."""
    least = timedelta(seconds=wanted.query.min_uptime)
    among = ranks.ranking if ranks is not None else None
    candidates = view.select(wanted.query.but(min_uptime=()), among=among, now=now)
    times = (
        entry.health.since + least for entry in candidates if entry.health.status is not Status.DOWN
    )
    return min((each for each in times if each > now), default=None)


#: The server lists.
LISTS: Part[ServerLists] = Part("server lists")

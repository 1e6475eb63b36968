"""``GET /api/ard/agents``: the entries of the ARD registry, filtered and sorted, page by page.

Section 5.3.5 of ARD v0.91.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from functools import partial

from aiohttp import web

from mcp_discovery.facade.access.parts import parts_of
from mcp_discovery.facade.ard.entries import ARD_ENTRIES, ArdEntry
from mcp_discovery.facade.ard.models import MOST_ENTRIES
from mcp_discovery.facade.ard.terms import Constraints, read_expression
from mcp_discovery.facade.ard.tokens import decode, encode
from mcp_discovery.facade.http.etag import tag_of, tagged
from mcp_discovery.facade.http.parameters import once
from mcp_discovery.facade.http.pauses import sliced
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.facade.registry.index import REGISTRY_INDEX
from mcp_discovery.facade.servers import list_json
from mcp_discovery.facade.servers.current_list import view_of

#: How many entries a page has unless another size is given.
PAGE_SIZE = 20


async def agents(request: web.Request) -> web.Response:
    """All entries, page by page; only the healthy unless the filter has `health`.

    `filter` is `term = value, value AND …`; `createdAfter > …` and `updatedAfter > …` are moments,
    and `displayName` is a part of the name. `orderBy` is by `identifier` unless it is given.
    """
    text, order = once(request, "filter") or "", once(request, "orderBy") or ""
    constraints = read_expression(text) if text else Constraints.of(())
    by = _order(order)
    view = view_of(request)
    parts = parts_of(request)
    found = [each async for each in sliced(await parts[ARD_ENTRIES].all()) if constraints.fit(each)]
    for path, descending in reversed([*by, ("identifier", False)]):
        await asyncio.sleep(0)
        found.sort(key=partial(_key, path), reverse=descending)
    start, made_for = 0, tag_of(text, order)
    if token := once(request, "pageToken"):
        *keys, urn = decode(token, made_for, *(str for _ in by), str)
        start = bisect_left(found, True, key=lambda entry: _follows(entry, by, keys, urn))
    end = start + min(_page_size(request), MOST_ENTRIES)
    page = found[start:end]
    beside: dict[str, object] = {"total": len(found)}
    if end < len(found):
        last = page[-1]
        keys = [_key(path, last) for path, _ in by]
        beside["pageToken"] = encode(made_for, *keys, last.identifier)
    base = parts[REGISTRY_INDEX].addresses.base(request)
    return tagged(
        request,
        tag_of(base, beside, b"".join(each.digest for each in page)),
        lambda: list_json.with_members(
            b'{"items":[%b]}' % b",".join(each.json(base) for each in page), beside
        ),
        {list_json.REVISION: list_json.position(view)},
    )


#: By how many terms a list is sorted at most.
_MOST_SORTS = 4
#: What a list may be sorted by, in the words of the specification as well.
_SORTS: Mapping[str, str] = {
    **{term: term for term in ("identifier", "displayName", "type", "version", "health")},
    **dict.fromkeys(("name", "display_name"), "displayName"),
    **dict.fromkeys(("updatedAt", "updated_at"), "updatedAt"),
    **dict.fromkeys(("createdAt", "created_at"), "createdAt"),
}


def _order(text: str) -> list[tuple[str, bool]]:
    """The terms of ``orderBy``, each with whether it descends; raises :class:`ProblemError`."""
    found = []
    for part in filter(None, map(str.strip, text.split(","))):
        name, _, way = part.partition(" ")
        if name not in _SORTS or way.strip().upper() not in ("", "ASC", "DESC"):
            detail = (
                f"orderBy: {part[:100]!r} is no order; write for example updatedAt DESC, "
                f"displayName, of {', '.join(dict.fromkeys(_SORTS.values()))}"
            )
            raise ProblemError(400, "bad-order", detail)
        found.append((_SORTS[name], way.strip().upper() == "DESC"))
    return found[:_MOST_SORTS]


def _key(path: str, entry: ArdEntry) -> str:
    if path == "createdAt":
        return entry.published.isoformat() if entry.published is not None else ""
    return str(entry.terms.get(path, ""))


def _follows(
    entry: ArdEntry, by: Iterable[tuple[str, bool]], keys: Iterable[str], urn: str
) -> bool:
    """Whether ``entry`` stands behind the one that has ``keys`` and the identifier ``urn``."""
    for (path, descending), last in zip(by, keys, strict=True):
        if (key := _key(path, entry)) != last:
            return (key > last) is not descending
    return entry.identifier > urn


def _page_size(request: web.Request) -> int:
    text = once(request, "pageSize") or str(PAGE_SIZE)
    if not (text.isascii() and text.isdigit() and int(text[:18]) > 0):
        detail = f"pageSize: {text[:100]!r} is no whole number from 1 to {MOST_ENTRIES}"
        raise ProblemError(400, "out-of-bounds", detail)
    return int(text[:18])

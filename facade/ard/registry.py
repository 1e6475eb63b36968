"""This facade as an ARD registry: ``POST /search``, ``POST /explore``, ``GET /agents`` and
``GET /agents/{identifier}`` below ``/api/ard``.

Section 5.3 of ARD v0.91. There are no other registries that it would ask (5.4): ``auto`` is
``none``, and ``referrals`` are none.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

from aiohttp import web
from pydantic import BaseModel

from mcp_discovery.facade.access.parts import parts_of
from mcp_discovery.facade.ard.entries import ARD_ENTRIES, PATH, RESULT_CONTEXT, ArdEntry
from mcp_discovery.facade.ard.listing import PAGE_SIZE, agents
from mcp_discovery.facade.ard.models import (
    MOST_ENTRIES,
    ArdEntryModel,
    ArdError,
    ArdExplore,
    ArdFacet,
    ArdFacets,
    ArdList,
    ArdQuery,
    ArdResults,
    ArdSearch,
)
from mcp_discovery.facade.ard.terms import Constraints, resolved, values_at
from mcp_discovery.facade.ard.tokens import bad_token, decode, encode
from mcp_discovery.facade.connections.requests import parsed
from mcp_discovery.facade.http.body import read_object
from mcp_discovery.facade.http.etag import IF_NONE_MATCH, tag_of, tagged
from mcp_discovery.facade.http.operation import Operation, Parameter
from mcp_discovery.facade.http.pauses import sliced
from mcp_discovery.facade.http.problems import ProblemError, reshape
from mcp_discovery.facade.http.slashes import without_needless_slashes
from mcp_discovery.facade.registry.api import CORS
from mcp_discovery.facade.registry.identifiers import canonical, registry_name
from mcp_discovery.facade.registry.index import REGISTRY_INDEX
from mcp_discovery.facade.servers import list_json
from mcp_discovery.facade.servers.current_list import view_of
from mcp_discovery.facade.servers.list_json import json_response
from mcp_discovery.facade.servers.search_index import SEARCH
from mcp_discovery.query.question import Question
from mcp_discovery.query.ranking import Ranking, Scales, are_scales

Model = TypeVar("Model", bound=BaseModel)

#: How many entries a page of a search has, and how many values a facet.
_RESULTS, _BUCKETS = 10, 20
#: How large a body may be: some thousand values, and what they are called.
_MOST_BYTES = 64 * 2**10
#: Appendix B, and for what it has no code that of the same APIs elsewhere.
_CODES: Mapping[int, str] = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RATE_LIMIT_EXCEEDED",
    503: "UNAVAILABLE",
}


class Match(NamedTuple):
    """An entry that a search finds. ``key`` is what it is sorted by, that of its best instance,
    whose id is the last of it."""

    entry: ArdEntry
    key: list[Any]


class Matches(NamedTuple):
    """The entries that a query finds, in no order, and where it has words their ranking."""

    found: Sequence[Match]
    ranking: Ranking[str] | None = None


def reshape_error(request: web.Request, response: web.StreamResponse) -> None:
    """Replaces a problem document by the ``{"errorCode", "message"}`` of ARD."""
    if without_needless_slashes(request.path).startswith(PATH):
        usual = "INTERNAL_ERROR" if response.status >= 500 else "INVALID_ARGUMENT"
        code = _CODES.get(response.status, usual)
        reshape(response, lambda problem: {"errorCode": code, "message": problem["detail"]})
        response.headers["Cache-Control"] = "no-cache"


def open_to_all(request: web.Request, response: web.StreamResponse) -> None:
    """Lets pages of every origin search, as the head of a response is written."""
    if PATH in request.raw_path:
        response.headers.update(CORS | {"Access-Control-Allow-Methods": "GET, POST, OPTIONS"})


async def search(request: web.Request) -> web.Response:
    """Servers for a need in a sentence, the best first, as everywhere else in this facade.

    Only the healthy, unless the filter has `health`. A result leaves out `representativeQueries`.
    """
    asked = _asked(ArdSearch, await read_object(request, limit=_MOST_BYTES))
    view = view_of(request)
    constraints = _constraints(asked.query)
    made_for = tag_of(asked.query.text, constraints.identity)
    scales, last = None, None
    if asked.page_token:
        last, scales = decode(asked.page_token, made_for, list, list)
        if not _is_key(last) or not are_scales(scales):
            raise bad_token()
    scales = None if scales is None else tuple(scales)
    matches, ranking = await _matching(request, asked.query, constraints, scales)
    assert ranking is not None  # a search has words
    behind = [each for each in matches if last is None or each.key > last]
    await asyncio.sleep(0)
    size = min(asked.page_size or _RESULTS, MOST_ENTRIES)
    page = heapq.nsmallest(size, behind, key=attrgetter("key"))
    base = parts_of(request)[REGISTRY_INDEX].addresses.base(request)
    answer: dict[str, Any] = {"results": [_result(each, ranking, base) for each in page]}
    if asked.federation == "referrals":
        answer["referrals"] = []
    if len(page) < len(behind):
        answer["pageToken"] = encode(made_for, page[-1].key, ranking.scales)
    return json_response(answer, view)


async def explore(request: web.Request) -> web.Response:
    """How many servers have which values of some terms, of all that a search would find."""
    asked = _asked(ArdExplore, await read_object(request, limit=_MOST_BYTES))
    view = view_of(request)
    query = asked.query or ArdQuery()
    paths = resolved((each.field for each in asked.result_type.facets), query.context)
    counts: dict[str, Counter[str]] = {field: Counter() for field in paths}
    async for match in sliced((await _matching(request, query, _constraints(query))).found):
        for field, path in paths.items():
            counts[field].update(set(values_at(match.entry, path)))
    facets = {each.field: _buckets(each, counts[each.field]) for each in asked.result_type.facets}
    return json_response({"resultType": "facets", "facets": facets}, view)


async def agent(request: web.Request) -> web.Response:
    """One entry by its identifier, whatever its health; `urn:ai:` is taken for `urn:air:`."""
    view = view_of(request)
    given = request.match_info["identifier"]
    urn = canonical(given)
    if registry_name(urn) is None:
        detail = (
            f"{given[:200]!r} is no identifier; write urn:air:<domain>:<namespace>:<name>, such as "
            "urn:air:example.com:mcp:weather, percent-encoded"
        )
        raise ProblemError(400, "bad-identifier", detail)
    parts = parts_of(request)
    entry = (await parts[ARD_ENTRIES].refreshed()).one(urn)
    if entry is None:
        detail = f"there is no entry {urn[:200]!r} in this registry; GET {PATH}agents lists them"
        raise ProblemError(404, "unknown-entry", detail)
    base = parts[REGISTRY_INDEX].addresses.base(request)
    return tagged(
        request,
        tag_of(base, entry.digest),
        lambda: entry.json(base),
        {list_json.REVISION: list_json.position(view)},
    )


def _asked(model: type[Model], body: Mapping[str, Any]) -> Model:
    try:
        return parsed(model, body)
    except ProblemError as error:
        raise ProblemError(400, error.kind, error.detail) from error


def _constraints(query: ArdQuery) -> Constraints:
    given = query.filter or {}
    paths = resolved(given, query.context)
    return Constraints.of(
        (paths[key], value if isinstance(value, list) else [value]) for key, value in given.items()
    )


async def _matching(
    request: web.Request, query: ArdQuery, constraints: Constraints, scales: Scales | None = None
) -> Matches:
    """What ``query``, which has ``constraints``, finds.

    ``scales`` are those of an earlier answer to it.
    """
    parts = parts_of(request)
    entries = await parts[ARD_ENTRIES].refreshed()
    if query.text is None:
        return Matches(
            [
                Match(entry, [])
                async for entry in sliced(await entries.all())
                if constraints.fit(entry)
            ]
        )
    ranks = await parts[SEARCH].servers(Question(query.text), scales)
    instances = view_of(request).entries
    best: dict[str, Match] = {}
    async for id in sliced(ranks.ranking):
        if (instance := instances.get(id)) is None:
            continue
        entry = entries.of(instance.record)
        if entry is None or id not in entry.ids or not constraints.fit(entry):
            continue
        key, known = [*ranks.key(instance), id], best.get(entry.identifier)
        if known is None or key < known.key:
            best[entry.identifier] = Match(entry, key)
    return Matches(list(best.values()), ranks.ranking)


def _is_key(key: list[Any]) -> bool:
    """Whether ``key`` may be one of a :class:`Match`."""
    return [type(each) for each in key] == [int, int, int, str, str]


def _result(match: Match, ranking: Ranking[str], base: str) -> dict[str, Any]:
    terms = {
        term: value for term, value in match.entry.terms.items() if term != "representativeQueries"
    }
    id = match.key[-1]
    return terms | {
        "@context": RESULT_CONTEXT,
        "url": match.entry.url(base),
        "score": max(1, round(100 * ranking.share(id))),
        "why": ranking.why(id),
        "source": base + PATH,
    }


def _buckets(facet: ArdFacet, counts: Counter[str]) -> dict[str, Any]:
    least = 1 if facet.min_count is None else facet.min_count
    shown = sorted((-count, value) for value, count in counts.items() if count >= least)
    limit = facet.limit or _BUCKETS
    found: dict[str, Any] = {
        "buckets": [{"value": value, "count": -count} for count, value in shown[:limit]]
    }
    if others := -sum(count for count, _ in shown[limit:]):
        found["otherCount"] = others
    return found


#: What is posted, and what answers it.
_POSTED: Mapping[str, tuple[Any, type[BaseModel], type[BaseModel]]] = {
    f"{PATH}search": (search, ArdSearch, ArdResults),
    f"{PATH}explore": (explore, ArdExplore, ArdFacets),
}
#: What is posted to and only reads.
READING = tuple(_POSTED)
_GROUP = "ard"
_ERRORS = dict.fromkeys((400, 401, 403, 408, 413, 415, 421, 429, 502, 503), ArdError)
_TEXT = {"type": "string", "maxLength": 4096}
OPERATIONS = (
    *(
        Operation(
            "POST", path, handler, _GROUP, answers={200: answer, **_ERRORS}, body=body, needs="read"
        )
        for path, (handler, body, answer) in _POSTED.items()
    ),
    Operation(
        "GET",
        f"{PATH}agents",
        agents,
        _GROUP,
        answers={200: ArdList, 304: None, **_ERRORS},
        parameters=(
            Parameter("filter", "`term = value AND …`; see Appendix A of ARD.", _TEXT),
            Parameter("orderBy", "`updatedAt DESC, displayName`.", _TEXT),
            Parameter(
                "pageSize",
                f"How many entries, {MOST_ENTRIES} at most.",
                {"type": "integer", "minimum": 1, "default": PAGE_SIZE},
            ),
            Parameter("pageToken", "The `pageToken` of the page before.", _TEXT),
            IF_NONE_MATCH,
        ),
        needs="read",
    ),
    Operation(
        "GET",
        f"{PATH}agents/{{identifier}}",
        agent,
        _GROUP,
        answers={200: ArdEntryModel, 304: None, 404: ArdError, **_ERRORS},
        parameters=(
            Parameter("identifier", "`urn:air:example.com:mcp:weather`.", where="path"),
            IF_NONE_MATCH,
        ),
        needs="read",
    ),
)

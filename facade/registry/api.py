"""The MCP registry API: ``/v0.1/servers`` and what lies below it.

https://github.com/modelcontextprotocol/registry, docs/reference/api/openapi.yaml (2025-12-01).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

import orjson
from aiohttp import web

from mcp_discovery.adapters.view import View
from mcp_discovery.facade.access.parts import parts_of
from mcp_discovery.facade.http import cursors
from mcp_discovery.facade.http.cors import EXPOSED
from mcp_discovery.facade.http.etag import IF_NONE_MATCH, tag_of, tagged
from mcp_discovery.facade.http.operation import Operation, Parameter
from mcp_discovery.facade.http.parameters import once, sentence, whole
from mcp_discovery.facade.http.problems import ProblemError, reshape
from mcp_discovery.facade.http.slashes import without_needless_slashes
from mcp_discovery.facade.registry.entries import Key, ServerVersion
from mcp_discovery.facade.registry.index import (
    REGISTRY_INDEX,
    RankedKey,
    RegistryIndex,
    RegistryQuery,
)
from mcp_discovery.facade.registry.models import RegistryEntry, RegistryError, RegistryList
from mcp_discovery.facade.servers import list_json
from mcp_discovery.facade.servers.current_list import view_of
from mcp_discovery.facade.servers.search_index import SEARCH, Rank
from mcp_discovery.health import rfc3339
from mcp_discovery.query.question import Question
from mcp_discovery.query.ranking import Scales, are_scales
from mcp_discovery.record import parse_moment


class PagePlace(NamedTuple):
    """Behind which entry a page begins: its key and, where it was found by words, its rank and the
    scales of the ranking."""

    key: Key
    rank: Rank | None = None
    scales: Scales = ()


def encode_cursor(after: PagePlace, query: RegistryQuery) -> str:
    """The cursor of the page behind ``after``: only letters, digits, ``-`` and ``_``.

    It carries the filters: VS Code appends a cursor as it is, and leaves out the search from the
    second page on.
    """
    since = None if query.since is None else rfc3339(query.since)
    parts = [*after.key, query.search, query.version, since, query.deleted]
    return cursors.encode(*parts, after.rank, after.scales)


def decode_cursor(text: str) -> tuple[PagePlace, RegistryQuery]:
    """The place and the filters in a cursor; raises :class:`ProblemError` (400) if invalid."""
    try:
        match cursors.decode(text):
            case [
                str(name),
                str(before),
                str() | None as search,
                str() | None as version,
                str() | None as since,
                bool() | None as deleted,
                ([int(), int(), int(), str()] | None) as rank,
                list(scales),
            ] if are_scales(scales):
                moment = None if since is None else parse_moment(since)
                place = PagePlace((name, before), rank, tuple(scales))
                return place, RegistryQuery(search, version, moment, deleted)
            case _:
                raise ValueError("not the parts of a cursor")
    except ValueError as error:
        detail = (
            f"cursor={text[:100]!r} is none of this registry's; send back the nextCursor of the "
            "page before, or leave it out to begin anew"
        )
        raise ProblemError(400, "bad-cursor", detail, parameter="cursor") from error


#: What the registry's OpenAPI document puts its paths under.
PREFIX = "/v0.1/"
#: Where cards of servers are, besides below the prefix.
_WELL_KNOWN, _SERVER_CARD = "/.well-known/", "/server-card"
#: https://docs.github.com/en/copilot, "Configure an MCP registry", and "CORS Requirements" in
#: docs/discovery.md of the server-card extension: on every answer.
CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, OPTIONS",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, If-None-Match",
    "Access-Control-Expose-Headers": EXPOSED,
}


def reshape_error(request: web.Request, response: web.StreamResponse) -> None:
    """Replaces a problem document by the ``{"error"}`` that clients of a registry read."""
    if without_needless_slashes(request.path).startswith(PREFIX):
        reshape(response, lambda problem: {"error": problem["detail"]})


def open_to_all(request: web.Request, response: web.StreamResponse) -> None:
    """Lets pages of every origin read the registry API, as the hosts that are web pages want.

    It is applied as the head of a response is written, after the facade's CORS options.
    """
    raw = request.raw_path
    if not ("%" in raw or PREFIX in raw or _WELL_KNOWN in raw or _SERVER_CARD in raw):
        return  # most requests, without making anything of their paths
    path = without_needless_slashes(request.path)
    if path.startswith((PREFIX, _WELL_KNOWN)) or path.endswith(_SERVER_CARD):
        response.headers.update(CORS)


#: How many entries a page has unless a limit is given, and at most.
DEFAULT_LIMIT = 30
MAX_LIMIT = 100
_FLAGS = {"true": True, "1": True, "false": False, "0": False}


async def servers(request: web.Request) -> web.Response:
    """MCP servers as an MCP registry lists them: one entry for each version of a server.

    By name and version; with `search` those with it in their name, then those that it finds by
    words, the best first. Parameters that are left out are taken from the `cursor`; unknown ones
    are ignored. `updated_since` implies those that are deleted.
    """
    view, index = await _now(request)
    limit = whole(request, "limit", least=1, most=MAX_LIMIT) or DEFAULT_LIMIT
    query = RegistryQuery(
        sentence(request, "search"),
        once(request, "version"),
        _moment(request, "updated_since"),
        _flag(request, "include_deleted"),
    )
    after: PagePlace | None = None
    if cursor := once(request, "cursor"):
        after, asked_before = decode_cursor(cursor)
        query = query.with_defaults(asked_before)
    found: Sequence[RankedKey] = ()
    scales: Scales = ()
    if (question := Question(query.search or "")).words:
        ranks = await parts_of(request)[SEARCH].servers(question, after.scales if after else None)
        index.refresh()
        found, scales = await asyncio.to_thread(index.described, query, ranks), ranks.ranking.scales
    key, rank = (after.key, after.rank) if after is not None else (None, None)
    page, more = index.page(query, key, limit, described=found, rank=rank)
    metadata: dict[str, object] = {"count": len(page)}
    if more:
        last = page[-1].key
        rank = next((rank for rank, key in found if key == last), None)
        metadata["nextCursor"] = encode_cursor(PagePlace(last, rank, scales), query)
    return _list(request, view, page, metadata)


async def versions(request: web.Request) -> web.Response:
    """Every version of one server, the newest first."""
    view, index = await _now(request)
    name = _name(request)
    found = index.versions(name, deleted=bool(_flag(request, "include_deleted")))
    if not found:
        raise _unknown(name)
    return _list(request, view, found, {"count": len(found)})


async def version(request: web.Request) -> web.Response:
    """One version of one server; `latest` is the greatest by semantic versioning."""
    view, index = await _now(request)
    name, query = _name(request), request.match_info["version"]
    deleted = bool(_flag(request, "include_deleted"))
    found = index.version(name, query, deleted=deleted)
    if found is None:
        raise _unknown(name) if not index.versions(name, deleted=deleted) else _no_version(query)
    return tagged(
        request,
        tag_of(found.digest),
        lambda: found.json(view.as_of),
        {list_json.REVISION: list_json.position(view)},
    )


async def _now(request: web.Request) -> tuple[View, RegistryIndex]:
    """The list and the registry's entries; raises until there is a first list."""
    return view_of(request), await parts_of(request)[REGISTRY_INDEX].refreshed()


def _name(request: web.Request) -> str:
    """The server's name; a proxy may have decoded its slash."""
    given = request.match_info
    return "/".join(given[part] for part in ("namespace", "serverName") if part in given)


def _list(
    request: web.Request, view: View, found: Sequence[ServerVersion], metadata: dict[str, object]
) -> web.Response:
    if view.partial is not None:
        metadata["partial"] = view.partial
    if view.stale_since is not None:
        metadata["staleSince"] = rfc3339(view.stale_since)

    def body() -> bytes:
        entries = b",".join([each.json(view.as_of) for each in found])
        return b'{"servers":[%b],"metadata":%b}' % (entries, orjson.dumps(metadata))

    return tagged(
        request,
        tag_of(b"".join(each.digest for each in found), metadata),
        body,
        {list_json.REVISION: list_json.position(view)},
    )


def _moment(request: web.Request, name: str) -> datetime | None:
    text = once(request, name)
    if text is None:
        return None
    try:
        # A blank is the plus of an offset that was not percent-encoded.
        return parse_moment(text.replace(" ", "+").upper())
    except ValueError as error:
        detail = (
            f"{name}={text[:100]!r} is no moment as RFC 3339 writes it; write for example "
            "2026-08-07T13:15:04.280Z"
        )
        raise ProblemError(400, "bad-moment", detail, parameter=name) from error


def _flag(request: web.Request, name: str) -> bool | None:
    text = once(request, name)
    if text is None:
        return None
    if text.lower() not in _FLAGS:
        detail = f"{name}={text[:100]!r} is neither true nor false"
        raise ProblemError(400, "unknown-value", detail, parameter=name)
    return _FLAGS[text.lower()]


def _unknown(name: str) -> ProblemError:
    detail = f"there is no server {name[:200]!r} in this registry; GET /v0.1/servers lists them"
    return ProblemError(404, "unknown-server", detail)


def _no_version(version: str) -> ProblemError:
    detail = f"there is no version {version[:100]!r} of this server; leave it out of the path to "
    return ProblemError(404, "unknown-version", detail + "see which there are")


_TEXT = {"type": "string"}
_NAME = Parameter(
    "serverName",
    "The server's name, with its slash encoded: `com.example%2Fweather`.",
    _TEXT,
    where="path",
)
_DELETED = Parameter(
    "include_deleted", "Those that are deleted, too.", {"type": "boolean", "default": False}
)
_GROUP = "mcp-registry"
_ERRORS = dict.fromkeys((400, 401, 403, 421, 429, 502, 503), RegistryError)
_LIST = (
    Operation(
        "GET",
        "/v0.1/servers",
        servers,
        _GROUP,
        answers={200: RegistryList, 304: None, **_ERRORS},
        parameters=(
            Parameter("cursor", "The `nextCursor` of the page before."),
            Parameter(
                "limit",
                "How many entries at most.",
                {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
            ),
            Parameter(
                "search",
                "A part of the name, in upper or lower case; then, by their descriptions, tags and "
                "tools, those that it finds as `q` of `GET /servers` does.",
            ),
            Parameter(
                "updated_since",
                "Those that have changed since (RFC 3339), deleted ones included.",
                {"type": "string", "format": "date-time"},
            ),
            Parameter("version", "`latest`, or one version exactly."),
            _DELETED,
            IF_NONE_MATCH,
        ),
        lenient=True,
        needs="read",
    ),
)
_ONE = (
    Operation(
        "GET",
        "/v0.1/servers/{serverName}/versions",
        versions,
        _GROUP,
        answers={200: RegistryList, 304: None, 404: RegistryError, **_ERRORS},
        parameters=(_NAME, _DELETED, IF_NONE_MATCH),
        lenient=True,
        needs="read",
    ),
    Operation(
        "GET",
        "/v0.1/servers/{serverName}/versions/{version}",
        version,
        _GROUP,
        answers={200: RegistryEntry, 304: None, 404: RegistryError, **_ERRORS},
        parameters=(
            _NAME,
            Parameter("version", "A version, or `latest`.", _TEXT, where="path"),
            _DELETED,
            IF_NONE_MATCH,
        ),
        lenient=True,
        needs="read",
    ),
)
OPERATIONS = (
    *_LIST,
    *_ONE,
    # Some proxies decode the slash of a name before they forward a request.
    *(
        replace(each, path=each.path.replace("{serverName}", "{namespace}/{serverName}"))
        for each in _ONE
    ),
)

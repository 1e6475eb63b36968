"""``/servers/{id}/history`` and ``/servers/{id}/documents``: what became of a server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from aiohttp import web
from pydantic import Field

from mcp_discovery.facade.history.answers import (
    HistoryMoment,
    HistoryPage,
    diff_of,
    documents_of,
    history_of,
    moment_of_history,
)
from mcp_discovery.facade.history.availability import Availability, Watched
from mcp_discovery.facade.history.diff import DocumentDiff, ItemDiff
from mcp_discovery.facade.history.store import Of
from mcp_discovery.facade.history.visible import ShownChange
from mcp_discovery.facade.http.body import Shaped
from mcp_discovery.facade.http.operation import Operation, Parameter
from mcp_discovery.facade.http.parameters import moment, once, one_of, whole
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.facade.servers.list_json import json_response
from mcp_discovery.health import rfc3339

_LIMIT, _MOST = 100, 1000


class HistoryChange(Shaped):
    """How an instance was for a while."""

    id: str
    name: str
    at: datetime
    until: datetime | None = Field(None, description="Absent: it still is.")
    status: str = Field(description="One of those of the list, or `gone`: it was not listed.")
    reason: str
    since: datetime | None = Field(None, description="Since when it had this status, by its own.")
    digest: str | None = Field(None, description="Of what it offered.")
    version: str
    url: str | None = None
    registrant: dict[str, Any] = Field(description="What kept it registered: by, host, owner.")
    changed: list[str] = Field(description="What became different; `registered` for a new one.")


class HistoryGap(Shaped):
    """A time in which nobody watched."""

    from_: datetime = Field(alias="from")
    to: datetime | None = Field(None, description="Absent: it lasts.")


class AvailabilityModel(Shaped):
    """How a time was spent."""

    from_: datetime = Field(alias="from")
    to: datetime
    watched: float = Field(description="So many seconds of it somebody watched.")
    unwatched: float
    shares: dict[str, float] = Field(
        description="By status, of the watched time. A server has that of its best instance."
    )


class HistoryModel(Shaped):
    """What became of a server or an instance; with `at`, how it was then."""

    of: str = Field(description="`server` or `instance`.")
    name: str
    kept: str | None = Field(None, description="`store`, or `memory`: since the facade began.")
    since: datetime | None = Field(None, description="How far back anything is known.")
    changes: list[HistoryChange] | None = Field(None, description="Newest first.")
    unwatched: list[HistoryGap] | None = Field(
        None, description="With `at` the one around that moment."
    )
    availability: dict[str, AvailabilityModel] | None = Field(
        None, description="Of the last `day` and `month`."
    )
    next_cursor: str | None = None
    at: datetime | None = None
    status: str | None = Field(None, description="With `at`: the best of its instances.")
    instances: list[HistoryChange] | None = Field(
        None, description="With `at`: how they were; where nobody watched, as they were before."
    )


class DocumentVersionModel(Shaped):
    """A document that a server has had."""

    digest: str
    versions: list[str] = Field(description="Registered with it.")
    first_seen: datetime
    last_seen: datetime | None = Field(None, description="Absent: it is offered now.")
    instances: list[str] = Field(description="Ids of those that offered it.")
    kept: bool = Field(description="Whether it can be compared.")


class DocumentVersions(Shaped):
    """The documents of a server, newest first."""

    of: str
    name: str
    documents: list[DocumentVersionModel]


class DocumentDiffModel(Shaped):
    """How one document differs from another."""

    from_: str = Field(alias="from", description="The older one's digest.")
    to: str
    parts: dict[str, Any] = Field(
        description="By member of the document: `added` and `removed` names, `changed` items with "
        "their `texts` word by word, `parameters` and `other` members, and how many are the `same`."
    )
    card: list[str] = Field(description="Members of an agent's card that changed.")


async def history(request: web.Request) -> web.Response:
    """What became of a server, whose name it is, or of the instance with that id, newest first.

    `from` and `to` are times (RFC 3339) or days; `to` is not included. With `at` it answers how it
    was at that moment.
    """
    name, of = request.match_info["id"], _of(request)
    since, until, at = (moment(request, each) for each in ("from", "to", "at"))
    limit = whole(request, "limit", least=1, most=_MOST) or _LIMIT
    cursor = once(request, "cursor")
    if at is not None:
        if since or until or cursor:
            detail = "at asks for one moment; leave from, to and cursor out"
            raise ProblemError(400, "invalid-input", detail, parameter="at")
        found = await moment_of_history(request, name, at, of=of)
        # In threads: a server may have thousands of instances.
        return await asyncio.to_thread(lambda: json_response(moment_body(found)))
    page = await history_of(
        request, name, of=of, since=since, until=until, limit=limit, cursor=cursor
    )
    return await asyncio.to_thread(lambda: json_response(page_body(page)))


async def documents(request: web.Request) -> web.Response:
    """The capability documents that a server, or an instance, has had, newest first."""
    name = request.match_info["id"]
    of, found = await documents_of(request, name, of=_of(request))
    listed = [
        {
            "digest": each.digest,
            "versions": each.versions,
            "firstSeen": rfc3339(each.first_seen),
            **({} if each.last_seen is None else {"lastSeen": rfc3339(each.last_seen)}),
            "instances": each.instances,
            "kept": each.is_kept,
        }
        for each in found
    ]
    return json_response({"of": of, "name": name, "documents": listed})


async def difference(request: web.Request) -> web.Response:
    """How a document of a server differs from another, `with`, or from the one before it."""
    match = request.match_info
    older = once(request, "with")
    found = await diff_of(request, match["id"], match["digest"], older, of=_of(request))
    return await asyncio.to_thread(lambda: json_response(diff_body(found)))


def page_body(page: HistoryPage) -> dict[str, Any]:
    """A page as JSON."""
    body: dict[str, Any] = {"of": page.of, "name": page.name, "kept": page.kept}
    if page.since is not None:
        body["since"] = rfc3339(page.since)
    body["changes"] = [_change(each) for each in page.changes]
    body["unwatched"] = _gaps(page.unwatched)
    body["availability"] = {"day": _share(page.day), "month": _share(page.month)}
    if page.cursor is not None:
        body["nextCursor"] = page.cursor
    return body


def moment_body(found: HistoryMoment) -> dict[str, Any]:
    """A moment as JSON."""
    return {
        "of": found.of,
        "name": found.name,
        "at": rfc3339(found.at),
        "status": found.status,
        "instances": [_change(each) for each in found.instances],
        "unwatched": [] if found.unwatched is None else _gaps((found.unwatched,)),
    }


def diff_body(found: DocumentDiff) -> dict[str, Any]:
    """A comparison as JSON."""
    parts = {
        name: {
            "added": part.added,
            "removed": part.removed,
            "changed": [_item(each) for each in part.changed],
            "same": part.same,
        }
        for name, part in found.parts.items()
    }
    return {"from": found.older, "to": found.newer, "parts": parts, "card": found.card}


def _item(item: ItemDiff) -> dict[str, Any]:
    return {
        "name": item.name,
        "texts": item.texts,
        "parameters": [asdict(each) for each in item.parameters],
        "other": item.other,
    }


def _change(change: ShownChange) -> dict[str, Any]:
    moments = {"at": change.at, "until": change.until, "since": change.since}
    told = {name: rfc3339(each) for name, each in moments.items() if each is not None}
    body: dict[str, Any] = {"id": change.id, "name": change.name, **told}
    body |= {"status": change.status, "reason": change.reason, "version": change.version}
    for name, value in (("digest", change.digest), ("url", change.url)):
        if value is not None:
            body[name] = value
    return body | {"registrant": change.registrant, "changed": change.changed}


def _gaps(gaps: Sequence[Watched]) -> list[dict[str, str]]:
    return [
        {"from": rfc3339(each.began)} | ({"to": rfc3339(each.ended)} if each.ended else {})
        for each in gaps
    ]


def _share(found: Availability) -> dict[str, Any]:
    return {
        "from": rfc3339(found.began),
        "to": rfc3339(found.ended),
        "watched": found.watched,
        "unwatched": found.unwatched,
        "shares": found.shares,
    }


def _of(request: web.Request) -> Of | None:
    text = once(request, "of")
    if text is None:
        return None
    return "server" if one_of("of", text, ("server", "instance")) == "server" else "instance"


_ID = Parameter("id", "A server's name, or an instance's id.", where="path")
_OF = Parameter(
    "of",
    "Which of the two it is; otherwise a server's name, where there is such a server.",
    {"type": "string", "enum": ["server", "instance"]},
)
OPERATIONS = (
    Operation(
        "GET",
        "/servers/{id}/history",
        history,
        "history",
        answers={200: HistoryModel},
        parameters=(
            _ID,
            _OF,
            Parameter("at", "How it was at this moment."),
            Parameter("from", "From this time on."),
            Parameter("to", "Before this time."),
            Parameter(
                "limit",
                f"How many changes; {_LIMIT} unless it says otherwise.",
                {"type": "integer", "minimum": 1, "maximum": _MOST},
            ),
            Parameter("cursor", "Where the page begins: `nextCursor` of the one before."),
        ),
        errors=(404, 503),
        needs="read",
    ),
    Operation(
        "GET",
        "/servers/{id}/documents",
        documents,
        "history",
        answers={200: DocumentVersions},
        parameters=(_ID, _OF),
        errors=(404, 503),
        needs="read",
    ),
    Operation(
        "GET",
        "/servers/{id}/documents/{digest}/diff",
        difference,
        "history",
        answers={200: DocumentDiffModel},
        parameters=(
            _ID,
            Parameter("digest", "Of the newer document.", where="path"),
            Parameter("with", "The digest of the older one; otherwise the one before."),
            _OF,
        ),
        errors=(404, 503),
        needs="read",
    ),
)

"""Reading the list: ``GET /servers`` and what lies below it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web

from mcp_discovery.document import CapabilityDocument
from mcp_discovery.facade.access.parts import parts_of
from mcp_discovery.facade.documents.documents import DOCUMENTS
from mcp_discovery.facade.http.body import Shaped
from mcp_discovery.facade.http.etag import IF_NONE_MATCH, has_already, not_modified, tag_of, tagged
from mcp_discovery.facade.http.operation import Handler, Operation, Parameter
from mcp_discovery.facade.servers import list_json
from mcp_discovery.facade.servers.current_list import entry_in, view_of
from mcp_discovery.facade.servers.events import STREAMS
from mcp_discovery.facade.servers.filters import stream_filters
from mcp_discovery.facade.servers.long_poll import POLLS
from mcp_discovery.facade.servers.models import CapabilityLists, ServerListModel, ServerModel
from mcp_discovery.facade.servers.query import PARAMETERS, read_query
from mcp_discovery.facade.servers.results import LISTS


async def servers(request: web.Request) -> web.StreamResponse:
    """The instances that match the filters; only healthy ones unless ``status`` says more.

    With ``wait`` and ``index`` it answers as soon as this answer is another than it was at
    ``index``, and after ``wait`` at the latest. ``If-None-Match`` is answered with 304 while only
    ``lastSeen`` has moved.
    """
    wanted = read_query(request)
    lists = parts_of(request)[LISTS]
    if wanted.index is None and (prepared := lists.prepared(wanted)) is not None:
        return await prepared.respond(request)
    view_of(request)  # raises until there is a first list
    result = await lists.result(wanted)
    known = lists.tag_at(wanted, wanted.index) if wanted.index is not None else None
    if result.tag == known:
        result = await parts_of(request)[POLLS].wait(request, wanted, known)
    if has_already(request, result.etag):
        return not_modified(result.etag, {list_json.REVISION: result.position})
    return await (await lists.prepare(wanted, result)).respond(request)


async def server(request: web.Request) -> web.Response:
    """One instance, whatever its health."""
    view = view_of(request)
    entry = entry_in(view, request.match_info["id"])
    beside: dict[str, object] = dict(list_json.caveats(view))
    return tagged(
        request,
        tag_of(entry.digest, beside),
        lambda: list_json.with_members(entry.json(view.as_of), beside),
        {list_json.REVISION: list_json.position(view)},
    )


async def capabilities(request: web.Request) -> web.Response:
    """All that one instance offers, schemas included, as MCP spells it."""
    view = view_of(request)
    entry = entry_in(view, request.match_info["id"])
    document = await parts_of(request)[DOCUMENTS].of_record(entry.record)
    return tagged(
        request,
        tag_of(document.digest),
        lambda: orjson.dumps(document_body(document)),
        {list_json.REVISION: list_json.position(view)},
    )


async def events(request: web.Request) -> web.StreamResponse:
    """The list and every change to it, as server-sent events."""
    view_of(request)  # raises until there is a first list
    return await parts_of(request)[STREAMS].serve(request)


def document_body(document: CapabilityDocument) -> Mapping[str, Any]:
    """A document with its digest in front, as ``…/capabilities`` answers it."""
    return {"digest": document.digest, **document.lists()}


ID = Parameter("id", "The instance's id.", where="path")


def _of_one(path: str, handler: Handler, model: type[Shaped]) -> Operation:
    answers = {200: model, 304: None}
    parameters = (ID, IF_NONE_MATCH)
    return Operation(
        "GET",
        path,
        handler,
        "discovery",
        answers,
        parameters,
        errors=(404,),
        needs="read",
    )


OPERATIONS = (
    Operation(
        "GET",
        "/servers",
        servers,
        "discovery",
        answers={200: ServerListModel, 304: None},
        parameters=(*PARAMETERS, IF_NONE_MATCH),
        needs="read",
    ),
    _of_one("/servers/{id}", server, ServerModel),
    _of_one("/servers/{id}/capabilities", capabilities, CapabilityLists),
    Operation(
        "GET",
        "/events",
        events,
        "streams",
        parameters=(stream_filters, Parameter("lastEventId", "Like the header Last-Event-ID.")),
        media="text/event-stream",
        needs="read",
    ),
)

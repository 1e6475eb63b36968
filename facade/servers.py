"""Reading the list: ``GET /servers`` and what lies below it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from facade import listing
from facade.operation import Operation, Parameter
from facade.query import FILTERS, parse
from facade.state import facade_of
from facade.status import answer
from mcp_discovery.document import CapabilityDocument


async def servers(request: web.Request) -> web.Response:
    """The instances that match the filters; only healthy ones unless ``status`` says more."""
    query = parse(request)
    view = facade_of(request).view()
    return web.Response(
        body=listing.servers(view, view.select(query)),
        content_type="application/json",
        headers={listing.REVISION: listing.position(view)},
    )


async def server(request: web.Request) -> web.Response:
    """One instance, whatever its health."""
    facade = facade_of(request)
    view = facade.view()
    entry = facade.entry(request.match_info["id"])
    return web.Response(
        body=listing.with_members(entry.json(view.as_of), dict(listing.staleness(view))),
        content_type="application/json",
        headers={listing.REVISION: listing.position(view)},
    )


async def capabilities(request: web.Request) -> web.Response:
    """All that one instance offers, schemas included, as MCP spells it."""
    facade = facade_of(request)
    entry = facade.entry(request.match_info["id"])
    document = await facade.posted.stored_document(entry.record)
    return answer(document_body(document), facade.catalog.view)


async def events(request: web.Request) -> web.StreamResponse:
    """The list and every change to it, as server-sent events."""
    facade = facade_of(request)
    facade.view()  # nothing is told before there is a whole list
    return await facade.streams.serve(request)


def document_body(document: CapabilityDocument) -> Mapping[str, Any]:
    """A document with its digest in front, as ``…/capabilities`` answers it."""
    return {
        "digest": document.digest,
        "tools": document.tools,
        "resources": document.resources,
        "resourceTemplates": document.resource_templates,
        "prompts": document.prompts,
    }


ID = Parameter("id", "The instance's id.", {"type": "string"}, where="path")
OPERATIONS = (
    Operation("GET", "/servers", servers, "discovery", parameters=FILTERS),
    Operation("GET", "/servers/{id}", server, "discovery", parameters=(ID,), errors=(404,)),
    Operation(
        "GET",
        "/servers/{id}/capabilities",
        capabilities,
        "discovery",
        parameters=(ID,),
        errors=(404,),
    ),
    Operation(
        "GET",
        "/events",
        events,
        "streams",
        parameters=(*FILTERS, Parameter("lastEventId", "Like the header Last-Event-ID.")),
        media="text/event-stream",
    ),
)

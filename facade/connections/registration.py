"""Changing connections: registering, revising and disconnecting them."""

from __future__ import annotations

import logging

from aiohttp import web

from mcp_discovery.facade.connections import representation
from mcp_discovery.facade.connections.conversion import patched, posting_of
from mcp_discovery.facade.connections.handlers import ID
from mcp_discovery.facade.connections.requests import ConnectionPatch, NewConnection, parsed
from mcp_discovery.facade.connections.responses import ConnectionDetails, Disconnected, Registered
from mcp_discovery.facade.http.body import read_object
from mcp_discovery.facade.http.operation import Operation
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.facade.registration.handlers import (
    posted_alike_elsewhere,
    posted_here,
    register_posted,
    remove,
    shows,
)
from mcp_discovery.facade.servers.list_json import json_response
from mcp_discovery.facade.state import Facade, facade_of
from mcp_discovery.health import Status, rfc3339, utcnow

log = logging.getLogger(__name__)


async def register(request: web.Request) -> web.Response:
    """Registers a connection, which this facade keeps alive and probes from now on.

    Registering again what is there replaces it; another one under the same id is refused while
    the first is alive.
    """
    facade = facade_of(request)
    posting = posting_of(parsed(NewConnection, await read_object(request)))
    id, record = posting.record.id, posting.record
    async with facade.locks.hold(id):
        if not posted_alike_elsewhere(facade, posting):
            record = (await register_posted(facade, posting, replace=False)).record
    view = facade.catalog.view
    registered = representation.registered(record, view.entries.get(id), facade.usage, utcnow())
    response = json_response(registered, view, status=201)
    response.headers["Location"] = f"/connections/{id}"
    log.info("registered connection %s", id)
    return response


async def revise(request: web.Request) -> web.Response:
    """Changes what the body names and leaves the rest.

    `idle` connections are listed and not offered, until they are set `active` again. Metadata is
    merged: `null` removes a key. An empty list of capabilities means: ask the server.
    """
    facade = facade_of(request)
    id = request.match_info["id"]
    patch = parsed(ConnectionPatch, await read_object(request))
    await posted_here(facade, id)
    async with facade.locks.hold(id):
        posted = facade.posted.get(id)
        if posted is None:
            raise _not_ours(facade, id)
        idle = posted.registrar.draining if patch.status is None else patch.status == "idle"
        record, document = patched(posted.record, posted.document, patch, idle=idle)
        same = record.same_as(posted.record) and document.digest == posted.document.digest
        if not same or idle is not posted.registrar.draining:
            await facade.posted.revise(posted, record, document, draining=idle)
        holder = facade.posted.holder.id
        await facade.settle(
            id,
            lambda entry: (
                entry is not None
                and shows(entry, posted.record, None, holder)
                and (entry.health.status is Status.DRAINING) is idle
            ),
        )
    view = facade.view()
    entry = facade.entry(id)
    return json_response(
        representation.detailed(entry, posted.document, facade.usage, view.as_of), view
    )


async def disconnect(request: web.Request) -> web.Response:
    """Takes a connection out of the registry at once."""
    facade = facade_of(request)
    id = request.match_info["id"]
    await remove(facade, id)
    return json_response(
        {
            "id": id,
            "status": "disconnected",
            "message": "Connection gracefully terminated",
            "disconnectedAt": rfc3339(utcnow()),
        }
    )


def _not_ours(facade: Facade, id: str) -> ProblemError:
    """Why a connection that is not kept here cannot be changed here; 404 where there is none."""
    holder = facade.entry(id).instance.lease.holder
    what = "change it where it is configured"
    if facade.leased.get(id) is not None:
        what = f"let its registrant say it, with PUT /servers/{id}"
    detail = f"{id!r} is kept registered by {holder}, which would undo a change made here; {what}"
    return ProblemError(409, "other-holder", detail, id=id)


OPERATIONS = (
    Operation(
        "POST",
        "/connections",
        register,
        "connections",
        body=NewConnection,
        answers={201: Registered},
        errors=(400, 408, 409, 413, 422),
    ),
    Operation(
        "PATCH",
        "/connections/{id}",
        revise,
        "connections",
        parameters=(ID,),
        body=ConnectionPatch,
        answers={200: ConnectionDetails},
        errors=(400, 404, 408, 409, 413, 422),
    ),
    Operation(
        "DELETE",
        "/connections/{id}",
        disconnect,
        "connections",
        parameters=(ID,),
        answers={200: Disconnected},
        errors=(400, 404, 409),
    ),
)

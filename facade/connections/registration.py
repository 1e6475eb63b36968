"""Registering, revising, probing and disconnecting connections."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any, Literal, NamedTuple

from aiohttp import web

from mcp_discovery.adapters.view import Entry
from mcp_discovery.errors import RegistrationLostError, StoreError
from mcp_discovery.facade.access.parts import parts_of
from mcp_discovery.facade.connections import representation
from mcp_discovery.facade.connections.conversion import patched, posting_of
from mcp_discovery.facade.connections.handlers import ID
from mcp_discovery.facade.connections.requests import (
    BatchCheck,
    CheckWish,
    ConnectionPatch,
    NewConnection,
    parsed,
)
from mcp_discovery.facade.connections.responses import (
    BatchChecked,
    Checked,
    ConnectionDetails,
    Disconnected,
    Registered,
)
from mcp_discovery.facade.http.body import beside_loop, read_object
from mcp_discovery.facade.http.operation import Operation
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.facade.registration.body import warnings_of
from mcp_discovery.facade.registration.handlers import (
    posted_alike_elsewhere,
    posted_here,
    register_posted,
    remove,
    shows,
)
from mcp_discovery.facade.registration.permission import Claimant, entry_to_report
from mcp_discovery.facade.servers.current_list import view_of
from mcp_discovery.facade.servers.list_json import json_response
from mcp_discovery.facade.state import Facade, facade_of
from mcp_discovery.facade.usage.usage import USAGE
from mcp_discovery.health import Load, Status, rfc3339, utcnow
from mcp_discovery.probe import NoAnswerError
from mcp_discovery.probe.verdict import Verdict
from mcp_discovery.registrant.watcher import HealthCheckResult

log = logging.getLogger(__name__)


async def register(request: web.Request) -> web.Response:
    """Registers a connection, which this facade keeps alive and probes from now on.

    Registering again what is there replaces it; another one under the same id is refused while
    the first is alive.
    """
    facade = facade_of(request)
    body = await read_object(request)
    posting = await beside_loop(request, lambda: posting_of(parsed(NewConnection, body)))
    id, record = posting.record.id, posting.record
    claimant = Claimant.of(request)
    async with facade.locks.hold(id):
        claimant.require_new(facade, record)
        if not posted_alike_elsewhere(facade, posting):
            record = (await register_posted(facade, posting, claimant, replace=False)).record
    view = facade.catalog.view
    registered = representation.registered(record, view.entries.get(id), facade.usage, utcnow())
    if warnings := warnings_of(record):
        registered["warnings"] = warnings
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
    body = await read_object(request)
    patch = await beside_loop(request, lambda: parsed(ConnectionPatch, body))
    claimant = Claimant.of(request)
    claimant.require_existing(facade, id)
    await posted_here(facade, id)
    async with facade.locks.hold(id):
        posted = facade.posted.get(id)
        if posted is None:
            raise _not_ours(facade, claimant, id)
        idle = posted.registrar.draining if patch.status is None else patch.status == "idle"
        before = posted.record, posted.document
        record, document = await beside_loop(request, lambda: patched(*before, patch, idle=idle))
        claimant.require_new(facade, record)
        same = record.same_as(posted.record) and document.digest == posted.document.digest
        if not same or idle is not posted.registrar.draining:
            await facade.posted.revise(posted, record, document, draining=idle)
        holder = facade.posted.holder
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
    await remove(facade, id, Claimant.of(request))
    return json_response(
        {
            "id": id,
            "status": "disconnected",
            "message": "Connection gracefully terminated",
            "disconnectedAt": rfc3339(utcnow()),
        }
    )


def _not_ours(facade: Facade, claimant: Claimant, id: str) -> ProblemError:
    """Why a connection that is not kept here cannot be changed here; 404 where there is none."""
    entry = facade.view().entries.get(id)
    if entry is None:
        return claimant.unknown(id)
    holder = entry.instance.lease.holder
    what = "change it where it is configured"
    if facade.leased.get(id) is not None:
        what = f"let its registrant say it, with PUT /servers/{id}"
    detail = f"{id!r} is kept registered by {holder}, which would undo a change made here; {what}"
    return ProblemError(409, "other-holder", detail, id=id)


#: How many of one batch are probed at the same time.
_AT_ONCE = 64
#: Seconds to wait for a requested probe beyond its own time-out.
_MARGIN = 0.5


class _Found(NamedTuple):
    """What came of probing one connection; ``why`` where it is not healthy."""

    status: Literal["healthy", "degraded", "error"]
    why: str | None
    result: HealthCheckResult | None = None

    @property
    def response_time(self) -> dict[str, float]:
        """``responseTime`` in milliseconds, where it answered."""
        if self.result is None or self.result.latency is None:
            return {}
        return {"responseTime": representation.milliseconds(self.result.latency)}


async def check(request: web.Request) -> web.Response:
    """Probes a connection now, and tells what it answered.

    One that this facade keeps has that health from now on; of another its registrant says how it
    is. `timeout` (milliseconds) in the body is how long to wait.
    """
    facade = facade_of(request)
    body = await read_object(request, empty=True)
    wish = await beside_loop(request, lambda: parsed(CheckWish, body))
    entry = entry_to_report(request, request.match_info["id"])
    found = await _probe(facade, entry, None if wish.timeout is None else wish.timeout / 1000)
    await _publish(facade, entry.id)
    health: dict[str, Any] = {"status": found.status, **found.response_time}
    health["timestamp"] = rfc3339(utcnow())
    if found.why is not None:
        health["reason"] = found.why
    answered = found.result is not None and found.result.asked and found.status != "error"
    body_of_answer: dict[str, Any] = {"connectionId": entry.id, "health": health}
    # As much as the caller sees of it.
    shown = view_of(request).entries.get(entry.id)
    figures = (
        Load() if shown is None else representation.figures_of(shown, parts_of(request)[USAGE])
    )
    known = representation.diagnostics(figures, (shown or entry).health, answered=answered)
    return json_response(body_of_answer | ({"diagnostics": known} if known else {}))


async def check_batch(request: web.Request) -> web.Response:
    """Probes connections at the same time, and answers when the last has answered or `timeout`
    (milliseconds, for all of them together) is over, whichever is first."""
    facade = facade_of(request)
    body = await read_object(request)
    wish = await beside_loop(request, lambda: parsed(BatchCheck, body))
    seconds = facade.options.probe_timeout if wish.timeout is None else wish.timeout / 1000
    facade.view()
    ids = list(dict.fromkeys(wish.connection_ids))
    found = await _probe_all(request, facade, ids, seconds)
    results: list[dict[str, Any]] = []
    for id, each in found.items():
        result = {"connectionId": id, "status": each.status, **each.response_time}
        if each.why is not None:
            result["error"] = each.why
        results.append(result)
    healthy = sum(each.status == "healthy" for each in found.values())
    summary = {"total": len(found), "healthy": healthy, "unhealthy": len(found) - healthy}
    return json_response({"results": results, "summary": summary})


async def _probe_all(
    request: web.Request, facade: Facade, ids: list[str], seconds: float
) -> dict[str, _Found]:
    few = asyncio.Semaphore(_AT_ONCE)

    async def one(id: str) -> _Found:
        try:
            entry = entry_to_report(request, id)
        except ProblemError as error:
            return _Found("error", error.detail)
        async with few:
            return await _probe(facade, entry, seconds)

    tasks = {id: asyncio.create_task(one(id), name="health check") for id in ids}
    try:
        if tasks:
            await asyncio.wait(tasks.values(), timeout=seconds)
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
    late = _late(seconds)
    return {id: late if task.cancelled() else task.result() for id, task in tasks.items()}


async def _probe(facade: Facade, entry: Entry, seconds: float | None) -> _Found:
    """Probes within ``seconds``; without that, within what its probes are given anyway."""
    posted = facade.posted.get(entry.id)
    if posted is not None:
        wait = posted.timeout + _MARGIN if seconds is None else seconds
        finding = await posted.probe(wait)
        if finding is None or finding.result is None:
            return _late(wait)
        found = Verdict(finding.health.status, finding.health.reason)
        return _judged(found, finding.result, posted.timeout)
    wait = facade.options.probe_timeout if seconds is None else seconds
    try:
        async with asyncio.timeout(wait + _MARGIN if seconds is None else wait):
            result = await facade.posted.check(entry.record, wait)
    except TimeoutError:
        return _late(wait)
    found = result.verdict
    if result.asked:
        facade.usage.probed(
            entry.id,
            latency=result.latency,
            success=found.status is Status.HEALTHY,
            status=found.status.value,
            reason=found.reason,
        )
    return _judged(found, result, wait)


def _judged(found: Verdict, result: HealthCheckResult, timeout: float) -> _Found:
    """``timeout`` is what the probe was given, in seconds."""
    if found.status is Status.HEALTHY:
        return _Found("healthy", None, result)
    if found.status is not Status.DOWN:
        return _Found("degraded", found.reason, result)
    late = str(NoAnswerError(timeout)) in found.reason
    return _Found("error", _late(timeout).why if late else found.reason, result)


async def _publish(facade: Facade, id: str) -> None:
    """Puts what a probe found into the list before the answer goes out, where it is ours to say.

    That the store is away is no fault of the connection: its health reaches the store later.
    """
    posted = facade.posted.get(id)
    if posted is None:
        return
    with suppress(StoreError, RegistrationLostError):  # the next heartbeat makes up for both
        await posted.registrar.publish()
    status = posted.status
    await facade.settle(id, lambda entry: entry is None or entry.health.status is status)


def _late(seconds: float) -> _Found:
    return _Found("error", f"Connection timeout after {seconds * 1000:.0f}ms")


OPERATIONS = (
    Operation(
        "POST",
        "/connections",
        register,
        "connections",
        body=NewConnection,
        answers={201: Registered},
        errors=(400, 408, 409, 413, 422),
        needs="register",
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
        needs="register",
    ),
    Operation(
        "DELETE",
        "/connections/{id}",
        disconnect,
        "connections",
        parameters=(ID,),
        answers={200: Disconnected},
        errors=(400, 404, 409),
        needs="register",
    ),
    Operation(
        "POST",
        "/connections/{id}/health-check",
        check,
        "connections",
        parameters=(ID,),
        body=CheckWish,
        answers={200: Checked},
        errors=(400, 404, 408, 413, 422),
        body_optional=True,
        needs="report",
    ),
    Operation(
        "POST",
        "/connections/health-check/batch",
        check_batch,
        "connections",
        body=BatchCheck,
        answers={200: BatchChecked},
        errors=(400, 408, 413, 422),
        needs="report",
    ),
)

"""Changing the list: posting, replacing, removing, heartbeats and draining."""

from __future__ import annotations

import dataclasses
import logging
from functools import partial
from typing import Any

from aiohttp import web

from mcp_discovery.adapters.view import Entry
from mcp_discovery.errors import DuplicateInstanceError, InvalidRecordError, RegistrationLostError
from mcp_discovery.facade.access.parts import parts_of
from mcp_discovery.facade.documents.documents import DOCUMENTS
from mcp_discovery.facade.http.body import beside_loop, read_object
from mcp_discovery.facade.http.client_address import client_of
from mcp_discovery.facade.http.operation import Operation, Parameter
from mcp_discovery.facade.registration.body import (
    Posting,
    anonymous_holder,
    health_from,
    parse,
    warnings_of,
)
from mcp_discovery.facade.registration.leased import Leased
from mcp_discovery.facade.registration.permission import Claimant, known, other_holder
from mcp_discovery.facade.registration.posted_entry import PostedEntry
from mcp_discovery.facade.servers.list_json import json_response
from mcp_discovery.facade.servers.models import (
    Drained,
    Heartbeat,
    HeartbeatAnswer,
    Held,
    RegisteredServer,
    ServerPosting,
)
from mcp_discovery.facade.state import Facade, facade_of
from mcp_discovery.health import Status, utcnow
from mcp_discovery.instance import HOLDER_HEADER, Holder, load_from_dict, public_holder
from mcp_discovery.record import Record

log = logging.getLogger(__name__)

#: Seconds to wait for a requested probe beyond its own time-out.
_PROBE_MARGIN = 0.5


async def post(request: web.Request) -> web.Response:
    """Registers a server: with a ``lease`` it is kept alive by its poster, else by this facade."""
    facade = facade_of(request)
    body = await read_object(request)
    claimant = Claimant.of(request, body)
    address = client_of(request).address
    posting = await beside_loop(request, lambda: parse(body, remote=address))
    id = posting.record.id
    created = _answer(posting.record)
    if posting.lease is not None and posting.lease.holder.public_id == facade.posted.holder.id:
        posting = dataclasses.replace(
            posting, lease=None
        )  # an entry of ours, sent back as it was listed
    async with facade.locks.hold(id):
        claimant.require_new(facade, posting.record)
        identified = not_backdated(facade, claimant, claimant.identified(facade, posting))
        posting = await with_document(request, identified)
        if posting.lease is None:
            if posted_alike_elsewhere(facade, posting):
                return _created(created)
            await register_posted(facade, posting, claimant, replace=False)
        else:
            former = takeover(facade, claimant, posting.record, body)
            await facade.leased.register(posting, posting.lease, posting.document, former)
            holder = posting.lease.holder
            if posting.anonymous:
                created["holder"] = holder.id
            status = posting.health.status
            digest = posting.document.digest
            await facade.settle(
                id, lambda entry: shows(entry, posting.record, digest, holder, status)
            )
    kept_by = "this facade" if posting.lease is None else str(posting.lease.holder)
    log.info("registered %s, kept alive by %s", id, kept_by)
    return _created(created)


async def with_document(request: web.Request, posting: Posting) -> Posting:
    """``posting`` with the document that it names, of those that its caller has sent or sees."""
    document = await parts_of(request)[DOCUMENTS].resolve(posting.document, posting.digest)
    return dataclasses.replace(posting, document=document, digest=None)


async def put(request: web.Request) -> web.Response:
    """Replaces a server's record."""
    facade = facade_of(request)
    id = request.match_info["id"]
    body = await read_object(request)
    claimant = Claimant.of(request, body)
    address = client_of(request).address
    await facade.posted.let_go_of_taken(id)
    async with facade.locks.hold(id):
        leased, entry = facade.leased.get(id), facade.catalog.view.entries.get(id)
        if leased is None and facade.posted.get(id) is None and entry is None:
            raise claimant.unknown(id)
        claimant.require_existing(facade, id)
        posting = await beside_loop(request, lambda: parse(body, remote=address, id=id))
        claimant.require_new(facade, posting.record)
        posting = await with_document(request, posting)
        if leased is not None:
            _require_registrant(claimant, leased)
            document = posting.document
            record, digest, own = posting.record, document.digest, leased.lease.holder
            since = leased.record.registered_at  # which is not for a client to change
            if posting.lease is not None:
                since = max(since, record.registered_at)
            record = record.model_copy(update={"registered_at": since})
            await facade.leased.update(leased, record, document)
            await facade.settle(id, lambda entry: shows(entry, record, digest, own))
        elif facade.posted.get(id) is not None:
            claimant.require_not_another(id, facade.posted.holder, _url(entry))
            await register_posted(facade, posting, claimant, replace=True)
        elif claimant.named is not None or posting.lease is not None:
            raise RegistrationLostError(id, "this facade does not hold it; register it anew")
        else:
            assert entry is not None
            kept_by = entry.instance.lease.holder
            if kept_by.by != "facade" and entry.health.status is not Status.DOWN:
                raise other_holder(id, kept_by)
            await register_posted(facade, posting, claimant, replace=True)
    return json_response(_answer(posting.record))


async def delete(request: web.Request) -> web.Response:
    """Removes a server at once."""
    facade, id, _, claimant = await _request_of_one(request)
    await remove(facade, id, claimant)
    return web.Response(status=204)


async def remove(facade: Facade, id: str, claimant: Claimant) -> None:
    """Takes a server out of the store at once.

    Raises :class:`ProblemError` (404, 403, or 409 where another keeps it alive or has the name),
    :class:`DuplicateInstanceError`.
    """
    await facade.posted.let_go_of_taken(id)
    async with facade.locks.hold(id):
        claimant.require_existing(facade, id)
        claimant.require_name(facade, id)
        leased, entry = facade.leased.get(id), facade.catalog.view.entries.get(id)
        if leased is not None:
            _require_registrant(claimant, leased)
            await facade.leased.deregister(leased)
        elif facade.posted.get(id) is not None:
            claimant.require_not_another(id, facade.posted.holder, _url(entry))
            await facade.posted.remove(id)
        elif entry is None:
            facade.view()
            if not facade.missed.forget(id):
                raise claimant.unknown(id)
        else:
            await _remove_foreign(facade, entry, claimant)
            facade.missed.forget(id)
        await facade.settle(id, lambda entry: entry is None)
    log.info("removed %s", id)


async def heartbeat(request: web.Request) -> web.Response:
    """A heartbeat of whoever registered the server; for a posted one: a probe, now."""
    facade, id, body, claimant = await _request_of_one(request)
    claimant.require_existing(facade, id)
    if facade.leased.get(id) is None and (posted := await posted_here(facade, id)) is not None:
        claimant.require_name(facade, id)
        return await _probe_now(facade, posted, claimant)
    async with facade.locks.hold(id):
        leased = facade.leased.get(id)
        if leased is None:
            raise _not_held(facade, claimant, id)
        if leased.anonymous:
            claimant.require_name(facade, id)
        _require_registrant(claimant, leased)
        health = health_from(body, leased.health)
        await facade.leased.heartbeat(leased, health, load_from_dict(body.get("load")))
    return json_response({"id": id, "status": health.status.value, "ttl": leased.lease.ttl})


async def drain(request: web.Request) -> web.Response:
    """Marks a server as leaving soon: listed, offered to nobody."""
    facade, id, _, claimant = await _request_of_one(request)
    claimant.require_existing(facade, id)
    claimant.require_name(facade, id)
    posted = None if facade.leased.get(id) is not None else await posted_here(facade, id)
    async with facade.locks.hold(id):
        leased = facade.leased.get(id)
        if leased is not None:
            _require_registrant(claimant, leased)
            await facade.leased.drain(leased)
        elif posted is not None:
            claimant.require_not_another(id, facade.posted.holder)
            await posted.registrar.drain()
        else:
            raise _not_held(facade, claimant, id)
        await facade.settle(
            id, lambda entry: entry is not None and entry.health.status is Status.DRAINING
        )
    return json_response({"id": id, "status": Status.DRAINING.value})


# -- posted entries ---------------------------------------------------------------------------


async def register_posted(
    facade: Facade, posting: Posting, claimant: Claimant, *, replace: bool
) -> PostedEntry:
    """Registers what was posted, is its registrant from now on, and waits until the list shows it.

    Raises what :meth:`mcp_discovery.facade.registration.posted_entries.PostedEntries.put` raises.
    The caller holds the id's lock, and has asked whether ``claimant`` may.
    """
    owner = facade.names.owner_for(claimant.caller, posting.record, None)
    posted = await facade.posted.put(posting, replace=replace, owner=owner)
    record, status, holder = posted.record, posted.status, facade.posted.holder
    await facade.settle(posted.id, lambda entry: shows(entry, record, None, holder, status))
    return posted


async def _probe_now(facade: Facade, posted: PostedEntry, claimant: Claimant) -> web.Response:
    id = posted.id
    claimant.require_not_another(id, facade.posted.holder)
    await posted.probe(facade.options.probe_timeout + _PROBE_MARGIN)
    await posted.registrar.publish()
    status, reason = posted.status, posted.health.reason
    await facade.settle(id, lambda entry: entry is not None and entry.health.status is status)
    ttl = facade.options.posted_ttl
    return json_response({"id": id, "status": status.value, "reason": reason, "ttl": ttl})


async def posted_here(facade: Facade, id: str) -> PostedEntry | None:
    """What this facade keeps under ``id``; what another facade keeps is this one's from now on.

    ``None`` when no facade keeps it. Raises what
    :meth:`mcp_discovery.facade.registration.posted_entries.PostedEntries.claim` raises. The
    caller does not hold the id's lock.
    """
    await facade.posted.let_go_of_taken(id)
    async with facade.locks.hold(id):
        posted = facade.posted.get(id)
        entry = facade.catalog.view.entries.get(id)
        if posted is None and entry is not None and facade.posted.posted_elsewhere(entry):
            posted = await facade.posted.claim(entry)
    return posted


def takeover(
    facade: Facade, claimant: Claimant, record: Record, body: dict[str, Any]
) -> str | None:
    """Whose place a registrant with a lease takes: whom it names, or a tombstone's.

    It is a facade itself then, with this one for a store: it may take the place of facades, for
    whose entries any of them stands in, and of others only where it acts for them.
    """
    named = body.get("takeover")
    if named is not None and not isinstance(named, str):
        raise InvalidRecordError("takeover", "is not a string")
    if (removed := facade.catalog.view.removed.get(record.id)) is not None:
        return removed.lease.holder.id
    found = None if named is None else known(facade, record.id)
    if named is None or found is None or found[1].public_id != public_holder(named):
        return None
    former = found[1]
    if former.by != "facade" and not former.is_proven_by(claimant.secret):
        raise other_holder(record.id, former)
    return former.id


def not_backdated(facade: Facade, claimant: Claimant, posting: Posting) -> Posting:
    """``posting`` of a lease, registered no earlier than it was: the eldest of those that have a
    name, or a tool, counts most.

    Where callers have rights of their own only an administrator, such as another facade, says since
    when something has been there; elsewhere a registrant does, as long as nobody else has the name.
    """
    record, lease = posting.record, posting.lease
    if lease is None:
        return posting
    since, found = record.registered_at, known(facade, record.id)
    others = facade.catalog.view.number("name", record.name)
    if found is not None and found[0].name == record.name:
        others -= 1
    if found is not None and found[1].public_id == lease.holder.public_id:
        since = found[0].registered_at  # it is the same registration
    elif others or not claimant.administers(record, lease.holder):
        since = max(since, utcnow())
    return dataclasses.replace(posting, record=record.model_copy(update={"registered_at": since}))


def posted_alike_elsewhere(facade: Facade, posting: Posting) -> bool:
    """Whether another facade keeps just this entry: posting it again changes nothing."""
    entry = facade.catalog.view.entries.get(posting.record.id)
    if entry is None or facade.posted.get(entry.id) is not None or facade.posted.adoptable(entry):
        return False
    posted = posting.record.model_dump(exclude=TOLD_BY_SERVER)
    stored = entry.record.model_dump(exclude=TOLD_BY_SERVER)
    return entry.instance.lease.holder.by == "facade" and posted == stored


#: What the server's own answers may have put into a posted record.
TOLD_BY_SERVER = {"registered_at", "capabilities", "protocol", "version"}


# -- who may ----------------------------------------------------------------------------------


async def _request_of_one(request: web.Request) -> tuple[Facade, str, dict[str, Any], Claimant]:
    """The facade, the id in the path, the body, and who asks."""
    body = await read_object(request, empty=True)
    return facade_of(request), request.match_info["id"], body, Claimant.of(request, body)


def _require_registrant(claimant: Claimant, leased: Leased) -> None:
    """Raises unless ``claimant`` acts for the registrant, or that gave no name."""
    claimant.require_holder(leased.record, leased.lease.holder, anonymous=leased.anonymous)


def _url(entry: Entry | None) -> str | None:
    return entry.record.endpoint.url if entry is not None else None


async def _remove_foreign(facade: Facade, entry: Entry, claimant: Claimant) -> None:
    """Removes what is not held here: as its own registrant, or when nobody keeps it alive."""
    lease = entry.instance.lease
    claimant.require_not_another(entry.id, lease.holder, _url(entry))
    if facade.posted.posted_elsewhere(entry) and facade.posted.tombstones_are_seen:
        await facade.posted.remove_elsewhere(entry)
        return
    # Any facade accepts a registrant that gave no name as itself.
    unnamed = anonymous_holder(entry.record)
    taken_by = facade.posted.holder
    if public_holder(unnamed) == lease.holder.public_id:
        taken_by = dataclasses.replace(lease.holder, id=unnamed)
    elif claimant.acts_for(entry.record, lease.holder):
        secret = claimant.secret or claimant.named
        proven = secret if lease.holder.is_proven_by(secret) else None
        taken_by = dataclasses.replace(lease.holder, secret=proven)
    elif claimant.named is not None and entry.health.status is not Status.DOWN:
        claimant.require_holder(entry.record, lease.holder)
    try:
        registration = await facade.catalog.store.register(
            entry.record,
            await facade.documents.of_record(entry.record),
            ttl=min(lease.ttl, 10.0),
            reap_after=lease.reap_after,
            health=entry.health,
            holder=taken_by,
        )
    except DuplicateInstanceError as error:
        if taken_by is not facade.posted.holder:
            raise
        raise other_holder(entry.id, lease.holder) from error
    await registration.deregister()


def _not_held(facade: Facade, claimant: Claimant, id: str) -> Exception:
    if facade.view().entries.get(id) is None:
        return claimant.unknown(id)
    return RegistrationLostError(id, "this facade does not hold it; register it anew")


# -- answers ----------------------------------------------------------------------------------


def _answer(record: Record) -> dict[str, Any]:
    warnings = warnings_of(record)
    return {"id": record.id} | ({"warnings": warnings} if warnings else {})


def _created(created: dict[str, Any]) -> web.Response:
    response = json_response(created, status=201)
    response.headers["Location"] = f"/servers/{created['id']}"
    return response


def shows(
    entry: Entry | None,
    record: Record,
    digest: str | None,
    holder: Holder,
    status: Status | None = None,
) -> bool:
    """Whether the list shows ``record`` as ``holder`` registered it, with ``digest`` and
    ``status`` where they are given."""
    if entry is None or entry.instance.lease.holder.public_id != holder.public_id:
        return False
    if entry.health.status is Status.QUARANTINED:
        return entry.record.same_as(record)
    if status is not None and entry.health.status is not status:
        return False
    offered = entry.record.capabilities
    if digest is not None and offered.digest != digest:
        return False
    same = record.model_copy(update={"capabilities": offered})
    return entry.record.same_as(same)


_ID = Parameter("id", "The instance's id.", {"type": "string"}, where="path")
_HOLDER = Parameter("holder", "Who holds the registration, where that is not this facade.")
_SECRET = Parameter(
    HOLDER_HEADER, "The secret of the registration's holder, where it has one.", where="header"
)
_of_one = partial(
    Operation,
    group="registration",
    parameters=(_ID, _HOLDER, _SECRET),
    errors=(403, 404, 409, 422),
    needs="register",
)
_of_holder = partial(_of_one, body=Held, body_optional=True)
OPERATIONS = (
    Operation(
        "POST",
        "/servers",
        post,
        "registration",
        parameters=(_SECRET,),
        body=ServerPosting,
        answers={201: RegisteredServer},
        errors=(403, 409, 422),
        needs="register",
    ),
    _of_one("PUT", "/servers/{id}", put, body=ServerPosting, answers={200: RegisteredServer}),
    _of_holder("DELETE", "/servers/{id}", delete, answers={204: None}),
    _of_holder(
        "POST", "/servers/{id}/heartbeat", heartbeat, body=Heartbeat, answers={200: HeartbeatAnswer}
    ),
    _of_holder("POST", "/servers/{id}/drain", drain, answers={200: Drained}),
)

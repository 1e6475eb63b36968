"""Exports of the registry: ``GET /registry/export`` and ``POST /registry/import``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson
from aiohttp import web

from mcp_discovery.adapters.view import Entry
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import DiscoveryError, InvalidRecordError, StoreUnavailableError
from mcp_discovery.facade.access.audit.audit import AUDIT, Audit
from mcp_discovery.facade.access.parts import parts_of
from mcp_discovery.facade.connections import representation
from mcp_discovery.facade.connections.conversion import posting_of, shown_metadata
from mcp_discovery.facade.connections.requests import RECORD_FIELDS, Export, NewConnection, parsed
from mcp_discovery.facade.connections.responses import Exported, Imported
from mcp_discovery.facade.connections.statuses import protocol_of, status_of
from mcp_discovery.facade.documents.documents import DOCUMENTS, Documents, document_of
from mcp_discovery.facade.http.body import beside_loop, read_object
from mcp_discovery.facade.http.operation import Operation, Parameter
from mcp_discovery.facade.http.parameters import flag, once, one_of
from mcp_discovery.facade.http.pauses import Pauses, made_of_each
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.facade.registration.body import Posting
from mcp_discovery.facade.registration.handlers import TOLD_BY_SERVER, register_posted
from mcp_discovery.facade.registration.permission import Claimant
from mcp_discovery.facade.registration.traits import FIELD, traits_of
from mcp_discovery.facade.servers import list_json
from mcp_discovery.facade.servers.current_list import view_of
from mcp_discovery.facade.servers.list_json import json_response
from mcp_discovery.facade.state import Facade, facade_of
from mcp_discovery.health import rfc3339, utcnow
from mcp_discovery.plural import counted
from mcp_discovery.record import SERVER, Capabilities, Record
from mcp_discovery.record_fields import json_names
from mcp_discovery.version import installed_version


async def export(request: web.Request) -> web.Response:
    """Every connection, whatever its status, as `POST /connections` and `POST /registry/import`
    take it.

    `documents` holds the capability documents that say more than names, by the `digest` that
    connections give; `documents=false` leaves them out.
    """
    view = view_of(request)
    wanted = one_of("documents", once(request, "documents") or "true", ("true", "false"))
    entries = sorted(view, key=lambda entry: (entry.record.name, entry.id))
    documents: dict[str, CapabilityDocument] = {}
    if wanted == "true":
        documents = await _documents(parts_of(request)[DOCUMENTS], entries)
    body = {
        "version": installed_version(),
        "exportedAt": rfc3339(utcnow()),
        "connections": await made_of_each(entries, lambda each: exported(each.record, documents)),
        "totalExported": len(entries),
        "documents": {
            digest: orjson.Fragment(document.canonical)
            for digest, document in sorted(documents.items())
        },
    }
    return json_response(body | list_json.caveats(view), view)


def exported(record: Record, documents: Container[str | None]) -> dict[str, Any]:
    """``record`` as it can be imported, with the digest of its document if ``documents`` has it."""
    traits = traits_of(record)
    metadata = shown_metadata(record)
    fields = record.to_dict()
    item: dict[str, Any] = {name: fields.get(name) for name in json_names(RECORD_FIELDS)}
    item |= {
        "type": traits.type,
        "protocol": protocol_of(record.endpoint.transport),
        "endpoint": representation.endpoint_shown(record.endpoint),
        "capabilities": representation.names_of(record),
        "metadata": metadata,
        "healthCheck": representation.health_check_shown(traits),
        "status": "idle" if traits.idle else None,
        "era": record.protocol.era,
    }
    if record.auth.type == "none":
        del item["auth"]
    if record.weight == 1:
        del item["weight"]
    if record.kind == SERVER:
        del item["kind"]
    if record.registry_name == f"local/{record.name}":
        del item["registryName"]
    # The record's version and owner, where the metadata does not already have the same.
    for name, usual in (("version", "0.0.0"), ("owner", None)):
        if metadata.get(name, usual) == item[name]:
            del item[name]
    if record.capabilities.digest in documents:
        item["digest"] = record.capabilities.digest
    return {
        name: value for name, value in item.items() if value or value == 0 or name == "capabilities"
    }


async def _documents(
    documents: Documents, entries: Iterable[Entry]
) -> dict[str, CapabilityDocument]:
    """The documents of ``entries`` that have more than names, which an export has anyway: an import
    makes a document of them."""
    offers: dict[str, tuple[str, ...]] = {}
    for entry in entries:
        if (digest := entry.record.capabilities.digest) is not None:
            offers[digest] = tuple(representation.names_of(entry.record))
    found: dict[str, CapabilityDocument] = {}
    # Of a document that is lost only the names can be exported.
    await documents.read_each(offers, lambda each: found.update({each.digest: each}))
    return {
        digest: document
        for digest, document in found.items()
        if digest != document_of(Capabilities(tools=offers[digest])).digest
    }


log = logging.getLogger(__name__)

#: The largest import, in bytes, before and after unpacking.
MAX_IMPORT_BYTES = 32 * 2**20
#: How many connections are registered, and probed for the first time, at the same time.
_CONCURRENT = 64


@dataclass(frozen=True, slots=True)
class PlannedImport:
    """A connection that can be imported, and its effect on the registry."""

    index: int
    posting: Posting
    effect: Literal["created", "replaced", "unchanged"]


@dataclass(slots=True)
class ImportPlan:
    """The effects of an import; ``refused`` and ``failed`` have the form of the response."""

    audit: Audit | None
    planned: list[PlannedImport] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)
    failed: list[dict[str, Any]] = field(default_factory=list)
    unavailable: bool = False

    def record(self, item: Mapping[str, Any], error: DiscoveryError) -> None:
        """Records that a connection was refused, as it is where it is posted alone: nobody finds
        out unseen which names are held."""
        if self.audit is not None:
            named = {name: item[name] for name in ("name", "id") if isinstance(item.get(name), str)}
            self.audit.refused_in_part(error, named)

    def report(self, *, dry: bool, applied: bool) -> dict[str, Any]:
        """The response: the ids by effect."""
        failed = {each["index"] for each in self.failed}
        ids: dict[str, list[str]] = {"created": [], "replaced": [], "unchanged": []}
        for each in self.planned:
            if each.index not in failed:
                ids[each.effect].append(each.posting.record.id)
        beside = {"refused": self.refused, "failed": self.failed}
        return {"dryRun": dry, "applied": applied, **ids, **beside}


async def import_(request: web.Request) -> web.Response:
    """Registers the connections of an export; this facade keeps them alive from now on.

    First it is looked at whole: `created`, `replaced`, `unchanged` or `refused`, and why. With
    `dryRun=true` that is all. Where any is refused, nothing is done (409, with the report), unless
    `partial=true` asks for the others. What the store did not take is in `failed`.
    """
    facade = facade_of(request)
    dry, partial = flag(request, "dryRun"), flag(request, "partial")
    body = await read_object(request, limit=MAX_IMPORT_BYTES)
    given = await beside_loop(request, lambda: parsed(Export, body))
    facade.view()
    claimant = Claimant.of(request)
    documents = await beside_loop(request, lambda: _documents_of(given))
    for document in documents.values():
        facade.documents.put(document)
    plan = ImportPlan(request.app.get(AUDIT))
    await look_at(plan, facade, claimant, given.connections, documents)
    if dry:
        return json_response(plan.report(dry=True, applied=False))
    if plan.refused and not partial:
        detail = (
            f"of {counted(len(given.connections), 'connection')} {len(plan.refused)} cannot be "
            "imported, so "
            "none was; mend or remove them, or send partial=true to import the others"
        )
        raise ProblemError(409, "import-refused", detail, **plan.report(dry=False, applied=False))
    await apply_plan(facade, claimant, plan)
    report = plan.report(dry=False, applied=True)
    if plan.failed:
        detail = (
            f"of {counted(len(given.connections), 'connection')} the store did not take "
            f"{len(plan.failed)}, the "
            "others were; send the same again, which changes nothing that is there already"
        )
        raise ProblemError(503 if plan.unavailable else 409, "import-incomplete", detail, **report)
    log.info("imported %s", counted(len(plan.planned), "connection"))
    return json_response(report)


def _documents_of(given: Export) -> dict[str, CapabilityDocument]:
    return {
        digest: CapabilityDocument.from_json(orjson.dumps(content), digest=digest)
        for digest, content in (given.documents or {}).items()
    }


async def look_at(
    plan: ImportPlan,
    facade: Facade,
    claimant: Claimant,
    items: Sequence[Mapping[str, Any]],
    documents: Mapping[str, CapabilityDocument],
) -> None:
    """Puts into ``plan`` what would become of connections in the form of an export."""
    seen: dict[str, int] = {}
    pauses = Pauses()
    for index, item in enumerate(items):
        await pauses.pause()
        try:
            posting = _posting(item, documents)
            id = posting.record.id
            if (before := seen.setdefault(id, index)) != index:
                raise InvalidRecordError(
                    "id", f"{id!r} stands at {before} already; give it another"
                )
            claimant.require_new(facade, posting.record)
            facade.posted.dialer.check(posting.record)
            plan.planned.append(PlannedImport(index, posting, _effect(facade, posting)))
        except DiscoveryError as error:
            plan.refused.append(_conflict(index, item, error))
            plan.record(item, error)


def _posting(item: Mapping[str, Any], documents: Mapping[str, CapabilityDocument]) -> Posting:
    item = dict(item)
    digest = item.pop("digest", None)
    new = parsed(NewConnection, item)
    if digest is None:
        return posting_of(new)
    document = documents.get(digest) if isinstance(digest, str) else None
    if document is None:
        raise InvalidRecordError(
            "digest", "is of no document in documents; leave it out, or add that"
        )
    posting = posting_of(new, document=document)
    named = {each if isinstance(each, str) else each.name for each in new.capabilities or ()}
    if new.capabilities is not None and named != set(representation.names_of(posting.record)):
        problem = "are not those of the document that digest names; leave one of the two out"
        raise InvalidRecordError("capabilities", problem)
    return posting


def _effect(facade: Facade, posting: Posting) -> Literal["created", "replaced", "unchanged"]:
    """Raises :class:`ProblemError` where another keeps the id alive."""
    id = posting.record.id
    entry = facade.catalog.view.entries.get(id)
    if entry is None:
        return "created"
    if _comparable(posting.record) == _comparable(entry.record):
        return "unchanged"
    holder = entry.instance.lease.holder
    if facade.leased.get(id) is None and (
        holder.by == "facade" or status_of(entry.health) == "disconnected"
    ):
        return "replaced"
    detail = (
        f"{id!r} is kept registered by {holder}, and says otherwise; change it there, or give this "
        "connection another id"
    )
    raise ProblemError(409, "other-holder", detail)


def _comparable(record: Record) -> dict[str, Any]:
    """The members by which two records of the same connection are compared.

    Introspected members count only where the server is not introspected again, as no command is.
    """
    members = record.model_dump(include=set(Record.model_fields) - TOLD_BY_SERVER - {"started_at"})
    members[FIELD] = (record.model_extra or {}).get(FIELD)
    members["version"] = record.version
    if record.protocol.era is None or record.endpoint.url is None:
        members["capabilities"] = record.capabilities.model_dump(exclude={"digest"})
    return members


async def apply_plan(facade: Facade, claimant: Claimant, plan: ImportPlan) -> None:
    """Registers what ``plan`` has; what the store does not take is in its ``failed``."""
    slots = asyncio.Semaphore(_CONCURRENT)

    async def one(planned: PlannedImport) -> None:
        posting = planned.posting
        try:
            async with slots:
                await facade.posted.let_go_of_taken(posting.record.id)
                async with facade.locks.hold(posting.record.id):
                    claimant.require_new(facade, posting.record)
                    await register_posted(facade, posting, claimant, replace=True)
        except DiscoveryError as error:
            item = {"id": posting.record.id, "name": posting.record.name}
            plan.failed.append(_conflict(planned.index, item, error))
            plan.record(item, error)
            plan.unavailable |= isinstance(error, StoreUnavailableError)

    async with asyncio.TaskGroup() as group:
        for each in plan.planned:
            if each.effect != "unchanged":
                group.create_task(one(each))
    plan.failed.sort(key=lambda each: int(each["index"]))


def _conflict(index: int, item: Mapping[str, Any], error: DiscoveryError) -> dict[str, Any]:
    conflict: dict[str, Any] = {"index": index}
    for name in ("id", "name"):
        if isinstance(value := item.get(name), str):
            conflict[name] = value[:100]
    conflict["reason"] = str(error)
    at = error.field if isinstance(error, InvalidRecordError) else None
    if isinstance(error, ProblemError):
        at = error.facts.get("field")
    return conflict | ({"field": at} if at else {})


_FLAG = {"type": "string", "enum": ["true", "false"]}
OPERATIONS = (
    Operation(
        "GET",
        "/registry/export",
        export,
        "registry",
        parameters=(
            Parameter(
                "documents", "Whether capability documents are included; default true.", _FLAG
            ),
        ),
        answers={200: Exported},
        needs="read",
    ),
    Operation(
        "POST",
        "/registry/import",
        import_,
        "registry",
        parameters=(
            Parameter("dryRun", "Only tell what would become of each; default false.", _FLAG),
            Parameter("partial", "Import the others where some are refused; default false.", _FLAG),
        ),
        body=Export,
        answers={200: Imported},
        errors=(400, 408, 409, 413, 422),
        needs="register",
    ),
)

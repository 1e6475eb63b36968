"""The registry as one document that can be imported: ``GET /registry/export``."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

import orjson
from aiohttp import web

from mcp_discovery.adapters.view import Entry
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.facade.connections import representation
from mcp_discovery.facade.connections.conversion import shown_metadata
from mcp_discovery.facade.connections.requests import RECORD_FIELDS
from mcp_discovery.facade.connections.responses import Exported
from mcp_discovery.facade.connections.statuses import protocol_of
from mcp_discovery.facade.documents.cache import Documents, document_of
from mcp_discovery.facade.http.operation import Operation, Parameter
from mcp_discovery.facade.http.parameters import once, one_of
from mcp_discovery.facade.registration.traits import traits_of
from mcp_discovery.facade.servers import list_json
from mcp_discovery.facade.servers.list_json import json_response
from mcp_discovery.facade.state import facade_of
from mcp_discovery.health import rfc3339, utcnow
from mcp_discovery.record import Capabilities, Record
from mcp_discovery.record_fields import json_names
from mcp_discovery.version import installed_version


async def export(request: web.Request) -> web.Response:
    """Every connection, whatever its status, as `POST /connections` and `POST /registry/import`
    take it.

    `documents` holds the capability documents that say more than names, by the `digest` that
    connections give; `documents=false` leaves them out.
    """
    facade = facade_of(request)
    view = facade.view()
    wanted = one_of("documents", once(request, "documents") or "true", ("true", "false"))
    entries = sorted(view, key=lambda entry: (entry.record.name, entry.id))
    documents: dict[str, CapabilityDocument] = {}
    if wanted == "true":
        documents = await _documents(facade.documents, entries)
    body = {
        "version": installed_version(),
        "exportedAt": rfc3339(utcnow()),
        "connections": [exported(entry.record, documents) for entry in entries],
        "totalExported": len(entries),
        "documents": {
            digest: orjson.Fragment(document.canonical)
            for digest, document in sorted(documents.items())
        },
    }
    return json_response(body | list_json.staleness(view), view)


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
    if record.registry_name == f"local/{record.name}":
        del item["registryName"]
    # The record's version and owner, where the metadata does not already have the same.
    for name, usual in (("version", "0.0.0"), ("owner", None)):
        if metadata.get(name, usual) == item[name]:
            del item[name]
    if record.capabilities.digest in documents:
        item["digest"] = record.capabilities.digest
    return {name: value for name, value in item.items() if value or value == 0 or name in _ALWAYS}


_ALWAYS = frozenset({"capabilities"})


async def _documents(
    documents: Documents, entries: Iterable[Entry]
) -> dict[str, CapabilityDocument]:
    """The documents of ``entries`` that have more than names, which an export has anyway."""
    offers: dict[str, Record] = {}
    for entry in entries:
        if (digest := entry.record.capabilities.digest) is not None:
            offers[digest] = entry.record
    found: dict[str, CapabilityDocument] = {}
    # Of a document that is lost only the names can be exported.
    await documents.read_each(offers, lambda each: found.update({each.digest: each}))
    return {
        digest: document
        for digest, document in found.items()
        if document.digest != _names_only(offers[digest]).digest
    }


def _names_only(record: Record) -> CapabilityDocument:
    """The document that an import makes from the names alone."""
    return document_of(Capabilities(tools=tuple(representation.names_of(record))))


OPERATIONS = (
    Operation(
        "GET",
        "/registry/export",
        export,
        "registry",
        parameters=(
            Parameter(
                "documents",
                "Whether capability documents are included; default true.",
                {"type": "string", "enum": ["true", "false"]},
            ),
        ),
        answers={200: Exported},
    ),
)

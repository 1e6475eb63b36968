"""The servers of the list and their capability documents, as MCP resources."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote, unquote

from mcp_discovery.adapters.live_list import CatalogEvent, LiveList
from mcp_discovery.adapters.view import Entry, View
from mcp_discovery.document import is_digest
from mcp_discovery.errors import DocumentNotFoundError
from mcp_discovery.facade.documents.documents import Documents
from mcp_discovery.facade.http import cursors
from mcp_discovery.facade.servers import list_json
from mcp_discovery.facade.servers.current_list import current_view
from mcp_discovery.mcp_messages import INVALID_PARAMS, RESOURCE_NOT_FOUND, JsonRpcError
from mcp_discovery.query.query import Query
from mcp_discovery.record import SERVER

SERVERS: Final = "mcp-discovery://servers"
_SERVER: Final = "mcp-discovery://servers/"
_DOCUMENT: Final = "mcp-discovery://documents/"


def server_uri(id: str) -> str:
    """The resource of the server ``id``."""
    return _SERVER + quote(id, safe="")


def server_in(uri: str) -> str | None:
    """The id of the server that ``uri`` names; ``None`` where it names none."""
    return unquote(uri[len(_SERVER) :]) or None if uri.startswith(_SERVER) else None


def document_in(uri: str) -> str | None:
    """The digest that ``uri`` names; ``None`` where it names none."""
    return uri[len(_DOCUMENT) :] or None if uri.startswith(_DOCUMENT) else None


def changed(events: Iterable[CatalogEvent]) -> tuple[set[str], bool]:
    """The resources whose contents ``events`` change, and whether other resources are listed."""
    uris: set[str] = set()
    others = False
    for event in events:
        uris.add(server_uri(event.id))
        before, after = event.before, event.entry
        others = others or before is None or after is None
        if before is not None and after is not None:
            digests = (before.record.capabilities.digest, after.record.capabilities.digest)
            others = others or digests[0] != digests[1]
    if uris:
        uris.add(SERVERS)
    return uris, others


_JSON: Final = "application/json"
#: How many resources one page has.
PAGE: Final = 200

_ALL: Final = {
    "uri": SERVERS,
    "name": "servers",
    "title": "All MCP servers",
    "description": "Every server in the list, whatever its health. Subscribe to hear of changes.",
    "mimeType": _JSON,
}
TEMPLATES: Final = (
    {
        "uriTemplate": _SERVER + "{id}",
        "name": "server",
        "title": "An MCP server",
        "description": "One server by its id: what it is, where it is, and how it is now.",
        "mimeType": _JSON,
    },
    {
        "uriTemplate": _DOCUMENT + "{digest}",
        "name": "document",
        "title": "What an MCP server offers",
        "description": "A capability document by its digest (capabilities.digest of a server): "
        "tools, resources, prompts and skills, as MCP spells them. What a digest names never "
        "changes.",
        "mimeType": _JSON,
    },
)


class Resources:
    """The resources of one catalog."""

    def __init__(self, catalog: LiveList, documents: Documents) -> None:
        self._catalog = catalog
        self._documents = documents

    def page(self, cursor: str | None, *, internal: bool) -> dict[str, Any]:
        """One page: the list itself, then servers by id, then documents by digest.

        A cursor names the last resource of its page, so that a resource that stays is on exactly
        one page, whatever is added or removed meanwhile. ``internal`` leaves out all but the list
        itself, see :class:`mcp_discovery.facade.mcp.methods.McpClient`. Raises
        :class:`JsonRpcError` for an invalid cursor.
        """
        kind, last = _place(cursor)
        view = current_view(self._catalog)
        items: list[dict[str, Any]] = [dict(_ALL)] if kind == "" else []
        if internal:
            return {"resources": items}
        room = PAGE - len(items)
        if kind != "d":
            after = last if kind == "s" else ""
            ids = heapq.nsmallest(
                room + 1, (id for id in view.having("kind", SERVER) if id > after)
            )
            items += [_server(view.entries[id]) for id in ids[:room]]
            if len(ids) > room:
                return {"resources": items, "nextCursor": cursors.encode("s", ids[room - 1])}
            last, room = "", room - len(ids)
        digests = _digests(view, last)
        chosen = heapq.nsmallest(room + 1, digests)
        items += [_document(digest, digests[digest]) for digest in chosen[:room]]
        page: dict[str, Any] = {"resources": items}
        if len(chosen) > room:
            page["nextCursor"] = cursors.encode("d", chosen[room - 1] if room else "")
        return page

    async def read(self, uri: str) -> tuple[bytes, bool]:
        """The JSON of a resource, and whether it stays the same for ever.

        Raises :class:`JsonRpcError` where there is none.
        """
        view = current_view(self._catalog)
        if uri == SERVERS:
            return list_json.servers(view, view.select(Query(status=()))), False
        if (id := server_in(uri)) is not None and (entry := view.entries.get(id)) is not None:
            return list_json.with_members(
                entry.json(view.as_of), dict(list_json.caveats(view))
            ), False
        digest = document_in(uri)
        if digest is not None and is_digest(digest):
            try:
                return (await self._documents.get(digest)).canonical, True
            except DocumentNotFoundError:
                pass  # reported as any other missing resource
        raise missing(uri)

    def check(self, uri: str) -> None:
        """Raises :class:`JsonRpcError` unless ``uri`` has the form of one of these resources.

        It need not exist: a client may subscribe to a server before that is registered.
        """
        digest = document_in(uri)
        if uri != SERVERS and server_in(uri) is None and not (digest and is_digest(digest)):
            raise missing(uri)


def missing(uri: str) -> JsonRpcError:
    """There is no such resource."""
    detail = (
        f"Resource not found: {uri[:200]!r}; resources/list and resources/templates/list tell "
        "which there are"
    )
    return JsonRpcError(RESOURCE_NOT_FOUND, detail, {"uri": uri[:1000]})


def _server(entry: Entry) -> dict[str, Any]:
    record = entry.record
    resource = {
        "uri": server_uri(entry.id),
        "name": entry.id,
        "title": record.title or record.name,
        "mimeType": _JSON,
    }
    return resource | ({"description": record.description} if record.description else {})


def _document(digest: str, entry: Entry) -> dict[str, Any]:
    record = entry.record
    return {
        "uri": _DOCUMENT + digest,
        "name": digest,
        "title": f"What {record.title or record.name} offers",
        "description": f"Tools, resources, prompts and skills of {record.name} {record.version}.",
        "mimeType": _JSON,
    }


def _digests(view: View, after: str) -> Mapping[str, Entry]:
    """Digest → the first entry that has it, of those behind ``after``."""
    found: dict[str, Entry] = {}
    for entry in view:
        digest = entry.record.capabilities.digest
        if digest is not None and digest > after:
            known = found.setdefault(digest, entry)
            if entry.order < known.order:
                found[digest] = entry
    return found


def _place(cursor: str | None) -> tuple[str, str]:
    if cursor is None:
        return "", ""
    match cursors.decode(cursor):
        case ["s" | "d" as kind, str(last)]:
            return kind, last
    raise JsonRpcError(
        INVALID_PARAMS, "this cursor was not made here; start again without a cursor"
    )

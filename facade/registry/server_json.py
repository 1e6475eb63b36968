"""A record as ``server.json``, always valid against its schema.

https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import orjson
from pydantic import BaseModel

from mcp_discovery.adapters.view import Entry
from mcp_discovery.document import compact
from mcp_discovery.facade.registry.addresses import Addresses, Remote, encoded_url
from mcp_discovery.record import Record, url_problem

SCHEMA = "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json"
#: The registry's key for the publisher's own members, and how many bytes it accepts of them.
PUBLISHER = "io.modelcontextprotocol.registry/publisher-provided"
MAX_PUBLISHER = 4096
#: This project's key for an endpoint that ``remotes`` cannot express: WebSocket, stdio.
ENDPOINT = "io.github.mcp-discovery/endpoint"

#: The longest description, title and version, in characters.
MAX_TEXT = 100
MAX_VERSION = 255
_MAX_ICON = 255
_IMAGES = frozenset({"image/png", "image/jpeg", "image/jpg", "image/svg+xml", "image/webp"})
_SIZE = re.compile(r"\d+x\d+|any", re.ASCII)
_TOKEN = {"bearer": "Bearer, followed by a token", "oauth2": "Bearer, followed by an access token"}


class ServerJson:
    """The ``server.json`` of one version of a server, made on first use.

    ``record`` describes the server; the address of ``representative`` is published.
    """

    def __init__(self, record: Record, representative: Entry, addresses: Addresses) -> None:
        self.record = record
        self.representative = representative
        self._addresses = addresses

    @cached_property
    def remote(self) -> Remote | None:
        """The server's address, where ``server.json`` can express it."""
        return self._addresses.remote(self.representative)

    @cached_property
    def data(self) -> bytes:
        """The document as JSON."""
        return compact(orjson.dumps(document(self.record, self.remote)))

    def same_content(self, other: ServerJson) -> bool:
        """Whether both are the same document."""
        same = (
            self.record is other.record
            and self.representative.record is other.representative.record
        )
        return (
            same and _holder_kind(self.representative) == _holder_kind(other.representative)
        ) or self.data == other.data


def can_be_listed(record: Record) -> bool:
    """Whether ``server.json`` has room for the record's version."""
    return len(record.version) <= MAX_VERSION


def document(record: Record, remote: Remote | None) -> dict[str, Any]:
    """The ``server.json`` of ``record``, reached at ``remote``."""
    found = {"$schema": SCHEMA, **identity(record)}
    if remote is not None:
        found["remotes"] = [remote_of(record, remote)]
    meta: dict[str, Any] = {}
    if members := _publisher(record):
        meta[PUBLISHER] = members
    if remote is None:
        meta[ENDPOINT] = _fields(record.endpoint)
    if meta:
        found["_meta"] = meta
    return found


def identity(record: Record) -> dict[str, Any]:
    """The members that describe a server in ``server.json`` and in a server card alike."""
    found: dict[str, Any] = {
        "name": record.registry_name,
        "description": _description(record),
        "version": record.version,
    }
    if title := shortened(record.title or "", MAX_TEXT):
        found["title"] = title
    if record.website_url and (url := encoded_url(record.website_url)):
        found["websiteUrl"] = url
    if icons := [icon for each in record.icons if (icon := _icon(each))]:
        found["icons"] = icons
    return found


def remote_of(record: Record, remote: Remote) -> dict[str, Any]:
    """One of ``remotes``, with the header that a client has to send."""
    found: dict[str, Any] = {"type": remote.type, "url": remote.url}
    if record.auth.type != "none":
        header = {"name": "Authorization", "description": _TOKEN[record.auth.type]}
        found["headers"] = [{**header, "isRequired": True, "isSecret": True}]
    return found


def shortened(text: str, most: int) -> str:
    """``text`` in one line of at most ``most`` characters, cut at a word where it is longer."""
    line = " ".join(text.split())
    if len(line) <= most:
        return line
    words, space, _ = line[:most].rpartition(" ")
    kept = words if space and len(words) >= most // 2 else line[: most - 1]
    return kept.rstrip(" ,;:.-") + "…"


def _holder_kind(entry: Entry) -> str:
    return entry.instance.lease.holder.by


def _description(record: Record) -> str:
    """The description, which is never empty: hosts reject an entry without one."""
    return (
        shortened(record.description, MAX_TEXT)
        or shortened(record.title or "", MAX_TEXT)
        or f"The MCP server {record.name}"
    )


def _icon(icon: Mapping[str, Any]) -> dict[str, Any]:
    """The members of an icon that the schema allows; empty where its source is invalid."""
    source = icon.get("src")
    if not isinstance(source, str) or url_problem(source, ("https",)) is not None:
        return {}
    url = encoded_url(source)
    if url is None or len(url) > _MAX_ICON:
        return {}
    found: dict[str, Any] = {"src": url}
    kind = icon.get("mimeType")
    if isinstance(kind, str) and kind in _IMAGES:
        found["mimeType"] = kind
    sizes = icon.get("sizes")
    if isinstance(sizes, list | tuple):
        fit = [each for each in sizes if isinstance(each, str) and _SIZE.fullmatch(each)]
        found |= {"sizes": fit} if fit else {}
    if icon.get("theme") in ("light", "dark"):
        found["theme"] = icon["theme"]
    return found


def _publisher(record: Record) -> dict[str, Any]:
    """Further members of the record, the most useful first, as many as fit."""
    found: dict[str, Any] = {}
    size = 2
    for name, value in _publisher_members(record):
        if not value:
            continue
        more = len(orjson.dumps({name: value})) - 1  # its braces, for a comma
        if size + more <= MAX_PUBLISHER:
            found[name] = value
            size += more
    return found


def _fields(part: BaseModel) -> dict[str, Any]:
    """A part of a record as JSON, without its empty members."""
    fields = part.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {name: value for name, value in fields.items() if value != []}


def _publisher_members(record: Record) -> Iterable[tuple[str, Any]]:
    auth, offered = record.auth, record.capabilities
    yield "owner", record.owner
    yield "tags", record.tags
    if auth.type != "none":
        yield "auth", _fields(auth)
    yield "protocolVersions", record.protocol.versions
    yield "metadata", dict(record.metadata)
    yield "tools", offered.tools
    yield "prompts", offered.prompts
    yield "resources", offered.resources

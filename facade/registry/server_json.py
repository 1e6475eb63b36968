"""A record as ``server.json`` says it, so that it is always valid against the schema.

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
from mcp_discovery.compact import compact
from mcp_discovery.facade.registry.addresses import Addresses, Remote, spelled
from mcp_discovery.record import Record, url_problem

SCHEMA = "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json"
#: The registry's key for what a publisher says of a server, and how many bytes of it it takes.
PUBLISHER = "io.modelcontextprotocol.registry/publisher-provided"
MAX_PUBLISHER = 4096
#: Our key for an endpoint that ``remotes`` cannot name: WebSocket, stdio.
ENDPOINT = "io.github.mcp-discovery/endpoint"

#: The longest description, title and version, in characters.
MAX_TEXT = 100
MAX_VERSION = 255
_MAX_ICON = 255
_IMAGES = frozenset({"image/png", "image/jpeg", "image/jpg", "image/svg+xml", "image/webp"})
_SIZE = re.compile(r"\d+x\d+|any", re.ASCII)
_TOKEN = {"bearer": "Bearer, followed by a token", "oauth2": "Bearer, followed by an access token"}


class ServerJson:
    """The ``server.json`` of one version of a server, made when it is first asked for.

    ``record`` says who the server is, ``speaker`` is the instance whose address is published.
    """

    def __init__(self, record: Record, speaker: Entry, addresses: Addresses) -> None:
        self.record = record
        self.speaker = speaker
        self._addresses = addresses

    @cached_property
    def remote(self) -> Remote | None:
        """Where the server is reached, as far as ``server.json`` can say it."""
        return self._addresses.remote(self.speaker)

    @cached_property
    def data(self) -> bytes:
        """The document as JSON."""
        return compact(orjson.dumps(document(self.record, self.remote)))

    def says_the_same(self, other: ServerJson) -> bool:
        """Whether a host would read the same in both."""
        same = self.record is other.record and self.speaker.record is other.speaker.record
        return (same and _by(self.speaker) == _by(other.speaker)) or self.data == other.data


def can_be_listed(record: Record) -> bool:
    """Whether ``server.json`` has room for the record's version."""
    return len(record.version) <= MAX_VERSION


def document(record: Record, remote: Remote | None) -> dict[str, Any]:
    """The ``server.json`` of ``record``, reached at ``remote``."""
    found = {"$schema": SCHEMA, **identity(record)}
    if remote is not None:
        found["remotes"] = [remote_of(record, remote)]
    meta: dict[str, Any] = {}
    if said := _publisher(record):
        meta[PUBLISHER] = said
    if remote is None:
        meta[ENDPOINT] = _fields(record.endpoint)
    if meta:
        found["_meta"] = meta
    return found


def identity(record: Record) -> dict[str, Any]:
    """What ``server.json`` and a server card alike say of who a server is."""
    found: dict[str, Any] = {
        "name": record.registry_name,
        "description": _description(record),
        "version": record.version,
    }
    if title := shortened(record.title or "", MAX_TEXT):
        found["title"] = title
    if record.website_url and (url := spelled(record.website_url)):
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


def _by(entry: Entry) -> str:
    return entry.instance.lease.holder.by


def _description(record: Record) -> str:
    """Never empty: a host takes an entry without one for broken."""
    return (
        shortened(record.description, MAX_TEXT)
        or shortened(record.title or "", MAX_TEXT)
        or f"The MCP server {record.name}"
    )


def _icon(icon: Mapping[str, Any]) -> dict[str, Any]:
    """What the schema allows of an icon; empty where its source is not fit."""
    source = icon.get("src")
    if not isinstance(source, str) or url_problem(source, ("https",)) is not None:
        return {}
    url = spelled(source)
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
    """What the record says beside, the most useful first, as far as there is room for it."""
    found: dict[str, Any] = {}
    size = 2
    for name, value in _said(record):
        if not value:
            continue
        more = len(orjson.dumps({name: value})) - 1  # its braces, for a comma
        if size + more <= MAX_PUBLISHER:
            found[name] = value
            size += more
    return found


def _fields(part: BaseModel) -> dict[str, Any]:
    """A part of a record as JSON spells it, without what is empty."""
    fields = part.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {name: value for name, value in fields.items() if value != []}


def _said(record: Record) -> Iterable[tuple[str, Any]]:
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

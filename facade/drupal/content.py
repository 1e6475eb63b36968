"""What a server and a resource of Drupal have in common, compared field by field and by digest."""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import orjson

from mcp_discovery.facade.drupal.jsonapi import Resource
from mcp_discovery.record import Record, default_id

#: The values of one server, by our names.
Content: TypeAlias = dict[str, str | list[str]]

#: Our names, and the machine names of the fields that a content type has for them unless others
#: are named.
FIELDS: Final[Mapping[str, str]] = {
    "title": "title",
    "id": "field_mcp_id",
    "name": "field_mcp_name",
    "url": "field_mcp_url",
    "transport": "field_mcp_transport",
    "version": "field_mcp_version",
    "description": "field_mcp_description",
    "tags": "field_mcp_tags",
    "capabilities": "field_mcp_capabilities",
    "sync": "field_mcp_sync",
}
#: Those without which nothing can be told apart.
REQUIRED: Final = ("title", "id", "name", "url", "sync")
#: Whether a node is published.
STATUS: Final = "status"
#: Keys of metadata of what came from Drupal: its resource, and the digest of what came last.
UUID_KEY, BASE_KEY = "drupal-resource", "drupal-content"
_GONE: Final = "gone:"
_LISTS: Final = frozenset(("tags", "capabilities"))
_USUAL: Final = {"version": "0.0.0", "transport": "streamable-http"}
_FIELD_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")


def is_field_name(text: str) -> bool:
    """Whether it is a machine name of Drupal's."""
    return _FIELD_NAME.fullmatch(text) is not None


def content_of(record: Record, fields: Mapping[str, str]) -> Content:
    """What a server has; its URL is there."""
    known: Content = {
        "title": record.title or record.name,
        "id": record.id,
        "name": record.name,
        "url": record.endpoint.url or "",
        "transport": record.endpoint.transport,
        "version": record.version,
        "description": record.description,
        "tags": sorted(record.tags),
        "capabilities": sorted({each for names in record.capabilities.lists() for each in names}),
    }
    return {name: value for name, value in known.items() if name in fields}


def content_in(resource: Resource, fields: Mapping[str, str]) -> Content:
    """What a resource of Drupal has."""
    found: Content = {}
    for name, field in fields.items():
        if name == "sync":
            continue
        value = resource.attributes.get(field)
        if name in _LISTS:
            items = value if isinstance(value, list) else [value] if value else []
            found[name] = sorted(filter(None, map(_text, items)))
        else:
            found[name] = _text(value) or _USUAL.get(name, "")
    if not found["id"]:
        found["id"] = default_id(str(found["name"]), {"url": found["url"]})
    return found


def attributes_of(
    content: Content, fields: Mapping[str, str], known: Resource | None, *names: str
) -> dict[str, Any]:
    """``content``, or only ``names`` of it, as attributes, in the form that ``known`` has."""
    made: dict[str, Any] = {}
    for name in names or content:
        field, value = fields[name], content[name]
        there = known.attributes.get(field) if known is not None else None
        if isinstance(there, dict) and "uri" in there:  # a link
            made[field] = {"uri": value, "title": there.get("title", "")}
        elif isinstance(there, dict) and "value" in there:  # a text with a format
            made[field] = {"value": value, "format": there.get("format")}
        else:
            made[field] = value
    return made


def differing(ours: Content, theirs: Content) -> list[str]:
    """The names of what is not the same on both sides."""
    return [name for name in ours if ours[name] != theirs.get(name)]


def digest_of(content: Content) -> str:
    """Tells contents apart."""
    data = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(data).hexdigest()[:16]


def synced(resource: Resource, fields: Mapping[str, str]) -> tuple[str, bool]:
    """The digest of what was there at the last synchronization, and whether the server was gone
    then; an empty one where there was none."""
    text = _text(resource.attributes.get(fields["sync"]))
    return text.removeprefix(_GONE), text.startswith(_GONE)


def gone(digest: str) -> str:
    """What the field ``sync`` holds of a server that is gone."""
    return f"{_GONE}{digest}"


def resource_id(id: str) -> str:
    """The id of the resource that is made for an instance: always the same."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"urn:mcp-discovery:instance:{id}"))


def connection_of(content: Content, resource: Resource, known: Mapping[str, Any]) -> dict[str, Any]:
    """A connection, in the form of an export, that is as ``known`` but for ``content``."""
    item = {**known, **{name: content[name] for name in ("id", "name")}}
    endpoint = {"url": content["url"], "transport": content.get("transport", "streamable-http")}
    item["endpoint"] = endpoint
    item.pop("protocol", None)
    title = content["title"]
    given = {**content, "title": "" if title == content["name"] else title}
    for name in ("title", "description", "version", "tags"):
        if name in given:
            item[name] = given[name]
            if not given[name] or given[name] == _USUAL.get(name):
                del item[name]
    metadata = {**(known.get("metadata") or {})}
    metadata.pop("version", None)
    metadata |= {UUID_KEY: resource.id, BASE_KEY: digest_of(content)}
    return item | {"metadata": metadata}


def _text(value: Any) -> str:
    """The text of a field: plain, with a format, a link, or a number."""
    if isinstance(value, dict):
        value = value.get("value", value.get("uri", ""))
    if isinstance(value, bool) or value is None:
        return ""
    return str(value).strip() if isinstance(value, str | int | float) else ""

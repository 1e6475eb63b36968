"""The record and capability document of the MCP server beside a sidecar."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import orjson

from mcp_discovery import secrets
from mcp_discovery.errors import InvalidInputError
from mcp_discovery.probe import Introspection
from mcp_discovery.probe.offer import ServerOffer, text
from mcp_discovery.record import default_registry_name, loses, to_label, url_problem
from mcp_discovery.registrant.introspector import ServerDescription
from mcp_discovery.sidecar.advertise import Advertised
from mcp_discovery.sidecar.settings import SidecarSettings

_LONGEST_TITLE = 200
_LONGEST_DESCRIPTION = 4096
_LONGEST_ICON = 2048


def describe(
    settings: SidecarSettings,
    found: Introspection,
    *,
    url: str,
    advertised: Advertised,
    registered_at: datetime,
    started_at: datetime | None = None,
) -> ServerDescription:
    """The description of the server that answers at ``url``.

    Values in ``settings`` take precedence over those of the server. What does not fit a record is
    left out of it and noted; the document has everything. Raises
    :class:`~mcp_discovery.errors.InvalidInputError` or a subclass when no record can be made.
    """
    offer = ServerOffer(found)
    fields = _from_server(offer)
    if settings.name is None:
        fields |= _original_name(offer, fields)
    health_url = advertised.health_url(settings.health_url)
    if health_url is not None and secrets.why_secret(health_url):
        health_url = None  # For the sidecar's own use only.
    fields |= settings.record_fields(advertised.url(url), health_url)
    if "name" not in fields:
        raise InvalidInputError(
            "the MCP server tells no name that makes a DNS label; give one with --name"
        )
    fields["registeredAt"] = registered_at
    if started_at is not None:
        fields["startedAt"] = started_at
    record, notes = offer.record(fields)
    record.check_names()
    return ServerDescription(record, offer.document, notes)


def _from_server(offer: ServerOffer) -> dict[str, Any]:
    """The fields that the server itself gives, where they are usable."""
    info = offer.info
    title, description = text(info.get("title")), text(info.get("description"))
    first_line = (offer.instructions or "").strip().partition("\n")[0].strip()
    website = text(info.get("websiteUrl"))
    fields = {
        "name": to_label(text(info.get("name"))),
        "title": title[:_LONGEST_TITLE],
        "description": (description or first_line)[:_LONGEST_DESCRIPTION],
        "version": offer.version,
        "websiteUrl": website if _is_public_url(website) else "",
        "icons": _icons(info.get("icons")),
    }
    return {key: value for key, value in fields.items() if value}


def _original_name(offer: ServerOffer, fields: dict[str, Any]) -> dict[str, Any]:
    """What keeps the server's own name where that of the record cannot say all of it."""
    name = text(offer.info.get("name"))
    if not loses(name):
        return {}
    kept = {"title": fields.get("title") or name[:_LONGEST_TITLE]}
    return kept | ({"registryName": known} if (known := default_registry_name(name)) else {})


def _is_public_url(url: str) -> bool:
    return (
        0 < len(url) <= 2048
        and url_problem(url, ("http", "https")) is None
        and secrets.why_secret(url) is None
    )


def _icons(value: Any) -> list[dict[str, Any]]:
    """Icons that are linked to. Those inlined as ``data:`` would make every record heavy."""
    if not isinstance(value, list):
        return []
    icons = (each for each in value if isinstance(each, dict))
    linked = (each for each in icons if _is_public_url(text(each.get("src"))))
    return [each for each in linked if len(orjson.dumps(each)) <= _LONGEST_ICON][:16]

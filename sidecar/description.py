"""The record and capability document of the MCP server beside a sidecar."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from mcp_discovery import secrets
from mcp_discovery.errors import InvalidInputError
from mcp_discovery.probe import Introspection
from mcp_discovery.probe.agent_card import text
from mcp_discovery.probe.offer import ServerOffer
from mcp_discovery.record import default_registry_name, loses
from mcp_discovery.registrant.introspector import ServerDescription
from mcp_discovery.sidecar.advertise import Advertised
from mcp_discovery.sidecar.settings import SidecarSettings

_LONGEST_TITLE = 200


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
    fields = offer.said
    if settings.name is None:
        fields |= _original_name(offer, fields)
    health_url = advertised.health_url(settings.health_url)
    if health_url is not None and secrets.why_secret(health_url):
        health_url = None  # For the sidecar's own use only.
    fields |= settings.record_fields(advertised.url(url), health_url)
    if "name" not in fields:
        raise InvalidInputError("it tells no name that makes a DNS label; give one with --name")
    fields["registeredAt"] = registered_at
    if started_at is not None:
        fields["startedAt"] = started_at
    record, notes = offer.record(fields)
    record.check_names()
    return ServerDescription(record, offer.document, notes)


def _original_name(offer: ServerOffer, fields: dict[str, Any]) -> dict[str, Any]:
    """What keeps the server's own name where that of the record cannot say all of it."""
    name = text(offer.info.get("name"))
    if not loses(name):
        return {}
    kept = {"title": fields.get("title") or name[:_LONGEST_TITLE]}
    return kept | ({"registryName": known} if (known := default_registry_name(name)) else {})

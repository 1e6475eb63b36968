"""Turns what an MCP server says of itself into its record and capability document."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from mcp_discovery import secrets
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import InvalidInput, RecordTooLarge
from mcp_discovery.probe import Introspection
from mcp_discovery.record import MAX_RECORD_BYTES, Record, to_label, to_semver, url_problem
from sidecar.advertise import Advertised
from sidecar.settings import Settings

log = logging.getLogger(__name__)

_LONGEST_NAME = 256
_LONGEST_TITLE = 200
_LONGEST_DESCRIPTION = 4096
_LONGEST_INSTRUCTIONS = 8192
_LONGEST_ICON = 2048
_LONGEST_VERSION = 32
_MOST_VERSIONS = 32
_INDEX = ("tools", "resources", "prompts")


@dataclass(frozen=True, slots=True)
class Description:
    """What is registered of an MCP server; ``notes`` say what was left out of the record."""

    record: Record
    document: CapabilityDocument
    notes: tuple[str, ...] = ()

    def same_as(self, other: Description) -> bool:
        """Whether both would leave the same in a store."""
        return self.document.digest == other.document.digest and self.record.same_as(other.record)


def describe(
    settings: Settings,
    found: Introspection,
    *,
    url: str,
    advertised: Advertised,
    registered_at: datetime,
    started_at: datetime | None = None,
) -> Description:
    """The description of the server that answers at ``url``.

    What is told in ``settings`` goes before what the server says. What does not fit a record is
    left out of it and noted; the document has everything. Raises
    :class:`~mcp_discovery.errors.InvalidInput` or a subclass when no record can be made.
    """
    document = CapabilityDocument(
        found.tools, found.resources, found.resource_templates, found.prompts
    )
    notes: list[str] = []
    info, instructions = found.server_info, found.instructions
    if (clean := _without_tokens(info, instructions)) != (info, instructions):
        info, instructions = clean
        notes.append(
            "what the MCP server says of itself holds what looks like an access token; "
            "it is left out of the record"
        )
    fields = _said(info, instructions)
    health_url = advertised.health_url(settings.health_url)
    if health_url is not None and secrets.why_secret(health_url):
        health_url = None  # For the sidecar's own use only.
    fields |= settings.record_fields(advertised.url(url), health_url)
    if "name" not in fields:
        raise InvalidInput(
            "the MCP server tells no name that makes a DNS label; give one with --name"
        )
    fields["registeredAt"] = registered_at
    if started_at is not None:
        fields["startedAt"] = started_at
    fields["protocol"] = {
        "versions": [v for v in found.versions if len(v) <= _LONGEST_VERSION][:_MOST_VERSIONS],
        "era": found.era,
        "serverInfo": {
            key: _text(info[key])[:_LONGEST_TITLE]
            for key in ("name", "title", "version")
            if _text(info.get(key))
        },
        "instructions": instructions[:_LONGEST_INSTRUCTIONS] if instructions else None,
    }
    index = {
        kind: _fitting(kind, names, notes)
        for kind, names in zip(_INDEX, document.names(), strict=True)
    }
    record = _within_limit(fields, index, document.digest, notes)
    return Description(record, document, tuple(notes))


def _without_tokens(
    info: Mapping[str, Any], instructions: str | None
) -> tuple[dict[str, Any], str | None]:
    """The server's own words without tokens: a slip of its author must not keep it off the list."""
    clean = {
        key: secrets.without_tokens(value) if isinstance(value, str) else value
        for key, value in info.items()
    }
    return clean, secrets.without_tokens(instructions) if instructions else instructions


def _said(info: Mapping[str, Any], instructions: str | None) -> dict[str, Any]:
    """The fields that the server itself tells, where they are usable."""
    title, told = _text(info.get("title")), _text(info.get("description"))
    first_line = (instructions or "").strip().partition("\n")[0].strip()
    website = _text(info.get("websiteUrl"))
    fields = {
        "name": to_label(_text(info.get("name"))),
        "title": title[:_LONGEST_TITLE],
        "description": (told or first_line)[:_LONGEST_DESCRIPTION],
        "version": to_semver(_text(info.get("version"))),
        "websiteUrl": website if _is_public_url(website) else "",
        "icons": _icons(info.get("icons")),
    }
    return {key: value for key, value in fields.items() if value}


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def _is_public_url(text: str) -> bool:
    return (
        0 < len(text) <= 2048
        and url_problem(text, ("http", "https")) is None
        and secrets.why_secret(text) is None
    )


def _icons(value: Any) -> list[dict[str, Any]]:
    """Icons that are linked to. Those inlined as ``data:`` would make every record heavy."""
    if not isinstance(value, list):
        return []
    icons = [icon for icon in value if isinstance(icon, dict)]
    return [
        icon
        for icon in icons
        if _is_public_url(_text(icon.get("src"))) and len(orjson.dumps(icon)) <= _LONGEST_ICON
    ][:16]


def _fitting(kind: str, names: Sequence[str], notes: list[str]) -> list[str]:
    fitting = [name for name in names if len(name) <= _LONGEST_NAME]
    if len(fitting) < len(names):
        notes.append(
            f"{len(names) - len(fitting)} of the {kind} have names over {_LONGEST_NAME} "
            "characters; they are in the document but not in the record's index"
        )
    return fitting


def _within_limit(
    fields: dict[str, Any], index: dict[str, list[str]], digest: str, notes: list[str]
) -> Record:
    """The record with as much of ``index`` as its size allows."""
    whole = {kind: len(names) for kind, names in index.items()}
    while True:
        try:
            record = Record.parse(fields | {"capabilities": index | {"digest": digest}})
        except RecordTooLarge as error:
            longest = max(index, key=lambda kind: len(orjson.dumps(index[kind])))
            if not index[longest]:
                raise
            _shorten(index[longest], error.size - MAX_RECORD_BYTES)
        else:
            break
    for kind, names in index.items():
        if len(names) < whole[kind]:
            notes.append(
                f"the record would be too large: its index names {len(names)} of "
                f"{whole[kind]} {kind}; the document has all of them"
            )
    return record


def _shorten(names: list[str], excess: int) -> None:
    """Takes names off the end until ``excess`` bytes are saved, at least one, at most half."""
    keep = len(names) // 2
    while excess > 0 and len(names) > keep:
        excess -= len(orjson.dumps(names.pop())) + 1

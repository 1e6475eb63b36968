"""Converts a connection as it is sent into the record that is registered, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import orjson

from mcp_discovery.document import KINDS, CapabilityDocument
from mcp_discovery.errors import InvalidRecordError
from mcp_discovery.facade.connections.requests import (
    RECORD_FIELDS,
    CapabilityGiven,
    ConnectionPatch,
    EndpointGiven,
    HealthCheckWish,
    NewConnection,
)
from mcp_discovery.facade.connections.statuses import protocol_of
from mcp_discovery.facade.registration.body import Posting, parse
from mcp_discovery.facade.registration.traits import FIELD, Traits, traits_of
from mcp_discovery.record import A2A, AGENT, Record, to_semver

#: What a metadata value can be.
Scalar = str | bool | int | float | None


def posting_of(new: NewConnection, *, document: CapabilityDocument | None = None) -> Posting:
    """The registration for ``new``; ``document`` has its capabilities where it is known.

    Raises :class:`~mcp_discovery.errors.InvalidRecordError` or
    :class:`~mcp_discovery.errors.InvalidDocumentError`.
    """
    fields = new.model_dump(by_alias=True, exclude_none=True, include=set(RECORD_FIELDS))
    fields["endpoint"] = _endpoint(new)
    traits = _probed_as(
        Traits(type=new.type, idle=new.status == "idle"), new.health_check or HealthCheckWish()
    )
    _put_metadata(fields, new.metadata or {}, traits)
    fields |= _offered(new.capabilities or ())
    if document is not None:
        fields["capabilities"] = document.names() | {"digest": document.digest}
    if new.era is not None:
        fields["protocol"] = {"era": new.era}
    return parse(fields, remote="")


def patched(
    record: Record, document: CapabilityDocument, patch: ConnectionPatch, *, idle: bool
) -> tuple[Record, CapabilityDocument]:
    """``record`` and ``document`` with the changes of ``patch``, and ``idle`` as given.

    Raises as :func:`posting_of` does.
    """
    fields = record.to_dict()
    traits = replace(traits_of(record), idle=idle)
    given = patch.metadata or {}
    for name in {"version", "owner"} & given.keys():
        fields.pop(name, None)
    traits = _probed_as(traits, patch.health_check or HealthCheckWish())
    _put_metadata(fields, _own_metadata(record) | given, traits)
    if patch.tags is not None:
        fields["tags"] = patch.tags
    if patch.capabilities is not None:
        # The capabilities are posted from now on, no longer introspected.
        fields.pop("protocol", None)
        fields |= _offered(patch.capabilities)
        posting = parse(fields, remote="")
        return posting.record.model_copy(
            update={"registered_at": record.registered_at}
        ), posting.document
    return Record.parse(fields), document


def shown_metadata(record: Record) -> dict[str, Scalar]:
    """The metadata as it was posted: with its booleans and numbers, its version and owner."""
    shown = _own_metadata(record)
    if record.version != _NO_VERSION:
        shown.setdefault("version", record.version)
    if record.owner is not None:
        shown.setdefault("owner", record.owner)
    return shown


_NO_VERSION = "0.0.0"


def _own_metadata(record: Record) -> dict[str, Scalar]:
    literals = frozenset(traits_of(record).literals)
    return {
        key: _literal(value) if key in literals else value for key, value in record.metadata.items()
    }


def _put_metadata(fields: dict[str, Any], given: Mapping[str, Scalar], traits: Traits) -> None:
    """Puts metadata and traits into ``fields``; version and owner into their own members."""
    metadata = {key: value for key, value in given.items() if value is not None}
    version, owner = metadata.get("version"), metadata.get("owner")
    if isinstance(version, str):
        # What is no semantic version stays in the metadata.
        semver = version if to_semver(version) == version else _NO_VERSION
        if fields.setdefault("version", semver) == version:
            del metadata["version"]
    if isinstance(owner, str) and owner and fields.setdefault("owner", owner) == owner:
        del metadata["owner"]
    literals = tuple(key for key, value in metadata.items() if not isinstance(value, str))
    fields["metadata"] = metadata
    fields.pop(FIELD, None)
    if written := replace(traits, literals=literals).to_dict():
        fields[FIELD] = written


def _literal(value: str) -> Scalar:
    """The value that was stored as ``value``; a text that is no literal is returned as it is.

    Anyone may write it: what is nested too deep, or no finite number, is a text, as to orjson.
    """
    try:
        literal = orjson.loads(value)
    except ValueError:
        return value
    return literal if isinstance(literal, int | float) else value


def _probed_as(traits: Traits, wish: HealthCheckWish) -> Traits:
    return replace(
        traits,
        probed=traits.probed if wish.enabled is None else wish.enabled,
        interval=traits.interval if wish.interval is None else wish.interval,
        timeout=traits.timeout if wish.timeout is None else wish.timeout / 1000,
        fail_after=traits.fail_after if wish.fail_after is None else wish.fail_after,
    )


def _endpoint(new: NewConnection) -> dict[str, Any]:
    given = new.endpoint
    if isinstance(given, str):
        given = EndpointGiven(url=given)
    if given.command is None and given.url is None:
        raise InvalidRecordError(
            "endpoint", "has neither a command nor a url; say how it is reached"
        )
    endpoint = given.model_dump(exclude_none=True)
    agent = new.model_dump(include={"kind"}).get("kind") == AGENT
    transport = given.transport or (A2A if agent else _transport(given, new.protocol))
    if new.protocol is not None and protocol_of(transport) != new.protocol:
        problem = f"is {new.protocol!r}, but the endpoint's transport is {transport!r}"
        raise InvalidRecordError("protocol", f"{problem}; give one of the two")
    return endpoint | {"transport": transport}


def _transport(endpoint: EndpointGiven, protocol: str | None) -> str:
    if protocol is not None:
        return {"http": "streamable-http"}.get(protocol, protocol)
    if endpoint.command is not None:
        return "stdio"
    try:
        scheme = urlsplit(endpoint.url or "").scheme
    except ValueError:
        scheme = ""  # validating the record reports it
    return "websocket" if scheme in ("ws", "wss") else "streamable-http"


def _offered(given: Sequence[str | CapabilityGiven]) -> dict[str, Any]:
    """``capabilities`` and, where more than names is given, ``document`` of a posting."""
    document: dict[str, list[dict[str, Any]]] = {name: [] for name in KINDS.values()}
    for each in given:
        if isinstance(each, str):
            document["tools"].append({"name": each})
            continue
        item: dict[str, Any] = {"name": each.name}
        if each.description is not None:
            item["description"] = each.description
        if each.schema_ is not None:
            item["inputSchema"] = each.schema_
        document[KINDS[each.kind]].append(item)
    names = {
        name: list(dict.fromkeys(item["name"] for item in items))
        for name, items in document.items()
    }
    if all(isinstance(each, str) for each in given):
        return {"capabilities": names}
    return {"capabilities": names, "document": document}

"""What a client posts about a server, read into a record, its document and its lease."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from mcp_discovery.adapters import tombstone
from mcp_discovery.document import CapabilityDocument, is_digest
from mcp_discovery.errors import InvalidDocumentError, InvalidRecordError
from mcp_discovery.facade.documents.documents import document_of
from mcp_discovery.health import Health, Status, utcnow
from mcp_discovery.instance import DERIVED, UNNAMED_HOLDER, Lease
from mcp_discovery.record import AGENT, Record, parse_moment

#: Seconds after which a silent instance is forgotten, where its lease does not say.
REAP_AFTER = 300.0
#: How many tools, resources, prompts or skills whoever posts a server may name: each is indexed.
_MOST_NAMES = 10_000
#: The reason of a status that a registrant gave without one.
OWN_REASON = "says so itself"

#: The statuses that a registrant may report.
REPORTED = tuple(each.value for each in Status if each is not Status.QUARANTINED)
#: What is said of a command that names nothing of what it offers.
NAMES_NOTHING = (
    "cannot be found by a tool: none is named, and a facade starts no command to read them; let "
    "`mcp-discovery register FILE --introspect` start it once and read them, name them in "
    "capabilities, or serve it with `mcp-discovery sidecar --store URL -- COMMAND`"
)
#: What a body may carry beside the record. ``registeredAt`` is the facade's to say, unless a lease
#: shows that a registrant stands behind the record.
_BESIDE = DERIVED | {"document", "health", "holder", "takeover", "command", "args"}
_ENDPOINT = ("transport", "url", "command", "args")


@dataclass(frozen=True, slots=True)
class Posting:
    """A server as it was posted.

    ``digest`` names a document that was sent before and is not in the body; without one
    ``document`` is what the body gave or, when it gave only names, made of those. ``lease`` is
    there when the poster sends heartbeats itself; ``anonymous`` when it did not say who it is.
    """

    record: Record
    document: CapabilityDocument
    digest: str | None
    lease: Lease | None
    anonymous: bool
    health: Health


def gives_capabilities(record: Record) -> bool:
    """Whether what ``record`` offers was posted.

    A record that was filled from the server's own answers names its protocol, too; that shows after
    a restart, and when an entry is sent back as it was listed. An agent's card is read in any case.
    """
    if record.kind == AGENT:
        return False
    return any(record.capabilities.lists()) and record.protocol.era is None


def warnings_of(record: Record) -> list[str]:
    """What whoever registers ``record`` may not have thought of, each in a sentence."""
    silent = record.endpoint.transport == "stdio" and not any(record.capabilities.lists())
    return [f"{record.name} {NAMES_NOTHING}"] if silent else []


def parse(body: Mapping[str, Any], *, remote: str, id: str | None = None) -> Posting:
    """Reads the body of a POST or PUT: a record's JSON, where a flat ``url`` may stand for the
    endpoint and a list of names for the capabilities.

    ``remote`` is the client's address, ``id`` the one in the path. Raises
    :class:`~mcp_discovery.errors.InvalidRecordError` or
    :class:`~mcp_discovery.errors.InvalidDocumentError`.
    """
    fields = {key: value for key, value in body.items() if key not in _BESIDE}
    fields["endpoint"] = _endpoint(body)
    if id is not None and fields.setdefault("id", id) != id:
        raise InvalidRecordError("id", f"is not {id!r}, which the path names; an id cannot change")
    if "lease" not in body:
        fields.pop("registeredAt", None)
        fields.pop("registered_at", None)
        fields.pop(tombstone.FIELD, None)
    capabilities = fields.get("capabilities")
    if isinstance(capabilities, list):
        capabilities = {"skills" if fields.get("kind") == AGENT else "tools": capabilities}
    if capabilities is None:
        capabilities = {}
    document = _document(body)
    if document is not None and isinstance(capabilities, dict):
        capabilities = document.names() | capabilities
    fields["capabilities"] = capabilities
    if isinstance(capabilities, dict):
        _require_few_names(capabilities)
    record = Record.parse(fields)
    record.check_names()
    digest = _digest(record, document)
    lease, anonymous = _lease(body, record, remote)
    offered = document or document_of(record.capabilities)
    _ = offered.digest  # computed here, beside the loop where that takes long
    return Posting(
        record,
        offered,
        digest if document is None else None,
        lease,
        anonymous,
        health_from(body.get("health"), Health(Status.HEALTHY, OWN_REASON)),
    )


def _require_few_names(capabilities: Mapping[str, Any]) -> None:
    for kind, names in capabilities.items():
        if isinstance(names, list) and len(names) > _MOST_NAMES:
            problem = f"has {len(names):,} names; it may have {_MOST_NAMES:,} at most"
            raise InvalidRecordError(f"capabilities.{kind[:100]}", problem)


def health_from(data: Any, before: Health) -> Health:
    """The health in ``data`` (``status`` and, optionally, ``reason``, ``since``, ``lastSeen``).

    What it leaves out is as in ``before``. Raises :class:`InvalidRecordError`.
    """
    if data is None:
        data = {}
    if not isinstance(data, Mapping):
        raise InvalidRecordError("health", "is not an object")
    given = data.get("status", before.status.value)
    try:
        status = Status(given if given in REPORTED else "")
    except ValueError as error:
        allowed = ", ".join(REPORTED)
        raise InvalidRecordError("health.status", f"is not one of {allowed}") from error
    reason = data.get("reason", before.reason if status is before.status else OWN_REASON)
    if not isinstance(reason, str):
        raise InvalidRecordError("health.reason", "is not a string")
    same = before.then(status, reason[:500])
    since, seen = (_moment(data, name) for name in ("since", "lastSeen"))
    return Health(status, reason[:500], since or same.since, seen or utcnow())


def _endpoint(body: Mapping[str, Any]) -> Any:
    flat = {key: body[key] for key in _ENDPOINT if body.get(key) is not None}
    endpoint = body.get("endpoint")
    if endpoint is None:
        if "command" in flat:
            flat.setdefault("transport", "stdio")
        if not {"url", "command"} & flat.keys():
            raise InvalidRecordError("url", "is missing; say where the server is reached")
        return flat
    if isinstance(endpoint, Mapping):
        for key, value in flat.items():
            if endpoint.get(key, value) != value:
                detail = f"differs from endpoint.{key}; give one of the two"
                raise InvalidRecordError(key, detail)
    return endpoint


def _document(body: Mapping[str, Any]) -> CapabilityDocument | None:
    content = body.get("document")
    if content is None:
        return None
    try:
        data = orjson.dumps(content)
    except (TypeError, RecursionError) as error:
        raise InvalidDocumentError(
            f"the capability document is nested too deeply ({error})"
        ) from error
    return CapabilityDocument.from_json(data)


def _digest(record: Record, document: CapabilityDocument | None) -> str | None:
    digest = record.capabilities.digest
    if digest is None:
        return None
    if not is_digest(digest):
        raise InvalidRecordError("capabilities.digest", "is not 64 lower-case hexadecimal digits")
    if document is not None and document.digest != digest:
        raise InvalidDocumentError(
            f"the document's digest is {document.digest}, not {digest} as capabilities.digest says"
        )
    return digest


def _lease(body: Mapping[str, Any], record: Record, remote: str) -> tuple[Lease | None, bool]:
    """The lease, completed where a simple client gave only its ``ttl``.

    Without a holder it is made of what is registered, so that the same client registering the
    same server again is the same holder, and another server is another one.
    """
    given = body.get("lease")
    if given is None:
        return None, False
    if not isinstance(given, Mapping):
        raise InvalidRecordError("lease", "is not an object")
    terms = {key: value for key, value in given.items() if value is not None}
    holder = terms.setdefault("holder", anonymous_holder(record))
    anonymous = isinstance(holder, str) and holder.startswith(UNNAMED_HOLDER)
    terms.setdefault("host", remote or "unknown-host")
    terms.setdefault("by", "sidecar")
    ttl = terms.get("ttl")
    terms.setdefault("reapAfter", max(REAP_AFTER, ttl if isinstance(ttl, int | float) else 0.0))
    lease = Lease.from_dict(terms)
    if lease.ttl < 1:
        raise InvalidRecordError("lease.ttl", f"is {lease.ttl:g} s; 1 s is the least")
    if lease.reap_after < lease.ttl:
        raise InvalidRecordError(
            "lease.reapAfter", "is less than lease.ttl; make it as long or longer"
        )
    return lease, anonymous


def anonymous_holder(record: Record) -> str:
    """The holder's id of a registrant that did not say who it is: no secret, as lists show all that
    it is made of."""
    endpoint = record.endpoint.model_dump_json()
    digest = hashlib.sha256(f"{record.id} {endpoint}".encode()).hexdigest()
    return UNNAMED_HOLDER + digest[:16]


def _moment(data: Mapping[str, Any], name: str) -> datetime | None:
    value = data.get(name)
    if value is None:
        return None
    try:
        return parse_moment(value)
    except (TypeError, ValueError) as error:
        detail = "is not a moment such as 2026-01-31T12:00:00Z"
        raise InvalidRecordError(f"health.{name}", detail) from error

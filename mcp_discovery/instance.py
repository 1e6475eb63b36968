"""An instance as readers see it, and its JSON, the same in stores and over HTTP."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import Any, Literal, Self

import orjson

from mcp_discovery.errors import InvalidRecordError, RecordTooLargeError
from mcp_discovery.health import Health, Load, Status, rfc3339
from mcp_discovery.record import MAX_RECORD_BYTES, Record, parse_moment
from mcp_discovery.record_cache import record_of


@dataclass(frozen=True, slots=True)
class Holder:
    """The registrant of an instance: a sidecar, or a facade for an entry that was posted to it.

    ``id`` is random for each process and tells apart two processes that use one instance id;
    ``host`` is the machine's name, for messages.
    """

    id: str
    host: str
    by: Literal["sidecar", "facade"]

    def __str__(self) -> str:
        return f"a {self.by} on {self.host}"


@dataclass(frozen=True, slots=True)
class Lease:
    """The terms of a registration: its holder, ``ttl`` and ``reap_after`` in seconds."""

    holder: Holder
    ttl: float
    reap_after: float

    def to_dict(self) -> dict[str, Any]:
        """The lease as a JSON object."""
        return {
            "holder": self.holder.id,
            "host": self.holder.host,
            "by": self.holder.by,
            "ttl": self.ttl,
            "reapAfter": self.reap_after,
        }

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """The lease in ``data``; raises :class:`InvalidRecordError` where it is invalid."""
        if not isinstance(data, Mapping):
            raise InvalidRecordError("lease", "is missing or not an object")
        for name in ("holder", "host"):
            if not isinstance(data.get(name), str) or not 0 < len(data[name]) <= 255:
                raise InvalidRecordError(f"lease.{name}", "is not a string of 1 to 255 characters")
        by = data.get("by")
        if by not in ("sidecar", "facade"):
            raise InvalidRecordError("lease.by", "is neither 'sidecar' nor 'facade'")
        ttl, reap_after = (_seconds(data, name) for name in ("ttl", "reapAfter"))
        return cls(Holder(data["holder"], sys.intern(data["host"]), by), ttl, reap_after)


@lru_cache(1024)
def _float(value: float) -> float:
    """``value`` as one object for all leases that have it."""
    return float(value)


def _seconds(data: Mapping[str, Any], name: str) -> float:
    value = data.get(name)
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 < value <= 366 * 86400
    ):
        raise InvalidRecordError(
            f"lease.{name}", "is not a number of seconds above 0, at most a year"
        )
    return _float(value)


@dataclass(frozen=True, slots=True)
class Instance:
    """One running process of an MCP server: its record, health, lease and load."""

    record: Record
    health: Health
    lease: Lease
    load: Load | None = None

    @property
    def id(self) -> str:
        """The record's id."""
        return self.record.id

    def same_as(self, other: Instance) -> bool:
        """Whether there is no visible difference (``last_seen`` is none)."""
        return self == other


def encode_registration(record: Record, lease: Lease) -> bytes:
    """The value that stores keep for a registration: the record's JSON object with its lease under
    ``lease``."""
    return orjson.dumps(record.to_dict() | {"lease": lease.to_dict()})


def decode_registration(data: bytes) -> tuple[Record, Lease]:
    """Reads what :func:`encode_registration` of any version wrote.

    The data is not trusted: anything else raises :class:`InvalidRecordError` or a subclass, in
    bounded time.
    """
    if len(data) > 2 * MAX_RECORD_BYTES:
        raise RecordTooLargeError(len(data), MAX_RECORD_BYTES)
    try:
        content = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InvalidRecordError("", f"the record is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise InvalidRecordError("", "the record is not a JSON object")
    lease = Lease.from_dict(content.pop("lease", None))
    return record_of(content, len(data)), lease


def health_to_dict(health: Health) -> dict[str, Any]:
    """``status``, ``reason``, ``since`` and ``lastSeen``."""
    return {
        "status": health.status.value,
        "reason": health.reason,
        "since": rfc3339(health.since),
        "lastSeen": rfc3339(health.last_seen),
    }


def health_from_dict(data: Mapping[str, Any]) -> Health:
    """Reads what :func:`health_to_dict` wrote; raises :class:`ValueError` for anything else."""
    try:
        status, reason = data["status"], data["reason"]
        if not isinstance(status, str) or not isinstance(reason, str):
            raise ValueError("not a health: its status or reason is no text")
        return Health(
            Status(status),
            reason[:500],
            since := parse_moment(data["since"]),
            since if data["lastSeen"] == data["since"] else parse_moment(data["lastSeen"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a health: {error!r}") from error


def load_to_dict(load: Load) -> dict[str, float]:
    """The known figures, in camel case."""
    names = {"error_rate": "errorRate"}
    return {names.get(k, k): v for k, v in asdict(load).items() if v is not None}


def load_from_dict(data: Any) -> Load | None:
    """The figures in ``data`` that are numbers; ``None`` where there is none."""
    if not isinstance(data, Mapping):
        return None
    figures: dict[str, Any] = {}
    for known in fields(Load):
        value = data.get("errorRate" if known.name == "error_rate" else known.name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            figures[known.name] = value
    return Load(**figures) if figures else None


#: The fields of an entry that do not come from the record.
DERIVED = frozenset(
    {"url", "transport", "status", "reason", "since", "lastSeen", "lease", "load", "uptime"}
)


def instance_to_dict(instance: Instance) -> dict[str, Any]:
    """The instance in one flat object: the record, its URL and transport, health, lease and load.

    This is a server's entry in every list that the facade serves.
    """
    # A record can have these names only as unknown fields, which must not replace the real values.
    entry = {key: value for key, value in instance.record.to_dict().items() if key not in DERIVED}
    endpoint = instance.record.endpoint
    entry |= {"transport": endpoint.transport} | health_to_dict(instance.health)
    if endpoint.url is not None:
        entry["url"] = endpoint.url
    entry["lease"] = instance.lease.to_dict()
    if instance.load is not None:
        entry["load"] = load_to_dict(instance.load)
    return entry


def instance_from_dict(entry: Mapping[str, Any], *, checked: bool = False) -> Instance:
    """Reads what :func:`instance_to_dict` wrote. With ``checked`` the sender is trusted to have
    checked it for secrets and its size.

    Raises :class:`InvalidRecordError` or :class:`ValueError` for anything else.
    """
    fields = {key: value for key, value in entry.items() if key not in DERIVED}
    record = Record.model_validate(fields) if checked else Record.parse(fields)
    return Instance(
        record,
        health_from_dict(entry),
        Lease.from_dict(entry.get("lease")),
        load_from_dict(entry.get("load")),
    )

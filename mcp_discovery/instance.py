"""An instance as readers see it, and its JSON, the same in stores and over HTTP."""

from __future__ import annotations

import hashlib
import hmac
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, Self

import orjson
from pydantic import ValidationError

from mcp_discovery.document import compact
from mcp_discovery.errors import InvalidRecordError
from mcp_discovery.health import Health, Load, Status, ToolUse, most_used, rfc3339
from mcp_discovery.record import Particulars, Record, json_object, parse_moment

#: The names of the fields that differ from instance to instance, as in JSON and as in Python.
_OWN = frozenset(
    each for name, field in Particulars.model_fields.items() for each in (name, field.alias or name)
)
#: How many shared parts are cached; and the size in bytes up to which a record's part is, so that
#: the cache stays below 64 MiB.
_CACHED = 8192
_MAX_CACHED_BYTES = 8192

#: The header in which a holder shows over HTTP who it is, by its secret.
HOLDER_HEADER = "MCP-Discovery-Holder"
#: What the public ids of holders begin with, with which nothing can be proven.
_PUBLIC = "h1-"
#: What the ids of holders begin with that gave none, with which nothing can be proven either.
UNNAMED_HOLDER = "unnamed-"


def is_public_holder(id: str) -> bool:
    """Whether ``id`` is the public id of a holder, and no secret."""
    return id.startswith(_PUBLIC)


def public_holder(secret: str) -> str:
    """The id, for all to see, of the holder that has ``secret``; a public id is its own.

    The ids of registrants of 0.1 are random and no public ids: each is its own secret, and
    facades show what is derived from it.
    """
    return secret if is_public_holder(secret) else _derived(secret)


@lru_cache(8192)
def _derived(secret: str) -> str:
    return _PUBLIC + hashlib.sha256(f"mcp-discovery holder {secret}".encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Holder:
    """The registrant of an instance: a sidecar, or a facade for an entry that was posted to it.

    ``id`` is another one for each process and tells apart two processes that use one instance id;
    it is public, and derived from ``secret`` (:func:`public_holder`), which is never stored and
    which whoever changes the registration over HTTP has to know. ``host`` is the machine's name,
    for messages. ``owner`` is the subject of the caller that registered it through a facade;
    ``claims`` says that it was registered through one without having shown who it is; ``probed``
    that a facade has found the server itself, or keeps probing it.
    """

    id: str
    host: str
    by: Literal["sidecar", "facade"]
    owner: str | None = None
    claims: bool = False
    probed: bool = False
    secret: str | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        return f"a {self.by} on {self.host}"

    @property
    def public_id(self) -> str:
        """The id as facades show it."""
        return public_holder(self.id)

    @property
    def proof(self) -> str:
        """The secret that this process knows of it; for a holder of 0.1 its id."""
        return self.secret or self.id

    def is_proven_by(self, secret: str | None) -> bool:
        """Whether who knows ``secret`` is this holder."""
        if secret is None or secret.startswith((_PUBLIC, UNNAMED_HOLDER)):
            return False  # all see it, or what it is made of
        return hmac.compare_digest(public_holder(secret), self.public_id)


@dataclass(frozen=True, slots=True)
class Lease:
    """The terms of a registration: its holder, ``ttl`` and ``reap_after`` in seconds."""

    holder: Holder
    ttl: float
    reap_after: float

    def to_dict(self) -> dict[str, Any]:
        """The lease as a JSON object, as stores keep it."""
        given = self.holder
        holder: dict[str, Any] = {"holder": given.id, "host": given.host, "by": given.by}
        if given.owner is not None:
            holder["owner"] = given.owner
        if given.claims:
            holder["claims"] = True
        if given.probed:
            holder["probed"] = True
        return holder | {"ttl": self.ttl, "reapAfter": self.reap_after}

    def to_public_dict(self) -> dict[str, Any]:
        """The same, as lists show it: with nothing that proves anything."""
        return self.to_dict() | {"holder": self.holder.public_id}

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
        owner = data.get("owner")
        if owner is not None and (not isinstance(owner, str) or not 0 < len(owner) <= 2048):
            raise InvalidRecordError("lease.owner", "is not a string of 1 to 2048 characters")
        ttl, reap_after = (_seconds(data, name) for name in ("ttl", "reapAfter"))
        holder = Holder(
            data["holder"],
            sys.intern(data["host"]),
            by,
            None if owner is None else sys.intern(owner),
            data.get("claims") is True,
            data.get("probed") is True,
        )
        return cls(holder, ttl, reap_after)


@lru_cache(1024)
def _float(value: float) -> float:
    """``value`` as one object for all leases that have it."""
    return float(value)


def _seconds(data: Mapping[str, Any], name: str) -> float:
    value = data.get(name)
    if isinstance(value, int | float) and value is not True and 0 < value <= 366 * 86400:
        return _float(value)
    problem = "is not a number of seconds above 0, at most a year"
    raise InvalidRecordError(f"lease.{name}", problem)


@dataclass(frozen=True, slots=True)
class Instance:
    """One running process of an MCP server: its record, health, lease and load.

    Two are equal where there is no visible difference; ``last_seen`` is none.
    """

    record: Record
    health: Health
    lease: Lease
    load: Load | None = None

    @property
    def id(self) -> str:
        """The record's id."""
        return self.record.id


def is_leaving(health: Health | None, lease: Lease) -> bool:
    """Whether its registrant has drained an instance and is about to end, so that another may take
    its place at once. An entry that a facade keeps may be idle for good instead."""
    drained = health is not None and health.status is Status.DRAINING
    return drained and lease.holder.by == "sidecar"


def encode_registration(record: Record, lease: Lease) -> bytes:
    """What stores keep for a registration: the record's JSON object with its lease (``lease``)."""
    return orjson.dumps(record.to_dict() | {"lease": lease.to_dict()})


def decode_registration(data: bytes) -> tuple[Record, Lease]:
    """Reads what :func:`encode_registration` of any version wrote.

    The data is not trusted: anything else raises :class:`InvalidRecordError` or a subclass, in
    bounded time.
    """
    content = json_object(data)
    lease = Lease.from_dict(content.pop("lease", None))
    return record_of(content, len(data)), lease


def record_of(content: Mapping[str, Any], size: int) -> Record:
    """The record in ``content``, which is ``size`` bytes as JSON, as :meth:`Record.parse` reads it.

    Fields other than :class:`Particulars` are parsed, checked and kept once for all records in
    which they are equal. Raises what :meth:`Record.parse` raises.
    """
    return _without_model_overhead(_from_shared(content, size) or Record.parse(content))


def _from_shared(content: Mapping[str, Any], size: int) -> Record | None:
    """The record made from a cached part; ``None`` where it has to be parsed as a whole."""
    if size > _MAX_CACHED_BYTES or not content.get("id"):
        return None
    shared = {name: value for name, value in content.items() if name not in _OWN}
    try:
        template = _template(compact(orjson.dumps(shared)))
    except TypeError:  # nested too deep for JSON
        return None
    if template is None:
        return None
    try:
        own = Particulars.model_validate({name: content[name] for name in content.keys() & _OWN})
    except ValidationError:
        return None
    if own.model_extra or own.endpoint.model_extra:
        return None
    own.check()
    return template.model_copy(update=vars(own))


@lru_cache(_CACHED)
def _template(shared: bytes) -> Record | None:
    """A record with these fields and placeholder particulars; ``None`` where it is invalid."""
    placeholders = {"id": "nobody", "endpoint": {"url": "http://nobody.invalid"}}
    try:
        return _without_model_overhead(Record.parse(orjson.loads(shared) | placeholders))
    except InvalidRecordError:
        return None


def _without_model_overhead(record: Record) -> Record:
    """``record`` with pydantic's bookkeeping shared among records: which fields were set (never
    read here), and the empty dict of unknown fields. That is a third of a record's memory."""
    for model in (record, record.endpoint):
        given = _fields_set(frozenset(model.model_fields_set))
        object.__setattr__(model, "__pydantic_fields_set__", given)
        if not model.model_extra:
            object.__setattr__(model, "__pydantic_extra__", _NO_EXTRA)
    return record


#: Shared by all models without unknown fields; models are frozen, so nothing writes to it.
_NO_EXTRA: dict[str, Any] = {}


@lru_cache(_CACHED)
def _fields_set(names: frozenset[str]) -> set[str]:
    return set(names)


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


_ANY = 2**53  # of it and below, a float is exact and JSON has one number for all
#: The figures of a load by their names in JSON: field, largest value, kind of number.
_FIGURES: Mapping[str, tuple[str, float, type[int] | type[float]]] = {
    "active": ("active", _ANY, int),
    "capacity": ("capacity", _ANY, int),
    "rate": ("rate", _ANY, float),
    "latency": ("latency", _ANY, float),
    "p95": ("p95", _ANY, float),
    "errorRate": ("error_rate", 1.0, float),
    "requests": ("requests", _ANY, int),
    "memory": ("memory", _ANY, int),
    "cpu": ("cpu", _ANY, float),
}


def load_to_dict(load: Load) -> dict[str, Any]:
    """The known figures, in camel case."""
    figures: dict[str, Any] = {
        name: value
        for name, (figure, _, _) in _FIGURES.items()
        if (value := getattr(load, figure)) is not None
    }
    if load.running is not None:
        figures["running"] = load.running
    if load.tools:
        figures["tools"] = {
            each.name: {"requests": each.requests}
            | ({} if each.latency is None else {"latency": each.latency})
            for each in load.tools
        }
    return figures


def load_from_dict(data: Any) -> Load | None:
    """The figures in ``data`` that can be true: a registrant may report anything. ``None`` where
    there is none."""
    if not isinstance(data, Mapping):
        return None
    figures: dict[str, Any] = {}
    for name, (figure, most, kind) in _FIGURES.items():
        if (value := _figure(data.get(name), most)) is not None:
            figures[figure] = kind(value)
    if isinstance(running := data.get("running"), bool):
        figures["running"] = running
    if isinstance(tools := data.get("tools"), Mapping):
        figures["tools"] = most_used(
            ToolUse(name, int(requests), _figure(use.get("latency")))
            for name, use in tools.items()
            if isinstance(use, Mapping)
            and isinstance(name, str)
            and (requests := _figure(use.get("requests"))) is not None
        )
    load = Load(**figures)
    return None if load == Load() else load


def _figure(value: Any, most: float = _ANY) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return value if 0 <= value <= most else None  # no NaN is


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
    entry["lease"] = instance.lease.to_public_dict()
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

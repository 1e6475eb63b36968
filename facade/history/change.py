"""What is kept of an instance for as long as it stays the same, and since when it has been so."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from mcp_discovery.adapters.view import Entry
from mcp_discovery.facade.access.rights import record_as_it_was
from mcp_discovery.facade.documents.documents import document_of
from mcp_discovery.record import Capabilities, Record

#: What the key of a document begins with that has nothing but names.
_NAMES = "names:"
#: What stands before the key of a document that was lost, where its names are kept.
LOST = "lost:"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def micros(moment: datetime) -> int:
    """``moment`` in microseconds of POSIX time."""
    return (moment - _EPOCH) // _MICROSECOND


def moment_of(micros: int) -> datetime:
    """The moment of a POSIX time in microseconds."""
    return _EPOCH + timedelta(microseconds=micros)


@dataclass(frozen=True, slots=True)
class State:
    """How an instance was listed. ``since`` is in microseconds of POSIX time, as all moments of a
    history are.

    ``document`` is the key of what it offered: its digest, or another where it had none
    (:func:`key_of`). ``name``, ``tags``, ``zone`` and ``owner`` are what rights are about.
    """

    name: str
    status: str
    reason: str
    since: int
    document: str
    version: str
    url: str | None
    by: str
    host: str
    holder: str
    owner: str | None
    claims: bool
    tags: tuple[str, ...]
    zone: str | None

    @classmethod
    def of(cls, entry: Entry) -> State:
        """How ``entry`` is listed."""
        record, health, lease = entry.record, entry.health, entry.instance.lease
        holder = lease.holder
        return cls(
            name=record.name,
            status=health.status.value,
            reason=health.reason,
            since=micros(health.since),
            document=key_of(record.capabilities),
            version=record.version,
            url=record.endpoint.url,
            by=holder.by,
            host=holder.host,
            holder=holder.public_id,
            owner=holder.owner,
            claims=holder.claims,
            tags=record.tags,
            zone=record.zone,
        )

    @property
    def digest(self) -> str | None:
        """The digest of what it offered, where it said one."""
        return None if self.document.startswith(_NAMES) else self.document

    @property
    def registrant(self) -> dict[str, Any]:
        """What kept it registered, as lists show it."""
        found: dict[str, Any] = {"by": self.by, "host": self.host, "holder": self.holder}
        if self.owner is not None:
            found["owner"] = self.owner
        if self.claims:
            found["claims"] = True
        return found

    def encoded(self) -> str:
        """As JSON, for a database; :meth:`decoded` reads it."""
        return orjson.dumps({name: getattr(self, name) for name in self.__slots__}).decode()

    @classmethod
    def decoded(cls, text: str) -> State:
        """What :meth:`encoded` wrote."""
        facts = orjson.loads(text)
        return cls(**facts | {"tags": tuple(facts["tags"])})


@dataclass(frozen=True, slots=True)
class Period:
    """That ``instance`` was listed as ``state`` from ``at`` on, and until ``until``; ``None``: it
    still is."""

    instance: str
    at: int
    until: int | None
    state: State


@dataclass(frozen=True, slots=True)
class Span:
    """A time in which the list was watched without a break, in microseconds of POSIX time."""

    began: int
    ended: int


@dataclass(frozen=True, slots=True)
class StateChange:
    """``instance`` is listed as ``state`` from ``at`` on; ``None``: it is not listed any more."""

    instance: str
    at: int
    state: State | None


def key_of(capabilities: Capabilities) -> str:
    """The key under which what is offered is kept."""
    if capabilities.digest is not None:
        return capabilities.digest
    return _NAMES + document_of(capabilities).digest


def record_of(state: State) -> Record:
    """What rights are asked about of an instance that was so."""
    return record_as_it_was(state.name, state.tags, state.zone)

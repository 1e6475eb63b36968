"""The seam between a store and everything above it: this protocol, and nothing else.

A store keeps registrations alive and tells watchers about them. Whatever the store is, an instance
lives the same life:

* ``register`` → listed with the health it was registered with (``healthy`` unless said otherwise);
* heartbeats stop → ``down`` with the reason "no heartbeat for N s" within TTL plus 2 s;
* still silent → gone, ``reap_after`` seconds after the last heartbeat, plus 2 s at most;
* ``deregister`` → gone at once;
* ``drain`` → listed as ``draining``, offered to nobody.

Three rates of change never share a key: the record (rare), the capability document (once for each
version), health (often). A heartbeat that changes nothing writes no key and wakes no watcher.

``tests/contract/`` is this text executed against every store. How to write another store is told
in ``adapters/README.md``.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Protocol, Self

from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import InvalidRecordError
from mcp_discovery.health import Health, Load
from mcp_discovery.instance import Holder, Instance
from mcp_discovery.record import Record


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All instances, whatever their health, by id. Never a part of them.

    That one is absent here, and was there before, is likely but not certain to mean that it is
    gone: the catalog holds a mass drop for a while. A :class:`Change` is certain.
    """

    instances: Mapping[str, Instance]


@dataclass(frozen=True, slots=True)
class Change:
    """One instance as it is now; ``instance`` is ``None`` when it is gone for certain."""

    id: str
    instance: Instance | None


class Registration(Protocol):
    """One instance in a store, as its registrant holds it. Not for concurrent use.

    After :class:`~mcp_discovery.errors.RegistrationLostError` the object is spent: register anew.
    Every method may also raise :class:`~mcp_discovery.errors.StoreUnavailableError` and
    :class:`~mcp_discovery.errors.StoreDeniedError`, after which it may be called again.
    """

    @property
    def id(self) -> str:
        """The instance's id."""

    async def heartbeat(
        self, health: Health, load: Load | None = None, *, renew: bool = False
    ) -> None:
        """Says that the registrant lives and what it found; renews the TTL.

        Writes to the store only what differs from the last heartbeat. One without news may look
        whether all is there instead of renewing, where the next one will come in time for that if
        it comes as soon as this one did. ``renew``: it may not, so this one renews. Raises
        :class:`~mcp_discovery.errors.RegistrationLostError` when the store no longer knows the
        instance, when another holder has taken it over, or when more than TTL has passed since
        the last renewal that arrived, so that nobody renews what may be someone else's by now.
        """

    async def update(self, record: Record, document: CapabilityDocument) -> None:
        """Replaces the record and the document; ``record.id`` stays. The health is untouched.

        Raises :class:`~mcp_discovery.errors.RegistrationLostError` as a heartbeat does, and
        :class:`~mcp_discovery.errors.InvalidRecordError` when ``record`` is over the limits or has
        another id.
        """

    async def drain(self) -> None:
        """Marks the instance ``draining``: still listed, offered to nobody. It goes on living
        on heartbeats, which leave it ``draining`` whatever health they carry."""

    async def deregister(self) -> None:
        """Removes the instance at once. Removing what is already gone is no error."""


class Store(Protocol):
    """A place where instances are registered and watched.

    Every method raises :class:`~mcp_discovery.errors.StoreUnavailableError` when the store cannot
    be reached or cannot answer now, within a bounded time, and
    :class:`~mcp_discovery.errors.StoreDeniedError` when it refuses the credentials. Cancelling any
    call leaves no task and no connection behind.
    """

    @property
    def url(self) -> str:
        """The store's URL, without secrets, for people and logs."""

    @property
    def skipped(self) -> Mapping[str, str]:
        """What lies in the store and is not an instance: key → why it was skipped.

        Filled by ``watch``; bounded (the oldest are forgotten).
        """

    async def register(
        self,
        record: Record,
        document: CapabilityDocument,
        *,
        ttl: float,
        reap_after: float,
        health: Health | None = None,
        holder: Holder | None = None,
        takeover: str | None = None,
    ) -> Registration:
        """Registers an instance and returns its registration.

        ``ttl`` and ``reap_after`` are in seconds, ``reap_after`` ≥ ``ttl`` ≥ 1. ``health`` is what
        it is listed with at first (default: healthy); ``holder`` says who registers (default: the
        store object's own identity). ``record.capabilities.digest`` is set from ``document``.

        Registering an id again replaces it when the holder is the same, when the old one is no
        longer alive (``down`` for want of heartbeats), or when ``takeover`` is the id of just that
        holder: then its place is taken although it lives, and its own next heartbeat raises
        :class:`~mcp_discovery.errors.RegistrationLostError`. That is for registrants that agree on
        it: facades do, for what was posted to them. Raises
        :class:`~mcp_discovery.errors.DuplicateInstanceError` while another holder keeps it alive,
        and :class:`~mcp_discovery.errors.InvalidRecordError` or
        :class:`~mcp_discovery.errors.InvalidDocumentError` when either is over the limits.
        """

    def watch(self) -> AsyncGenerator[Snapshot | Change, None]:
        """One full :class:`Snapshot` first, then changes, or new snapshots, as they happen.

        Never ends by itself: it runs until it is closed or cancelled, or raises
        ``StoreUnavailableError`` or ``StoreDeniedError`` and nothing else. A slow consumer costs
        bounded memory: what piles up is merged. A key or record that cannot be read is put into
        :attr:`skipped`, never fatal. Close it with ``aclose()`` (``contextlib.aclosing``).
        """

    async def document(self, digest: str) -> CapabilityDocument:
        """The capability document with that digest.

        Raises :class:`~mcp_discovery.errors.DocumentNotFoundError`.
        """

    async def sweep(self) -> int:
        """Removes what nobody references: orphaned records, documents of versions that are gone.

        Safe beside registrations in progress: something is removed only when an earlier sweep by
        this object, at least a minute before, already found it unreferenced. Returns how many
        keys were removed.
        """

    async def node_address(self) -> str | None:
        """The address by which the store knows the machine that it is asked from; ``None`` where
        it knows none. A local agent of a store that spans machines has one."""

    async def close(self) -> None:
        """Releases connections and tasks; ends running watches. Registrations are left to TTL."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Closing:
    """What most stores share: ``async with``, which closes them, and no address of their own."""

    async def node_address(self) -> str | None:
        """See :meth:`Store.node_address`."""
        return None

    async def close(self) -> None:
        """See :meth:`Store.close`."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """Credentials and connection options that never stand in a store URL.

    ``token`` (Consul ACL token, or bearer token of a facade), ``user`` and ``password`` (etcd),
    ``ca``, ``certificate`` and ``key`` (paths of PEM files), ``timeout`` seconds for one request.
    """

    token: str | None = field(default=None, repr=False)
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    timeout: float = 5.0


def new_holder(by: Literal["sidecar", "facade"] = "sidecar") -> Holder:
    """The identity of this process as a registrant, new at each call."""
    return Holder(secrets.token_hex(8), socket.gethostname()[:255] or "unknown-host", by)


def prepared(
    record: Record,
    document: CapabilityDocument,
    *,
    ttl: float,
    reap_after: float,
    id: str | None = None,
) -> Record:
    """``record`` as every store registers it: its digest set, checked with the terms.

    ``id`` is the one that an update must keep. Raises
    :class:`~mcp_discovery.errors.InvalidRecordError`, :class:`ValueError` for the terms.
    """
    if id is not None and record.id != id:
        raise InvalidRecordError("id", f"must stay {id!r} in an update")
    if not 1 <= ttl <= reap_after:
        raise ValueError(
            f"TTL {ttl:g} s must be at least 1 s and at most reap_after ({reap_after:g} s)"
        )
    capabilities = record.capabilities.model_copy(update={"digest": document.digest})
    record = record.model_copy(update={"capabilities": capabilities})
    record.check()
    return record

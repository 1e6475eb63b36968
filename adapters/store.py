"""The contract between a store and the rest of the product.

A store holds registrations of MCP servers, expires them, and reports changes to watchers. An
instance has the same life in every store:

* ``register``: listed with the health it was registered with (``healthy`` by default);
* no renewal for longer than TTL: ``down`` with the reason "no heartbeat for N s", at most 2 s
  after the TTL has lapsed;
* still no renewal: removed ``reap_after`` seconds after the last renewal, at most 2 s later;
* ``deregister``: removed at once;
* ``drain``: listed as ``draining`` until it is deregistered or expires.

Records (rarely written), capability documents (written once per version) and health (written
often) are stored under separate keys. A heartbeat with unchanged health and load writes no key
and wakes no watcher.

All times are in seconds. ``tests/contract/`` runs these rules against every store;
``adapters/README.md`` explains how to write one.
"""

from __future__ import annotations

import re
import secrets
import socket
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, Literal, Protocol, Self, TypeVar

from mcp_discovery.adapters.members import StoreMembers
from mcp_discovery.adapters.skipped_keys import SkippedKeys
from mcp_discovery.bearer_tokens import GivenToken
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import InvalidRecordError, StoreUnsupportedError
from mcp_discovery.health import Health, Load, healthy, utcnow
from mcp_discovery.instance import Holder, Instance, Lease, public_holder
from mcp_discovery.record import Record

R = TypeVar("R", bound="Registration")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The complete list of instances by id, ``down`` and ``draining`` ones included.

    An instance that an earlier snapshot had and this one lacks is probably, but not certainly,
    gone: the catalog may keep showing it for a while. A :class:`Change` that removes is certain.

    ``partial`` says which part the credentials hide, as far as the store tells, and what to grant;
    ``None`` for a list that is whole as far as is known. It holds for the changes that follow, too.
    """

    instances: Mapping[str, Instance]
    partial: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """The new state of one instance; ``instance`` is ``None`` when it is gone for certain."""

    id: str
    instance: Instance | None


@dataclass(frozen=True, slots=True)
class StoredQuery:
    """A named query: its ``definition`` in JSON (:mod:`mcp_discovery.query.definition`), and a
    ``version`` of the store's own, which is another for every other definition."""

    definition: bytes
    version: str


@dataclass(frozen=True, slots=True)
class CredentialsEnd:
    """When a store's credentials expire, and from when on that is near enough to be told."""

    at: datetime
    near_from: datetime

    @property
    def near(self) -> bool:
        """Whether it is time to replace them."""
        return utcnow() >= self.near_from


class Registration(Protocol):
    """One registered instance, as the registrant that renews it sees it.

    **Concurrency.** The methods of one registration must not run at the same time; await each call
    before the next. Different registrations of one store are independent.

    **Errors.** Besides what each method names, every method may raise:

    * :class:`~mcp_discovery.errors.StoreUnavailableError`: the store did not answer or cannot serve
      now. The request may or may not have taken effect. The registration stays usable: call the
      method again later. The TTL goes on running meanwhile.
    * :class:`~mcp_discovery.errors.StoreDeniedError`: the store refuses the credentials or they
      lack a permission. Call again once that has been corrected.

    :class:`~mcp_discovery.errors.RegistrationLostError` is final: discard the object and call
    :meth:`Store.register`. ``deregister`` may still be called, and does no harm.

    **Cancellation.** A cancelled call may or may not have taken effect, and leaves neither task
    nor connection behind.
    """

    @property
    def id(self) -> str:
        """The instance's id."""

    async def heartbeat(
        self, health: Health, load: Load | None = None, *, renew: bool = False
    ) -> None:
        """Reports that the registrant is alive, and the instance's current health and load.

        **Renewal.** Each call does at least one of two things. It either renews the TTL, or it
        verifies that the store still holds the registration and what was last written for it.
        A call renews the TTL if

        * health or load have to be written, see below;
        * or ``renew`` is true;
        * or the next heartbeat, expected after the same interval as the one since the previous
          heartbeat, would come later than 0.4 TTL after the last renewal.

        Otherwise it may verify only. A call verifies, even if it also renews, when the next
        heartbeat, expected as above, would come later than 4 s (or 0.9 TTL, if that is less) after
        the last verification. So a caller whose heartbeats come at regular intervals of at most
        TTL/6 and 2 s causes one request per heartbeat, renews at least every 0.4 TTL and learns of
        a loss within 4 s. A caller whose next interval may be longer than its last one has to pass
        ``renew=True``. Stores in which each renewal verifies as well (``embedded:``, ``http:``)
        do both in every call.

        **What holds on return.** After a renewal the TTL runs anew, from a moment between call
        and return. After a mere verification it runs on from the last renewal, which was at most
        0.4 TTL before the call.

        **What is written.** ``health`` if its status or reason differs from what the store last
        confirmed, or if a write was not confirmed; while the status stays, ``since`` keeps its
        first value, whatever ``health.since`` is, and a newer ``last_seen`` alone is no change.
        ``load`` together with a changed health, or when one of its figures appeared, vanished or
        moved by more than half (``active``: by more than a tenth) and the last write is at least
        5 s old, which may happen six times in a row and then every 30 s, or when one moved by more
        than a tenth and the last load is at least 30 s old; what
        :mod:`mcp_discovery.adapters.heartbeats` calls noise is no move. ``None`` leaves the load as
        it is. After :meth:`drain`, ``draining`` takes the place of any ``health``. Everything else
        writes no key and wakes no watcher.

        Raises :class:`~mcp_discovery.errors.RegistrationLostError` when the store no longer has
        the registration or has other values than were last written (expired, deleted, restored
        from a backup), when another holder has registered the id, or, without asking the store,
        when more than TTL has passed since the last confirmed renewal was sent: a process that was
        suspended must not renew what another may have registered since.
        """

    async def update(self, record: Record, document: CapabilityDocument) -> None:
        """Replaces the record and its document. Health, load and lease stay as they are.

        ``record.id`` must be this registration's; ``record.name`` may differ from before.
        ``record.capabilities.digest`` is set from ``document``. Watchers see the instance change
        without it being absent in between. Callers must not rely on the TTL being renewed.

        Raises :class:`~mcp_discovery.errors.RegistrationLostError` as :meth:`heartbeat` does,
        :class:`~mcp_discovery.errors.InvalidRecordError` when ``record`` breaks a rule, is over
        the size limit or has another id, and :class:`~mcp_discovery.errors.InvalidDocumentError`
        when ``document`` is over its limit. After either of the last two nothing has changed and
        the former record remains registered.
        """

    async def drain(self) -> None:
        """Marks the instance ``draining`` for good: it is listed, and no longer offered to clients.

        It stays registered as long as heartbeats arrive. Callers must not rely on the TTL being
        renewed. Raises :class:`~mcp_discovery.errors.RegistrationLostError` as :meth:`heartbeat`
        does. After :class:`~mcp_discovery.errors.StoreUnavailableError` call it again.
        """

    async def deregister(self) -> None:
        """Removes the instance at once, if this holder still holds it.

        It is not an error if the instance is gone or has another holder: then nothing is removed.
        If the store cannot be reached, the instance expires by its TTL and ``reap_after``.
        """


class Store(Protocol):
    """A place where instances are registered and watched.

    **Concurrency.** All methods may run at the same time, any number of watches included, within
    one event loop.

    **Errors.** Every method that talks to the store raises
    :class:`~mcp_discovery.errors.StoreUnavailableError` when it does not answer or cannot serve
    now, and :class:`~mcp_discovery.errors.StoreDeniedError` when it refuses the credentials or
    they lack a permission. Neither ever means that an instance is not registered. The caller
    retries, with a growing delay. Each request is bounded by :attr:`StoreOptions.timeout`, or one
    and a half times that where several endpoints are tried; a method makes a few of them.

    **Cancellation.** Cancelling a call leaves neither task nor connection behind. The request may
    or may not have taken effect.
    """

    @property
    def url(self) -> str:
        """The store's URL without credentials, for messages."""

    @property
    def skipped(self) -> Mapping[str, str]:
        """Keys in the store that :meth:`watch` could not read as instances, with the reason.

        At most 100: beyond that the oldest are dropped.
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
        """Registers an instance; on return it is in the store with its document, and TTL runs.

        ``ttl`` and ``reap_after`` are in seconds, with 1 ≤ ``ttl`` ≤ ``reap_after``. ``health`` is
        the initial health (default: healthy). ``holder`` identifies the registrant (default: the
        store object's own identity). ``record.capabilities.digest`` is set from ``document``.

        An existing registration of the same id is replaced if it has the same holder, if its TTL
        has lapsed, if its holder is about to end (:func:`mcp_discovery.instance.is_leaving`), or if
        ``takeover`` is the id of its holder. With ``takeover`` a live registration is replaced: it
        is for registrants that have agreed on it, as facades do for the entries that were posted to
        them. The former holder's next heartbeat raises
        :class:`~mcp_discovery.errors.RegistrationLostError`; where a heartbeat only renews, the one
        after it.

        Raises:

        * :class:`~mcp_discovery.errors.DuplicateInstanceError`: another holder keeps the id alive.
          Its registration is unchanged. Try again after the other's TTL, or use another id.
        * :class:`~mcp_discovery.errors.InvalidRecordError`,
          :class:`~mcp_discovery.errors.InvalidDocumentError`: record or document break a rule or
          are over their size limits.
        * :class:`ValueError`: ``ttl`` or ``reap_after`` are out of range.

        After :class:`~mcp_discovery.errors.StoreUnavailableError` or a cancellation the instance
        may be registered all the same. Nobody renews it then, so it expires; registering again
        with the same ``holder`` replaces it.
        """

    def watch(self) -> AsyncGenerator[Snapshot | Change, None]:
        """Yields one complete :class:`Snapshot`, then changes or further snapshots as they happen.

        Nothing is yielded before the first list is complete, and no list is ever partial, but for
        what the credentials hide: such a list is marked, see :class:`Snapshot`, and an instance
        that was listed before they hid it is not removed, but ``degraded``.

        The states of one instance come in their order; a slow consumer may miss intermediate ones,
        since what it has not taken yet is merged, in bounded memory. A key that cannot be read as
        an instance goes into :attr:`skipped` and does not end the watch.

        It never ends by itself. It raises only ``StoreUnavailableError`` (also when the store is
        closed) or ``StoreDeniedError``; then call :meth:`watch` again, which starts with a new
        snapshot. It notices within 11 s that the store no longer answers (a facade: 40 s). Close
        it with ``aclose()`` (``contextlib.aclosing``) or by cancelling the task that iterates.
        """

    async def document(self, digest: str) -> CapabilityDocument:
        """The capability document with that digest (64 lower-case hexadecimal digits).

        Raises :class:`~mcp_discovery.errors.DocumentNotFoundError` when there is none, or when what
        is stored is damaged or does not have that digest.
        """

    async def queries(self) -> Mapping[str, StoredQuery]:
        """All named queries, as the store has them now; what cannot be one is left out.

        Raises :class:`~mcp_discovery.errors.StoreUnsupportedError` where it keeps none.
        """

    async def put_query(
        self, name: str, definition: bytes | None, *, expected: str | None = None
    ) -> str | None:
        """Keeps a named query, in the place of the one of that name; ``None`` removes that, if
        there is one. Returns the new version, ``None`` where that is not known.

        ``expected`` is the version that has to be there, ``""`` for none at all; ``None``: whatever
        is there. Whether it is, and the change, are one step. ``name`` is a DNS label.

        Raises :class:`~mcp_discovery.errors.QueryChangedError` where something else is there, and
        :class:`~mcp_discovery.errors.StoreUnsupportedError`.
        """

    async def sweep(self) -> int:
        """Removes unreferenced data and returns how many keys were removed.

        Unreferenced are documents that no record names, and what the store's own expiry leaves
        behind. A key is removed only if an earlier sweep by this object, at least 60 s before,
        found it unreferenced too: a registration writes its document before its record. So calls
        have to be repeated, and may run beside registrations, also from several processes.
        """

    @property
    def credentials_end(self) -> CredentialsEnd | None:
        """When the credentials in use expire; ``None`` where they do not, or it is not known (yet:
        a store learns it as it registers or watches)."""

    @property
    def lacking(self) -> str | None:
        """What the credentials lack without which a registration still works, and what is lost by
        that, in a sentence; ``None`` where nothing, or it is not known (yet)."""

    @property
    def unguarded(self) -> str | None:
        """Which of the credentials that were given guard nothing, because the store does not ask
        for them, and what to do, in a sentence; ``None`` where it asks, where none were given, or
        where it is not known (yet). It is logged as a warning when it becomes known."""

    async def keeps_queries(self) -> str | None:
        """What the credentials lack to keep named queries, or why the store keeps none, in a
        sentence; ``None`` where nothing is in the way, or the store does not tell. Writes nothing.
        """

    async def would_refuse(self, record: Record | None) -> str | None:
        """What the credentials lack to keep ``record`` registered through all that its instance may
        go through, or for ``None`` to list and watch: a sentence that names each right and what it
        is on. ``None`` where they lack nothing, or where the store does not tell. Writes nothing.
        """

    async def node_address(self) -> str | None:
        """The address under which the store's agent on this machine is known to its cluster.

        ``None`` where the store has no such agent, or the credentials may not read it.
        """

    async def members(self) -> StoreMembers:
        """The processes that the store is made of, as far as it tells: none, where it does not.

        It is for people who look at the whole, and asked now and then.
        """

    async def close(self) -> None:
        """Releases connections and tasks. Registrations are not removed: they expire by TTL.

        Running watches and requests end with ``StoreUnavailableError``, as does every later call.
        Closing again does nothing.
        """

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...


class Closing:
    """Base of store classes: ``async with`` closes the store, there is no node address, no named
    queries are kept, and credentials are not known to expire, to lack anything, to be refused or to
    guard nothing."""

    @property
    def credentials_end(self) -> CredentialsEnd | None:
        """See :attr:`Store.credentials_end`."""
        return None

    @property
    def lacking(self) -> str | None:
        """See :attr:`Store.lacking`."""
        return None

    @property
    def unguarded(self) -> str | None:
        """See :attr:`Store.unguarded`."""
        return None

    async def would_refuse(self, _: Record | None) -> str | None:
        """See :meth:`Store.would_refuse`."""
        return None

    async def queries(self) -> Mapping[str, StoredQuery]:
        """See :meth:`Store.queries`."""
        raise self._without_queries()

    async def put_query(
        self, _: str, __: bytes | None, *, expected: str | None = None
    ) -> str | None:
        """See :meth:`Store.put_query`."""
        raise self._without_queries()

    async def keeps_queries(self) -> str | None:
        """See :meth:`Store.keeps_queries`."""
        return self._without_queries().problem

    def _without_queries(self) -> StoreUnsupportedError:
        return without_queries(str(getattr(self, "url", "the store")))

    async def node_address(self) -> str | None:
        """See :meth:`Store.node_address`."""
        return None

    async def members(self) -> StoreMembers:
        """See :meth:`Store.members`."""
        return StoreMembers()

    async def close(self) -> None:
        """See :meth:`Store.close`."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def revision_in(version: str) -> int:
    """The number that a version of a named query is in stores that count changes: 0 for none
    (``""``), -1 for what nobody's version can be."""
    if not version:
        return 0
    return int(version) if re.fullmatch("[0-9]{1,18}", version) else -1


def without_queries(url: str) -> StoreUnsupportedError:
    """The error of a store that keeps no named queries."""
    return StoreUnsupportedError(
        url, "a store of this kind keeps no named queries; ask with the filters themselves"
    )


class BaseStore(Closing, Generic[R]):
    """Base of stores that leave to it what every store does before it registers an instance."""

    def __init__(self, url: str, holder: Holder | None) -> None:
        self.url = url
        self.holder = holder or new_holder()
        self.skipped = SkippedKeys(url)

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
    ) -> R:
        """See :meth:`Store.register`."""
        record = prepared(record, document, ttl=ttl, reap_after=reap_after)
        lease = Lease(holder or self.holder, ttl, reap_after)
        instance = Instance(record, health or healthy(), lease)
        return await self._register(instance, document, takeover)

    async def _register(
        self, new: Instance, document: CapabilityDocument, takeover: str | None
    ) -> R:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """Credentials and connection options, which are never part of a store URL.

    ``token`` is a Consul ACL token or a facade's bearer token, or a function that returns one
    (:mod:`mcp_discovery.bearer_tokens`); ``user`` and ``password`` are for etcd; ``token_file`` and
    ``password_file`` are paths of files that hold them instead; ``ca``, ``certificate`` and ``key``
    are paths of PEM files; ``timeout`` bounds one request, in seconds.

    Files are followed: what is written there later is used by the next requests, see
    :mod:`mcp_discovery.credential_files`. A store raises
    :class:`~mcp_discovery.errors.InvalidInputError` when it is opened with files that cannot be
    used.

    ``catalog_tags`` and ``catalog_meta`` are what other programs read beside every instance that is
    registered, in a store that has a catalog of its own for them
    (:attr:`mcp_discovery.adapters.stores.StoreKind.has_catalog`). They are no part of any record.
    """

    token: GivenToken | None = field(default=None, repr=False)
    token_file: str | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    password_file: str | None = None
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    timeout: float = 5.0
    catalog_tags: tuple[str, ...] = ()
    catalog_meta: Mapping[str, str] = field(default_factory=dict)


def new_holder(by: Literal["sidecar", "facade"] = "sidecar") -> Holder:
    """A new random identity for a registrant in this process."""
    secret, host = secrets.token_hex(32), socket.gethostname()[:255] or "unknown-host"
    return Holder(public_holder(secret), host, by, secret=secret)


def prepared(
    record: Record,
    document: CapabilityDocument,
    *,
    ttl: float,
    reap_after: float,
    id: str | None = None,
) -> Record:
    """``record`` with its digest set from ``document``, checked together with the lease terms.

    For an update, ``id`` is the registration's. Raises
    :class:`~mcp_discovery.errors.InvalidRecordError` when ``record`` has another id, breaks a rule
    or is over its limit, :class:`~mcp_discovery.errors.InvalidDocumentError` when ``document`` is,
    and :class:`ValueError` when the terms are out of range.
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

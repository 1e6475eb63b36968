"""All entries that this facade is the registrant of, and those it adopts as nobody else is."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self
from weakref import WeakValueDictionary

from mcp_discovery.adapters.catalog import Catalog
from mcp_discovery.adapters.store import Store, new_holder
from mcp_discovery.adapters.stores import find_kind
from mcp_discovery.adapters.tombstone import bury, is_tombstone
from mcp_discovery.adapters.view import Entry
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import (
    DiscoveryError,
    DuplicateInstanceError,
    RegistrationLostError,
    StoreError,
)
from mcp_discovery.facade.documents.documents import Documents
from mcp_discovery.facade.http.outbound import MARK, Dialer
from mcp_discovery.facade.options import FacadeOptions
from mcp_discovery.facade.registration.body import Posting, gives_capabilities
from mcp_discovery.facade.registration.hand_over import HandOver, follow, is_posted
from mcp_discovery.facade.registration.posted_entry import PostedEntry, health_check, probe_maker
from mcp_discovery.facade.registration.traits import traits_of
from mcp_discovery.facade.usage.usage import CAPABILITY_REQUEST, Usage
from mcp_discovery.health import Status
from mcp_discovery.instance import Holder
from mcp_discovery.probe import SYSTEM_TLS, ServerTls
from mcp_discovery.record import Record
from mcp_discovery.registrant.tasks import ended
from mcp_discovery.registrant.watcher import HealthCheckResult

log = logging.getLogger(__name__)

#: How many seconds an idle connection to a posted server is kept: from one probe to the next, so
#: that its end tells of the server's.
_KEPT_ALIVE = 75.0
#: For how many seconds entries are registered one after the other without a pause.
_AT_ONCE = 0.005


def holder_for(store: Store) -> Holder:
    """This facade's identity as a registrant in ``store``.

    A store in a file belongs to one process: its next process is the same holder, and goes on at
    once with what was posted to the last. Over any other store each process is a holder of its
    own.
    """
    holder = new_holder("facade")
    kind, in_memory = find_kind(store.url), store.url.endswith(":")
    if kind is not None and kind.shared_by == "process" and not in_memory:
        # No secret leads to this id; nobody asks for one within one process.
        id = f"h1-{hashlib.sha256(f'facade over {store.url}'.encode()).hexdigest()[:32]}"
        return Holder(id, holder.host, "facade")
    return holder


def _gives_way(present: PostedEntry | Entry) -> bool:
    """Whether another server may be posted under the id of ``present``: it is down, or was drained.
    One that was set idle stays."""
    status = present.status if isinstance(present, PostedEntry) else present.health.status
    drained = status is Status.DRAINING and not traits_of(present.record).idle
    return drained or present.health.status is Status.DOWN


class Turns:
    """Spreads what is ready at the same moment, such as all entries of an import whose first probes
    end together, over rounds of the event loop, so that others come between."""

    def __init__(self) -> None:
        self._round_began: float | None = None  # monotonic seconds

    async def take(self) -> None:
        """Returns in a round in which those before have not taken long."""
        while self._has_been_long():  # noqa: ASYNC110 - what is awaited is the next round
            await asyncio.sleep(0)
        if self._round_began is None:
            self._round_began = time.monotonic()
            asyncio.get_running_loop().call_soon(self._round_over)

    def _has_been_long(self) -> bool:
        began = self._round_began
        return began is not None and time.monotonic() - began > _AT_ONCE

    def _round_over(self) -> None:
        self._round_began = None


class IdLocks:
    """Keeps changes to one instance in a row; those to different ones do not wait."""

    def __init__(self) -> None:
        #: One lock for each instance id, for as long as somebody uses it.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def hold(self, id: str) -> asyncio.Lock:
        """What keeps others from changing ``id`` inside an ``async with``."""
        return self._locks.setdefault(id, asyncio.Lock())


@dataclass(eq=False)
class PostedEntries:
    """Use it as ``async with``: it probes and adopts inside. Closing leaves entries to their TTL.

    The caller of :meth:`put` and :meth:`remove` holds the id's lock in ``locks``.
    """

    catalog: Catalog
    documents: Documents
    locks: IdLocks
    options: FacadeOptions
    usage: Usage
    tls: ServerTls = SYSTEM_TLS
    #: Whether somebody who is not known may register.
    has_strangers: Callable[[], bool] = lambda: False
    #: What probes are made with; inside ``async with`` only.
    dialer: Dialer = field(init=False)
    _adopting: asyncio.Task[None] = field(init=False)

    def __post_init__(self) -> None:
        self._store = self.catalog.store
        self._entries: dict[str, PostedEntry] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._turns = Turns()
        #: Under which identity entries are registered.
        self.holder = holder_for(self._store)
        #: Registers a tombstone in the place of what the holder with the id ``takeover`` holds.
        self._bury = partial(bury, self._store, reap_after=self.options.removed_for, by=self.holder)
        self._hand_over = HandOver(self.catalog, self.holder, self.options.settle)
        self.usage.listen(CAPABILITY_REQUEST, self._called)
        #: Whether other facades over the same store see tombstones: another facade, where that is
        #: the store, shows none.
        kind = find_kind(self._store.url)
        self.tombstones_are_seen = kind is None or kind.shows_tombstones

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, id: str) -> PostedEntry | None:
        """The entry with ``id``, if this facade keeps it."""
        return self._entries.get(id)

    async def put(
        self, posting: Posting, *, replace: bool = False, owner: str | None = None
    ) -> PostedEntry:
        """Registers what was posted and keeps it from now on, whichever facade did before.
        ``owner`` is the caller that its name belongs to.

        The same id with the same endpoint takes the old one's place; with another endpoint it
        does only with ``replace``, or when the old one is ``down`` or drained: otherwise raises
        :class:`DuplicateInstanceError`, as it does when a registrant that is no facade holds the
        id.
        Raises :class:`InvalidRecordError` where it names an address that this facade does not dial.
        """
        self.dialer.check(posting.record)
        id = posting.record.id
        old = self._entries.get(id)
        record = posting.record
        document = await self.documents.resolve(posting.document, posting.digest)

        def make(known: Entry | None) -> PostedEntry:
            present = old or (known if known is not None and is_posted(known) else None)
            if present is not None and not replace and not _gives_way(present):
                endpoint = present.record.endpoint
                if endpoint != record.endpoint:
                    other = present.instance if isinstance(present, Entry) else None
                    holder = self.holder if other is None else other.lease.holder
                    raise DuplicateInstanceError(id, holder=str(holder), url=endpoint.url)
            if known is None:
                return self._make(record, document, owner)
            since = {"registered_at": known.record.registered_at}
            return self._make(record.model_copy(update=since), document, owner)

        async with old.registrar.suspended() if old is not None else nullcontext():
            posted = await self._hand_over.take_over(id, make)
        self._take_in(posted)
        if old is not None:
            await old.aclose()
        return posted

    async def claim(self, entry: Entry) -> PostedEntry:
        """Takes over an entry, unchanged, that another facade keeps.

        Raises what :meth:`mcp_discovery.adapters.store.Store.register` does, and
        :class:`RegistrationLostError`.
        """
        document = await self.documents.of_record(entry.record)

        def make(known: Entry | None) -> PostedEntry:
            if known is None or not is_posted(known):
                raise RegistrationLostError(entry.id, "it was removed in the meantime")
            draining = known.health.status is Status.DRAINING
            owner = known.instance.lease.holder.owner
            return self._make(known.record, document, owner, draining=draining)

        posted = await self._hand_over.take_over(entry.id, make)
        self._take_in(posted)
        log.info("keeping %s from now on, after %s", entry.id, entry.instance.lease.holder)
        return posted

    async def remove(self, id: str) -> None:
        """Takes an entry that is kept here out of the store."""
        posted = self._entries[id]
        inherited_for = time.monotonic() - posted.inherited_at
        if inherited_for < self.options.removed_for and self.tombstones_are_seen:
            # The facade that kept it before may come back, and must not register it again.
            async with posted.registrar.suspended():
                await self._bury(posted.record, takeover=self.holder.id)
        else:
            await posted.registrar.deregister()
        await posted.aclose()
        self._forget(id)

    async def remove_elsewhere(self, entry: Entry) -> None:
        """Takes an entry that another facade keeps out of the store, for good.

        That facade sees a tombstone, and removes it; this waits for that a little. Raises what
        :meth:`mcp_discovery.adapters.store.Store.register` does.
        """
        id = entry.id
        registration = await self._bury(entry.record, takeover=entry.instance.lease.holder.id)
        if self.adoptable(entry):
            return  # there is nobody to see it now
        with suppress(TimeoutError):
            async with asyncio.timeout(self.options.settle):
                while id in (view := self.catalog.view).entries or id in view.removed:
                    await self.catalog.after(view)
                await registration.deregister()  # what is left of it at this facade's own agent

    async def revise(
        self, entry: PostedEntry, record: Record, document: CapabilityDocument, *, draining: bool
    ) -> None:
        """Registers another record of the same server in the place of the one that is kept.

        Raises what :meth:`mcp_discovery.adapters.store.Store.register` raises, and
        :class:`InvalidRecordError` as :meth:`put` does; nothing has changed then.
        """
        self.dialer.check(record)
        fill = not gives_capabilities(record)
        await entry.revise(record, document, fill=fill, draining=draining)

    async def check(self, record: Record, timeout: float) -> HealthCheckResult:
        """One probe of a server that is not kept here; ``timeout`` in seconds.

        The result stays with the caller: the server's own registrant publishes its health.
        """
        session, tls = self.dialer.session, self.dialer.tls
        make_probe = probe_maker(record, session, tls)
        probe = make_probe() if make_probe is not None else None
        try:
            known = self.catalog.view.entries.get(record.id)
            owner = known.instance.lease.holder.owner if known is not None else None
            check = health_check(record, session, tls, strangers=self._is_strangers(owner))
            return await check.run(probe, timeout=timeout)
        finally:
            if probe is not None:
                # The answer to a handshake that was given up may take its time: nobody waits here.
                closing = asyncio.create_task(probe.close(), name="close a probe")
                self._closing.add(closing)
                closing.add_done_callback(self._closing.discard)

    def adoptable(self, entry: Entry) -> bool:
        """Whether ``entry`` was posted to a facade and nobody keeps it alive any more."""
        holder = entry.instance.lease.holder
        if holder.by != "facade" or entry.id in self._entries:
            return False
        return holder.id == self.holder.id or entry.health.silent

    # -- life --------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self.dialer = Dialer(
            self.options.addresses,
            headers={MARK: self.holder.id},
            tls=self.tls,
            keepalive=_KEPT_ALIVE,
        )
        self._adopting = asyncio.create_task(follow(self, self.catalog), name="adopt")
        return self

    async def __aexit__(self, *_: object) -> None:
        await ended(self._adopting)
        await asyncio.gather(*(posted.aclose() for posted in self._entries.values()))
        self._entries.clear()
        await ended(*self._closing)
        await self.dialer.close()

    def _called(self, _: str, id: str, facts: Mapping[str, Any]) -> None:
        posted = self._entries.get(id)
        if posted is not None:
            posted.called(success=facts["success"])

    def _make(
        self,
        record: Record,
        document: CapabilityDocument,
        owner: str | None,
        *,
        draining: bool = False,
    ) -> PostedEntry:
        posted: PostedEntry
        id = record.id

        async def lost(error: Exception) -> None:
            log.warning("no longer keeping what was posted: %s", error)
            try:
                await self.let_go(id)
            except StoreError as error:
                log.info("which registrant holds %s now is not known: %s", id, error)
            if self._entries.get(id) is posted:
                await self._give_up(posted)

        posted = PostedEntry(
            record,
            document,
            fill=not gives_capabilities(record),
            store=self._store,
            holder=dataclasses.replace(
                self.holder, owner=owner, claims=owner is None, probed=owner is None
            ),
            dialer=self.dialer,
            options=self.options,
            usage=self.usage,
            may_renew=partial(self._hand_over.require_own, id),
            lost=lost,
            turn=self._turns.take,
            takeover=self._hand_over.former_holder(id),
            draining=draining,
            strangers=self._is_strangers(owner),
        )
        return posted

    def _is_strangers(self, owner: str | None) -> bool:
        """Whether what ``owner`` has is perhaps a stranger's."""
        return owner is None and self.has_strangers()

    def _take_in(self, posted: PostedEntry) -> None:
        self._entries[posted.id] = posted
        self.usage.report_load(posted.id, None)

    def _forget(self, id: str) -> None:
        self._entries.pop(id, None)
        self.usage.forget_load(id)

    async def _give_up(self, posted: PostedEntry) -> None:
        """Stops keeping what another keeps, and takes away what is left of this registration."""
        self._forget(posted.id)
        await posted.registrar.let_go()
        await posted.aclose()

    # -- what changes hands ------------------------------------------------------------------

    def posted_elsewhere(self, entry: Entry) -> bool:
        """Whether ``entry`` was posted to another facade, which may be alive or not."""
        return (
            is_posted(entry)
            and entry.id not in self._entries
            and entry.instance.lease.holder.id != self.holder.id
        )

    def seems_taken(self, id: str) -> bool:
        """Whether the list shows what is kept here as another's, or as removed."""
        if id not in self._entries:
            return False
        entry = self.catalog.view.entries.get(id)
        taken = entry is not None and entry.instance.lease.holder.id != self.holder.id
        return taken or id in self.catalog.view.removed

    async def let_go_of_taken(self, id: str) -> None:
        """Lets go of ``id`` where the list shows that it is another's; see :meth:`let_go`."""
        if self.seems_taken(id):
            await self.let_go(id)

    async def let_go(self, id: str) -> None:
        """Stops keeping what is another's in the store by now; a tombstone is removed with that.

        Raises :class:`StoreError` when the store cannot be read.
        """
        async with self.locks.hold(id):
            posted = self._entries.get(id)
            if posted is None or (other := await self._hand_over.foreign_instance(id)) is None:
                return
            await self._give_up(posted)
            log.info("no longer keeping %s, which is with %s now", id, other.lease.holder)
            if is_tombstone(other.record):
                registration = await self._bury(posted.record, takeover=other.lease.holder.id)
                await registration.deregister()

    async def adopt(self, id: str) -> None:
        """Keeps, from now on, what was posted to a facade and is kept by nobody."""
        async with self.locks.hold(id):
            entry = self.catalog.view.entries.get(id)
            if entry is None or not self.adoptable(entry):
                return
            record = entry.record
            try:
                document = await self.documents.of_record(record)
                posted = self._make(record, document, entry.instance.lease.holder.owner)
                await posted.start()
            except DuplicateInstanceError as error:
                log.debug("another has adopted it: %s", error)
            except StoreError as error:
                log.info("cannot adopt %s yet: %s", id, error)
            except DiscoveryError as error:
                log.warning("cannot adopt %s: %s", id, error)
            else:
                self._take_in(posted)
                log.info("adopted %s, which was posted to %s", id, entry.instance.lease.holder)

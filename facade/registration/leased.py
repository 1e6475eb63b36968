"""Registrations held on behalf of those who send their own heartbeats."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from mcp_discovery.adapters.store import Registration, Store
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import RegistrationLostError
from mcp_discovery.facade.registration.body import Posting
from mcp_discovery.facade.usage.usage import Usage
from mcp_discovery.health import Health, Load
from mcp_discovery.instance import Lease
from mcp_discovery.record import Record


@dataclass(slots=True)
class Leased:
    """One registration, and what its registrant sent last."""

    registration: Registration
    record: Record
    lease: Lease
    anonymous: bool
    health: Health
    renewed: float  # monotonic seconds

    @property
    def lapsed(self) -> bool:
        """Whether its TTL is over."""
        return time.monotonic() - self.renewed > self.lease.ttl


@dataclass(eq=False)
class LeasedRegistrations:
    """What sidecars and clients hold in the store through this facade.

    The caller sees to it that two calls for one id do not overlap.
    """

    store: Store
    usage: Usage
    _leased: dict[str, Leased] = field(default_factory=dict, init=False)

    def __len__(self) -> int:
        return len(self._leased)

    def get(self, id: str) -> Leased | None:
        """The registration of ``id``, unless its TTL is over."""
        leased = self._leased.get(id)
        return None if leased is None or leased.lapsed else leased

    async def register(
        self,
        posting: Posting,
        lease: Lease,
        document: CapabilityDocument,
        takeover: str | None = None,
    ) -> None:
        """Registers, as :meth:`mcp_discovery.adapters.store.Store.register` does."""
        sent = time.monotonic()
        registration = await self.store.register(
            posting.record,
            document,
            ttl=lease.ttl,
            reap_after=lease.reap_after,
            health=posting.health,
            holder=lease.holder,
            takeover=takeover,
        )
        self._leased[posting.record.id] = Leased(
            registration, posting.record, lease, posting.anonymous, posting.health, sent
        )
        self.usage.report_load(posting.record.id, None)

    async def heartbeat(self, leased: Leased, health: Health, load: Load | None) -> None:
        """Passes a heartbeat on, with ``load`` made whole by what clients report here.

        Without one, the load that the registrant sent last stands. A lost registration is
        forgotten.
        """
        sent = time.monotonic()
        id = leased.registration.id
        if load is not None:
            self.usage.report_load(id, load)
        with self._forgetting_lost(id):
            # Clients send heartbeats when they like, as long as TTL is not over.
            await leased.registration.heartbeat(health, self.usage.load(id), renew=True)
        leased.renewed = sent
        leased.health = health

    async def update(self, leased: Leased, record: Record, document: CapabilityDocument) -> None:
        """Passes a new record on."""
        with self._forgetting_lost(leased.registration.id):
            await leased.registration.update(record, document)
        leased.record = record

    async def drain(self, leased: Leased) -> None:
        """Passes the wish to drain on."""
        with self._forgetting_lost(leased.registration.id):
            await leased.registration.drain()

    async def deregister(self, leased: Leased) -> None:
        """Takes the instance out of the store."""
        await leased.registration.deregister()
        self.forget(leased.registration.id)

    def forget(self, id: str) -> None:
        """Lets go of a registration without telling the store."""
        self._leased.pop(id, None)
        self.usage.forget_load(id)

    @contextmanager
    def _forgetting_lost(self, id: str) -> Iterator[None]:
        try:
            yield
        except RegistrationLostError:
            self.forget(id)
            raise

    async def forget_lapsed(self, every: float) -> None:
        """Lets go of registrations whose TTL is over, for ever, ``every`` so many seconds."""
        while True:
            await asyncio.sleep(every)
            for id in [id for id, leased in self._leased.items() if leased.lapsed]:
                self.forget(id)

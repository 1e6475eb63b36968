"""A wrapper around a store that counts or times each of its calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, aclosing, contextmanager

from mcp_discovery.adapters.store import Change, Closing, Registration, Snapshot, Store
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import (
    DiscoveryError,
    RegistrationLostError,
    StoreDeniedError,
    StoreUnavailableError,
)
from mcp_discovery.health import Health, Load
from mcp_discovery.instance import Holder
from mcp_discovery.record import Record

#: Given an operation's name, the context manager inside which the operation runs.
Around = Callable[[str], AbstractContextManager[None]]

_OUTCOMES = ("ok", "lost", "denied", "unavailable", "refused")


class Tally:
    """Counts calls of a store, as an :data:`Around`: (operation, outcome) → number of calls.

    An operation is ``register``, ``heartbeat``, ``update``, ``drain``, ``deregister``, ``document``
    or ``watch``; an outcome ``ok``, ``lost`` (the store no longer knew the registration),
    ``denied``, ``unavailable`` or ``refused`` (any other answer, such as a second holder of an id).
    A watch that its consumer ends is not counted.
    """

    def __init__(self, *operations: str) -> None:
        """``operations`` are present with 0 from the start, so that a first call shows as a step
        in a time series."""
        self.counts: Counter[tuple[str, str]] = Counter(
            {(each, outcome): 0 for each in operations for outcome in _OUTCOMES}
        )

    @contextmanager
    def __call__(self, operation: str) -> Iterator[None]:
        """Counts one call, made inside the block, by its outcome."""
        try:
            yield
        except DiscoveryError as error:
            self.counts[operation, _outcome(error)] += 1
            raise
        self.counts[operation, "ok"] += 1


def _outcome(error: DiscoveryError) -> str:
    match error:
        case RegistrationLostError():
            return "lost"
        case StoreDeniedError():
            return "denied"
        case StoreUnavailableError():
            return "unavailable"
        case _:
            return "refused"


class ObservedStore(Closing):
    """Passes every call on to ``store``, inside what ``around`` returns for its operation."""

    def __init__(self, store: Store, around: Around) -> None:
        self._store = store
        self._around = around

    @property
    def url(self) -> str:
        """See :attr:`Store.url`."""
        return self._store.url

    @property
    def skipped(self) -> Mapping[str, str]:
        """See :attr:`Store.skipped`."""
        return self._store.skipped

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
        """See :meth:`Store.register`."""
        with self._around("register"):
            registration = await self._store.register(
                record,
                document,
                ttl=ttl,
                reap_after=reap_after,
                health=health,
                holder=holder,
                takeover=takeover,
            )
        return _ObservedRegistration(registration, self._around)

    async def watch(self) -> AsyncGenerator[Snapshot | Change, None]:
        """See :meth:`Store.watch`."""
        with self._around("watch"):
            async with aclosing(self._store.watch()) as events:
                async for event in events:
                    yield event

    async def document(self, digest: str) -> CapabilityDocument:
        """See :meth:`Store.document`."""
        with self._around("document"):
            return await self._store.document(digest)

    async def sweep(self) -> int:
        """See :meth:`Store.sweep`."""
        return await self._store.sweep()

    async def node_address(self) -> str | None:
        """See :meth:`Store.node_address`."""
        return await self._store.node_address()

    async def close(self) -> None:
        """See :meth:`Store.close`."""
        await self._store.close()


class _ObservedRegistration:
    def __init__(self, registration: Registration, around: Around) -> None:
        self._registration = registration
        self._around = around

    @property
    def id(self) -> str:
        return self._registration.id

    async def heartbeat(
        self, health: Health, load: Load | None = None, *, renew: bool = False
    ) -> None:
        with self._around("heartbeat"):
            await self._registration.heartbeat(health, load, renew=renew)

    async def update(self, record: Record, document: CapabilityDocument) -> None:
        with self._around("update"):
            await self._registration.update(record, document)

    async def drain(self) -> None:
        with self._around("drain"):
            await self._registration.drain()

    async def deregister(self) -> None:
        with self._around("deregister"):
            await self._registration.deregister()

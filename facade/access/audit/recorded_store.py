"""A wrapper around a store that records each change which a request makes, before it is made.

Whatever a handler does ends here, so that there is no way to change the list past the audit. What
a facade does by itself (renewing, adopting) is no change by anybody, and passes.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Self, cast

from mcp_discovery.adapters.store import Change, Registration, Snapshot, Store
from mcp_discovery.adapters.view import Entry
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import DiscoveryError
from mcp_discovery.facade.access.audit.recording import current_recording, query_key
from mcp_discovery.health import Health, Load
from mcp_discovery.instance import Holder
from mcp_discovery.record import Record

#: Gives the instance with an id as it is listed now.
Listed = Callable[[str], Entry | None]


def recorded(store: Store, listed: Listed) -> Store:
    """``store``, with the changes of requests recorded."""
    return cast(Store, _RecordedStore(store, listed))


class _Passing:
    """Passes every attribute on."""

    def __init__(self, inner: Store | Registration) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _RecordedStore(_Passing):
    def __init__(self, store: Store, listed: Listed) -> None:
        super().__init__(store)
        self._listed = listed

    async def register(self, record: Record, document: CapabilityDocument, **terms: Any) -> Any:
        store = cast(Store, self._inner)
        digest = document.digest
        offered = record.capabilities.model_copy(update={"digest": digest})
        told = record.model_copy(update={"capabilities": offered})
        call = store.register(record, document, **terms)
        holder: Holder | None = terms.get("holder")
        owner = None if holder is None else holder.owner
        registration = await _recorded("register", told, owner, self._listed, call)
        health: Health | None = terms.get("health")
        return _RecordedRegistration(registration, record, owner, self._listed, health)

    async def put_query(
        self, name: str, definition: bytes | None, *, expected: str | None = None
    ) -> str | None:
        store, recording = cast(Store, self._inner), current_recording()
        if recording is not None:
            before = (await store.queries()).get(name)
            known = None if before is None else before.definition
            await recording.query_change(name, known, definition)
        try:
            return await store.put_query(name, definition, expected=expected)
        except DiscoveryError as error:
            if recording is not None:
                recording.failed(query_key(name), error)
            raise

    async def watch(self) -> AsyncGenerator[Snapshot | Change, None]:
        async with aclosing(cast(Store, self._inner).watch()) as events:
            async for event in events:
                yield event

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await cast(Store, self._inner).close()


class _RecordedRegistration(_Passing):
    def __init__(
        self,
        registration: Registration,
        record: Record,
        owner: str | None,
        listed: Listed,
        health: Health | None,
    ) -> None:
        super().__init__(registration)
        self._record = record
        self._owner = owner
        self._listed = listed
        self._status = "healthy" if health is None else health.status.value

    async def heartbeat(self, health: Health, load: Load | None = None, **more: Any) -> None:
        await cast(Registration, self._inner).heartbeat(health, load, **more)
        before, self._status = self._status, health.status.value
        recording = current_recording()
        if recording is not None and before != self._status:
            recording.status(self._record, self._owner, before, self._status)

    async def update(self, record: Record, document: CapabilityDocument) -> None:
        call = cast(Registration, self._inner).update(record, document)
        offered = record.capabilities.model_copy(update={"digest": document.digest})
        told = record.model_copy(update={"capabilities": offered})
        await _recorded("update", told, self._owner, self._listed, call)
        self._record = record

    async def drain(self) -> None:
        call = cast(Registration, self._inner).drain()
        await _recorded("drain", self._record, self._owner, self._listed, call)

    async def deregister(self) -> None:
        call = cast(Registration, self._inner).deregister()
        await _recorded("deregister", self._record, self._owner, self._listed, call, gone=True)


async def _recorded(
    name: str,
    record: Record,
    owner: str | None,
    listed: Listed,
    call: Any,
    *,
    gone: bool = False,
) -> Any:
    """Awaits ``call`` once it is recorded that a request makes it; ``gone``: it removes."""
    recording = current_recording()
    if recording is None:
        return await call
    try:
        await recording.change(name, record, listed(record.id), owner=owner, gone=gone)
    except BaseException:
        call.close()
        raise
    try:
        return await call
    except DiscoveryError as error:
        recording.failed(record.id, error)
        raise

"""The store that lives in this process: registrations in memory, perhaps with a file."""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import logging
import math
import secrets
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote

import orjson

from mcp_discovery.adapters.embedded.file import StoreFile
from mcp_discovery.adapters.heartbeats import ScheduledRegistration
from mcp_discovery.adapters.meant_url import meant_url
from mcp_discovery.adapters.members import StoreMember, StoreMembers
from mcp_discovery.adapters.store import BaseStore, Change, Snapshot, StoredQuery, StoreOptions
from mcp_discovery.adapters.unreferenced_keys import UnreferencedKeys
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import (
    DocumentNotFoundError,
    DuplicateInstanceError,
    InvalidDocumentError,
    InvalidRecordError,
    InvalidStoreURLError,
    QueryChangedError,
    RegistrationLostError,
    StoreUnavailableError,
)
from mcp_discovery.health import Health, Load, Status, silent_for
from mcp_discovery.instance import (
    Holder,
    Instance,
    decode_registration,
    encode_registration,
    health_from_dict,
    health_to_dict,
    is_leaving,
)
from mcp_discovery.record import Record

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _HeldInstance:
    """A registered instance, and when it was last renewed, in seconds of the monotonic clock."""

    instance: Instance
    renewed: float
    silent: bool = False

    def deadline(self) -> float:
        """When it expires next: at the end of its TTL, then at the end of ``reap_after``."""
        lease = self.instance.lease
        return self.renewed + (lease.reap_after if self.silent else lease.ttl)


class EmbeddedStore(BaseStore["EmbeddedRegistration"]):
    """The store behind ``embedded:`` and ``embedded:///path/file.db``.

    With a file, registrations survive a restart of the process: each has one whole TTL for its next
    heartbeat. Raises :class:`InvalidStoreURLError`, and :class:`StoreUnavailableError` when
    the file cannot be used. Must be used inside one running event loop.
    """

    def __init__(
        self,
        url: str = "embedded:",
        options: StoreOptions | None = None,
        *,
        holder: Holder | None = None,
    ) -> None:
        super().__init__(url, holder)
        self._held: dict[str, _HeldInstance] = {}
        self._documents: dict[str, bytes] = {}
        self._watchers: set[_Watcher] = set()
        self._deadlines: list[tuple[float, str]] = []
        self._due: dict[str, float] = {}  # the one entry of ``_deadlines`` that counts for each id
        self._timer: asyncio.TimerHandle | None = None
        self._unreferenced = UnreferencedKeys()
        self._closed = False
        path = _path(url)
        self._file = StoreFile(url, path) if path else None
        #: So that nobody can tell from a version which definition it is of.
        self._version_key = secrets.token_bytes(16)
        self._queries = self._file.queries() if self._file else {}
        self._load()

    async def _register(
        self, new: Instance, document: CapabilityDocument, takeover: str | None
    ) -> EmbeddedRegistration:
        self._require_open()
        old = self._held.get(new.id)
        if old and not old.silent:
            held_by = old.instance.lease.holder
            leaving = is_leaving(old.instance.health, old.instance.lease)
            if held_by.id not in (new.lease.holder.id, takeover) and not leaving:
                url = old.instance.record.endpoint.url
                raise DuplicateInstanceError(new.id, holder=str(held_by), url=url)
        self._put_document(document)
        self._put(_HeldInstance(new, time.monotonic()))
        return EmbeddedRegistration(self, new)

    async def watch(self) -> AsyncGenerator[Snapshot | Change, None]:
        self._require_open()
        watcher = _Watcher()
        self._watchers.add(watcher)
        try:
            yield Snapshot({id: held.instance for id, held in self._held.items()})
            while True:
                await watcher.wakes.wait()
                watcher.wakes.clear()
                changes, watcher.changes = watcher.changes, {}
                for id, instance in changes.items():
                    yield Change(id, instance)
                self._require_open()
        finally:
            self._watchers.discard(watcher)

    async def document(self, digest: str) -> CapabilityDocument:
        self._require_open()
        data = self._file.document(digest) if self._file else self._documents.get(digest)
        if data is None:
            raise DocumentNotFoundError(digest)
        try:
            return CapabilityDocument.from_compressed(data, digest=digest)
        except InvalidDocumentError as error:
            raise DocumentNotFoundError(digest) from error

    async def sweep(self) -> int:
        self._require_open()
        used = {held.instance.record.capabilities.digest for held in self._held.values()}
        removed = self._unreferenced.confirmed(self.digests() - used)
        for digest in removed:
            if self._file:
                self._file.delete_document(digest)
            self._documents.pop(digest, None)
        return len(removed)

    def digests(self) -> set[str]:
        """The digests of all stored documents."""
        return self._file.digests() if self._file else set(self._documents)

    async def queries(self) -> Mapping[str, StoredQuery]:
        self._require_open()
        return {name: self._stored(each) for name, each in self._queries.items()}

    async def put_query(
        self, name: str, definition: bytes | None, *, expected: str | None = None
    ) -> str | None:
        self._require_open()
        old = self._queries.get(name)
        now = None if old is None else self._stored(old).version
        if expected not in (None, now or ""):
            raise QueryChangedError(name, now)
        if self._file:
            self._file.put_query(name, definition)
        if definition is None:
            self._queries.pop(name, None)
            return None
        self._queries[name] = definition
        return self._stored(definition).version

    def _stored(self, definition: bytes) -> StoredQuery:
        version = hashlib.blake2b(definition, digest_size=8, key=self._version_key)
        return StoredQuery(definition, version.hexdigest())

    async def keeps_queries(self) -> str | None:
        return None

    async def members(self) -> StoreMembers:
        where = "in memory" if (path := _path(self.url)) is None else str(path)
        return StoreMembers((StoreMember("embedded", where, "alone", not self._closed),))

    async def close(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for watcher in self._watchers:
            watcher.wakes.set()
        if self._file:
            self._file.close()

    # -- for registrations -------------------------------------------------------------------

    def _require_held(self, id: str, holder: Holder) -> _HeldInstance:
        """The instance, as long as ``holder`` holds it; raises :class:`RegistrationLostError`."""
        self._require_open()
        held = self._held.get(id)
        if held is None:
            raise RegistrationLostError(id, "the store does not know it")
        if held.instance.lease.holder.id != holder.id:
            raise RegistrationLostError(id, f"it is held by {held.instance.lease.holder} now")
        if held.silent:
            raise RegistrationLostError(id, held.instance.health.reason)
        return held

    def _put(self, held: _HeldInstance) -> None:
        """Takes in an instance; the file first, so that what fails there never happened."""
        instance = held.instance
        if self._file:
            self._file.put(
                instance.id, encode_registration(instance.record, instance.lease), _health(instance)
            )
        self._held[instance.id] = held
        self._watch_deadline(held)
        self._notify(instance.id, instance)

    def _put_document(self, document: CapabilityDocument) -> None:
        if self._file:
            self._file.put_document(document.digest, document.compressed())
        elif document.digest not in self._documents:
            self._documents[document.digest] = document.compressed()

    def _put_health(self, held: _HeldInstance, health: Health, load: Load | None) -> None:
        held.instance = instance = replace(held.instance, health=health, load=load)
        self._notify(instance.id, instance)
        if self._file:
            self._file.put_health(instance.id, _health(instance))

    def _drop(self, id: str) -> None:
        if self._file:
            self._file.delete(id)
        del self._held[id]
        self._notify(id, None)

    def _notify(self, id: str, instance: Instance | None) -> None:
        for watcher in self._watchers:
            watcher.changes.pop(id, None)
            watcher.changes[id] = instance
            watcher.wakes.set()

    # -- the clock ---------------------------------------------------------------------------

    def _watch_deadline(self, held: _HeldInstance) -> None:
        """Schedules :meth:`_expire` for the instance's deadline; too early a run is harmless."""
        id, deadline = held.instance.id, held.deadline()
        if deadline < self._due.get(id, math.inf):
            self._due[id] = deadline
            heapq.heappush(self._deadlines, (deadline, id))
            self._schedule()

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._deadlines and not self._closed:
            delay = max(0.0, self._deadlines[0][0] - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self._expire)

    def _expire(self) -> None:
        """Expires every instance whose deadline has come, unless a heartbeat has moved it since."""
        now = time.monotonic()
        try:
            while self._deadlines and self._deadlines[0][0] <= now:
                due, id = heapq.heappop(self._deadlines)
                if self._due.get(id) != due:
                    continue
                del self._due[id]
                if (held := self._held.get(id)) is None:
                    continue
                if held.deadline() <= now:
                    self._lapse(held)
                if id in self._held:
                    self._watch_deadline(held)
        finally:
            self._schedule()

    def _lapse(self, held: _HeldInstance) -> None:
        """Marks an instance down after its TTL, and removes it after ``reap_after``: in memory
        even if the file cannot be written."""
        instance = held.instance
        id = instance.id
        try:
            if held.silent:
                del self._held[id]
                self._notify(id, None)
                if self._file:
                    self._file.delete(id)
            else:
                held.silent = True
                reason = silent_for(instance.lease.ttl)
                health = instance.health.then(Status.DOWN, reason, heard=False)
                self._put_health(held, health, instance.load)
        except StoreUnavailableError as error:
            log.error("%s; the change of %r is kept in memory only", error, id)

    # -- opening -----------------------------------------------------------------------------

    def _load(self) -> None:
        if self._file is None:
            return
        now = time.monotonic()
        for id, registration, health in self._file.instances():
            try:
                record, lease = decode_registration(registration)
                if record.id != id:
                    raise InvalidRecordError("id", f"the record says it is {record.id!r}")
                instance = Instance(record, health_from_dict(orjson.loads(health)), lease)
            except ValueError as error:
                self.skipped.add(id, str(error))
                continue
            self._held[id] = _HeldInstance(instance, now, instance.health.silent)
            self._watch_deadline(self._held[id])

    def _require_open(self) -> None:
        if self._closed:
            raise StoreUnavailableError(self.url, "this store object is closed")


class EmbeddedRegistration(ScheduledRegistration):
    """See :class:`mcp_discovery.adapters.store.Registration`."""

    def __init__(self, store: EmbeddedStore, instance: Instance) -> None:
        super().__init__(instance)
        self._store = store

    async def heartbeat(
        self, health: Health, load: Load | None = None, *, renew: bool = False
    ) -> None:
        held = self._held()
        held.renewed = time.monotonic()
        self._heartbeats.renewed(held.renewed)
        news = self._heartbeats.to_write(health, load)
        # A newer last_seen alone is not written; the next write includes it.
        held.instance = replace(
            held.instance, health=replace(held.instance.health, last_seen=health.last_seen)
        )
        if news is not None:
            await self._write(*news)

    async def _update(self, record: Record, document: CapabilityDocument) -> None:
        held = self._held()
        self._store._put_document(document)
        self._store._put(replace(held, instance=replace(held.instance, record=record)))

    async def _write(self, health: Health, load: Load | None) -> None:
        self._store._put_health(self._held(), health, load)
        self._heartbeats.written(health, load)

    async def deregister(self) -> None:
        self._store._require_open()
        held = self._store._held.get(self.id)
        if held is not None and held.instance.lease.holder.id == self._lease.holder.id:
            self._store._drop(self.id)

    def _held(self) -> _HeldInstance:
        return self._store._require_held(self.id, self._lease.holder)


class _Watcher:
    """The changes that one watcher has not read yet, the last one of each instance."""

    def __init__(self) -> None:
        self.changes: dict[str, Instance | None] = {}
        self.wakes = asyncio.Event()


def _health(instance: Instance) -> bytes:
    return orjson.dumps(health_to_dict(instance.health))


def _path(url: str) -> Path | None:
    rest = url.removeprefix("embedded:")
    if not rest:
        return None
    if not rest.startswith("///") or "?" in rest or "#" in rest:
        file = meant_url(url, ()) or "embedded:///path/file.db"
        raise InvalidStoreURLError(url, f"write embedded: for memory, or {file} for a file")
    return Path(unquote(rest.removeprefix("//")))

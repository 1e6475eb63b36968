"""A small store of another distribution: a SQLite file that the processes of a machine share.

``tiny:///path/file.db``. It polls, which a store that can be watched should not; everything else is
as the contract in :mod:`mcp_discovery.adapters.store` wants it.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import orjson

from mcp_discovery.adapters.heartbeats import HeartbeatSchedule
from mcp_discovery.adapters.skipped_keys import SkippedKeys
from mcp_discovery.adapters.store import (
    Change,
    Closing,
    Snapshot,
    StoreOptions,
    new_holder,
    prepared,
)
from mcp_discovery.adapters.stores import StoreKind
from mcp_discovery.adapters.unreferenced_keys import UnreferencedKeys
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import (
    DocumentNotFoundError,
    DuplicateInstanceError,
    InvalidDocumentError,
    InvalidInputError,
    InvalidStoreURLError,
    RegistrationLostError,
    StoreUnavailableError,
)
from mcp_discovery.health import Health, Load, Status, healthy, silent_for
from mcp_discovery.instance import (
    Holder,
    Instance,
    Lease,
    decode_registration,
    encode_registration,
    health_from_dict,
    health_to_dict,
    is_leaving,
    load_from_dict,
    load_to_dict,
)
from mcp_discovery.record import Record

TINY = StoreKind(
    schemes=("tiny",),
    implementation="tiny_store:TinyStore",
    example="tiny:///path/file.db",
    note="a file that the processes of this machine share",
    shared_by="machine",
)

#: Seconds between two looks of a watch.
_POLL = 0.05
#: ``heard`` is the time of the last renewal; ``revision`` moves with every other write.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS instances (
    id TEXT PRIMARY KEY, registration BLOB, health BLOB, heard REAL, revision INTEGER
);
CREATE TABLE IF NOT EXISTS documents (digest TEXT PRIMARY KEY, data BLOB);
CREATE TABLE IF NOT EXISTS revisions (last INTEGER);
INSERT INTO revisions SELECT 0 WHERE NOT EXISTS (SELECT * FROM revisions);
"""


@dataclass(frozen=True, slots=True)
class _Row:
    """An instance as it was written, and when it was last heard of."""

    instance: Instance
    heard: float
    revision: int

    def lapsed(self, terms: float) -> bool:
        return time.time() - self.heard > terms

    def shown(self) -> Instance | None:
        """The instance as it is to be listed now; ``None`` when it is to be removed."""
        lease = self.instance.lease
        if self.lapsed(lease.reap_after):
            return None
        if not self.lapsed(lease.ttl):
            return self.instance
        health = self.instance.health
        lapsed = datetime.fromtimestamp(self.heard + lease.ttl, UTC)
        since = health.since if health.status is Status.DOWN else lapsed
        silent = Health(Status.DOWN, silent_for(lease.ttl), since, health.last_seen)
        return replace(self.instance, health=silent)


class TinyStore(Closing):
    """The store at ``tiny:///path/file.db``."""

    def __init__(self, url: str, _: StoreOptions, *, holder: Holder | None = None) -> None:
        if not url.startswith("tiny:///"):
            raise InvalidStoreURLError(url, "write tiny:///path/file.db")
        self.url = url
        self.holder = holder or new_holder()
        self.skipped = SkippedKeys(url)
        self._unreferenced = UnreferencedKeys()
        self._closed = asyncio.Event()
        self._rows: dict[str, _Row] = {}
        try:
            self._db = sqlite3.connect(url.removeprefix("tiny://"), isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=OFF")
            self._db.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise StoreUnavailableError(url, f"cannot be opened: {error}") from error

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
    ) -> TinyRegistration:
        record = prepared(record, document, ttl=ttl, reap_after=reap_after)
        lease = Lease(holder or self.holder, ttl, reap_after)
        health = health or healthy()
        with self.writing() as db:
            old = self.row(record.id)
            if old is not None and not old.lapsed(old.instance.lease.ttl):
                held_by = old.instance.lease.holder
                leaving = is_leaving(old.instance.health, old.instance.lease)
                if held_by.id not in (lease.holder.id, takeover) and not leaving:
                    url = old.instance.record.endpoint.url
                    raise DuplicateInstanceError(record.id, holder=str(held_by), url=url)
            self.put_document(document)
            db.execute(
                "INSERT OR REPLACE INTO instances VALUES (?, ?, ?, ?, ?)",
                (
                    record.id,
                    encode_registration(record, lease),
                    encode_health(health, None),
                    time.time(),
                    self.next_revision(),
                ),
            )
        return TinyRegistration(self, record.id, lease, health)

    async def watch(self) -> AsyncGenerator[Snapshot | Change, None]:
        with self._guarded():
            shown = self._listed()
        yield Snapshot(shown)
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_POLL):
                    await self._closed.wait()
            with self._guarded():
                now = self._listed()
            before, shown = shown, now
            for id in before.keys() - now.keys():
                yield Change(id, None)
            for id, instance in now.items():
                if before.get(id) != instance:
                    yield Change(id, instance)

    async def document(self, digest: str) -> CapabilityDocument:
        with self._guarded() as db:
            query = "SELECT data FROM documents WHERE digest = ?"
            found = db.execute(query, (digest,)).fetchone()
        if found is None:
            raise DocumentNotFoundError(digest)
        try:
            return CapabilityDocument.from_compressed(found[0], digest=digest)
        except InvalidDocumentError as error:
            raise DocumentNotFoundError(digest) from error

    async def sweep(self) -> int:
        with self.writing() as db:
            used = {row.instance.record.capabilities.digest for row in self._read().values()}
            digests = {digest for (digest,) in db.execute("SELECT digest FROM documents")}
            removed = self._unreferenced.confirmed(digests - used)
            db.executemany("DELETE FROM documents WHERE digest = ?", [(each,) for each in removed])
        return len(removed)

    async def close(self) -> None:
        self._closed.set()
        self._db.close()

    @contextmanager
    def _guarded(self) -> Iterator[sqlite3.Connection]:
        if self._closed.is_set():
            raise StoreUnavailableError(self.url, "it is closed")
        try:
            yield self._db
        except sqlite3.Error as error:
            raise StoreUnavailableError(self.url, f"cannot be used now: {error}") from error

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that no other process writes beside."""
        with self._guarded() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")

    def next_revision(self) -> int:
        """The number of one more write."""
        (last,) = self._db.execute("UPDATE revisions SET last = last + 1 RETURNING last").fetchone()
        return int(last)

    def put_document(self, document: CapabilityDocument) -> None:
        """Writes ``document`` unless it is there."""
        row = (document.digest, document.compressed())
        self._db.execute("INSERT OR IGNORE INTO documents VALUES (?, ?)", row)

    def row(self, id: str) -> _Row | None:
        """What is written for ``id``, if it is an instance."""
        return self._read("WHERE id = ?", (id,)).get(id)

    def _listed(self) -> dict[str, Instance]:
        self._rows = self._read()
        for key in self.skipped.keys() & self._rows.keys():
            self.skipped.discard(key)
        shown = {id: row.shown() for id, row in self._rows.items()}
        return {id: instance for id, instance in shown.items() if instance is not None}

    def _read(self, where: str = "", given: tuple[str, ...] = ()) -> dict[str, _Row]:
        found = {}
        columns = "id, registration, health, heard, revision"
        for id, registration, health, heard, revision in self._db.execute(
            f"SELECT {columns} FROM instances {where}", given
        ):
            known = self._rows.get(id)
            if known is not None and known.revision == revision:
                found[id] = replace(known, heard=heard)
                continue
            try:
                record, lease = decode_registration(registration)
                if record.id != id:
                    raise InvalidInputError(f"the record is that of {record.id!r}")
                content = orjson.loads(health)
                instance = Instance(
                    record, health_from_dict(content), lease, load_from_dict(content.get("load"))
                )
            except ValueError as error:
                self.skipped.add(id, str(error))
                continue
            found[id] = _Row(instance, heard, revision)
        return found


class TinyRegistration:
    """One registered instance of a :class:`TinyStore`."""

    def __init__(self, store: TinyStore, id: str, lease: Lease, health: Health) -> None:
        self.id = id
        self._store = store
        self._lease = lease
        self._schedule = HeartbeatSchedule(id, lease.ttl, health)

    async def heartbeat(
        self, health: Health, load: Load | None = None, *, renew: bool = False
    ) -> None:
        self._schedule.require_alive()
        with self._held() as db:
            if (news := self._schedule.to_write(health, load)) is not None:
                self._write(db, *news)
            sent, now = time.monotonic(), time.time()
            db.execute("UPDATE instances SET heard = ? WHERE id = ?", (now, self.id))
        self._schedule.renewed(sent)

    async def update(self, record: Record, document: CapabilityDocument) -> None:
        lease = self._lease
        record = prepared(record, document, ttl=lease.ttl, reap_after=lease.reap_after, id=self.id)
        with self._held() as db:
            self._store.put_document(document)
            db.execute(
                "UPDATE instances SET registration = ?, revision = ? WHERE id = ?",
                (encode_registration(record, lease), self._store.next_revision(), self.id),
            )

    async def drain(self) -> None:
        with self._held() as db:
            self._write(db, self._schedule.drain(), self._schedule.load)

    async def deregister(self) -> None:
        with self._store.writing() as db:
            row = self._store.row(self.id)
            if row is not None and row.instance.lease.holder.id == self._lease.holder.id:
                db.execute("DELETE FROM instances WHERE id = ?", (self.id,))

    @contextmanager
    def _held(self) -> Iterator[sqlite3.Connection]:
        """A transaction in which this registration is still what is written."""
        with self._store.writing() as db:
            row = self._store.row(self.id)
            if row is None or row.lapsed(self._lease.ttl):
                raise RegistrationLostError(self.id, "its time is over")
            holder = row.instance.lease.holder
            if holder.id != self._lease.holder.id:
                raise RegistrationLostError(self.id, f"it is held by {holder} now")
            yield db

    def _write(self, db: sqlite3.Connection, health: Health, load: Load | None) -> None:
        db.execute(
            "UPDATE instances SET health = ?, revision = ? WHERE id = ?",
            (encode_health(health, load), self._store.next_revision(), self.id),
        )
        self._schedule.written(health, load)


def encode_health(health: Health, load: Load | None) -> bytes:
    """Health and load as JSON."""
    content = health_to_dict(health)
    return orjson.dumps(content | ({"load": load_to_dict(load)} if load is not None else {}))

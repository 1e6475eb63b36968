"""Watches the instances in etcd: reads the whole range, then follows one watch and resumes it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from contextlib import aclosing
from datetime import timedelta
from functools import partial
from typing import Any

import aiohttp
import orjson

from mcp_discovery.adapters.backoff import Backoff
from mcp_discovery.adapters.etcd.api import EtcdGateway
from mcp_discovery.adapters.etcd.change_queue import ChangeQueue
from mcp_discovery.adapters.etcd.errors import (
    PermissionDeniedError,
    RequestRefusedError,
    RevisionGoneError,
    TokenRejectedError,
    from_object,
    refusal,
)
from mcp_discovery.adapters.etcd.keys import Json, Keys, encode, key_text
from mcp_discovery.adapters.etcd.lease import heard_ago
from mcp_discovery.adapters.etcd.listing import EtcdListing, KeyVersion
from mcp_discovery.adapters.skipped_keys import SkippedKeys
from mcp_discovery.adapters.store import Change, Snapshot
from mcp_discovery.errors import (
    DiscoveryError,
    StoreDeniedError,
    StoreError,
    StoreFault,
    StoreUnavailableError,
)
from mcp_discovery.health import utcnow
from mcp_discovery.instance import Instance

log = logging.getLogger(__name__)

#: Seconds without a message after which the endpoint is asked whether it still serves.
CHECK_EVERY = 4.0
#: Seconds within which that has to be answered.
CHECK_WITHIN = 2.5
#: Seconds for which an interrupted watch is resumed before it fails.
RESUME_WITHIN = 4.0
#: The longest message in bytes: etcd splits messages at its request limit, but a single event may
#: be longer.
MAX_MESSAGE = 32 * 2**20
#: Seconds after which a stream without a byte is closed, whatever the checks say. etcd reports its
#: progress every ten minutes.
IDLE = 1800.0

_LIST_ATTEMPTS = 5
#: For at most this many lapsed instances a first list reads when they were last renewed.
_MAX_LEASE_READS = 256
#: How many values are decoded before other tasks may run.
_BATCH = 100


class LineTooLongError(DiscoveryError, ValueError):
    """A line is longer than the limit."""


class LineSplitter:
    """Splits a stream of bytes into lines of at most ``most`` bytes.

    aiohttp's own ``readline`` cannot be used: a time-out would lose what it has read so far.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that ``chunk`` completes; raises :class:`LineTooLongError` over the limit."""
        *ends, rest = chunk.split(b"\n")
        lines = []
        for end in ends:
            lines.append(b"".join((*self._parts, end)))
            self._parts, self._size = [], 0
        if rest:
            self._parts.append(rest)
            self._size += len(rest)
        if self._size > self._most:
            raise LineTooLongError(f"a line is over {self._most:,} bytes")
        return [line for line in lines if line.strip()]


class Watch:
    """One watch of the store; :meth:`run` puts what it finds into :attr:`queue` until it fails."""

    def __init__(self, gateway: EtcdGateway, keys: Keys, skipped: SkippedKeys) -> None:
        self.queue = ChangeQueue()
        self.store = gateway.store
        self._gateway = gateway
        self._keys = keys
        self._range: dict[str, Any] = dict(
            zip(("key", "range_end"), map(encode, keys.watched), strict=True)
        )
        self._listing = EtcdListing(keys, skipped)
        self._shown: dict[str, Instance] = {}  # what the consumer has been given
        self._revision = 0  # the listing contains every change up to here
        self._fragments: list[Json] = []  # events of a message that is not complete yet
        self._suspect = False  # whether the last check found a change that the watch had not sent

    async def run(self) -> None:
        """Never returns; raises only StoreUnavailableError or StoreDeniedError."""
        try:
            await self._list()
            await self._follow()
        except RevisionGoneError as error:
            raise StoreUnavailableError(self.store, error.problem, fault=error.fault) from error
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            problem = f"answers what no etcd does ({error!r})"
            raise StoreUnavailableError(self.store, problem) from error

    # -- the full list -----------------------------------------------------------------------

    async def _list(self) -> None:
        for attempt in range(_LIST_ATTEMPTS):
            try:
                await self._read_all()
                break
            except RevisionGoneError:  # compacted between two pages
                if attempt == _LIST_ATTEMPTS - 1:
                    raise
        await self._read_last_renewals()
        self._shown = self._listing.instances()
        self.queue.snapshot(Snapshot(dict(self._shown)))

    async def _read_all(self) -> None:
        seen: list[str] = []
        # A store that was wiped may have put the same revision on another value: a listing compares
        # leases as well.
        async with aclosing(self._gateway.pages(self._keys.watched)) as pages:
            async for revision, kvs in pages:
                self._revision = revision
                for number, kv in enumerate(kvs):
                    key = key_text(kv["key"])
                    self._listing.put(key, kv)
                    seen.append(key)
                    if number % _BATCH == 0:
                        await asyncio.sleep(0)
        self._listing.retain(seen)
        self._fragments.clear()

    async def _read_last_renewals(self) -> None:
        """Reads from the leases of lapsed instances' records when they were last renewed."""
        silent = self._listing.unheard()[:_MAX_LEASE_READS]
        gate = asyncio.Semaphore(16)

        async def read(id: str, lease: str) -> None:
            try:
                async with gate:
                    ago = await heard_ago(self._gateway, lease)
            except StoreError as error:
                log.debug("the last renewal of %r stays unknown: %s", id, error)
                return
            if ago is not None:
                self._listing.heard(id, utcnow() - timedelta(seconds=ago))

        await asyncio.gather(*(read(id, lease) for id, lease in silent if lease != "0"))

    # -- the watch ---------------------------------------------------------------------------

    async def _follow(self) -> None:
        cut_at: float | None = None
        rejected = 0
        backoff = Backoff(0.1, 1.0)
        while True:
            endpoint = self._gateway.endpoint
            started = time.monotonic()
            before = self._revision
            try:
                await self._stream(endpoint)
            except RevisionGoneError as error:
                log.info("%s: listing anew: %s", self.store, error.problem)
                await self._list()
                continue
            except TokenRejectedError as error:
                rejected = rejected + 1 if self._revision == before else 1
                if rejected > 2:
                    raise StoreDeniedError(self.store, error.problem) from error
                await self._gateway.renew_token(endpoint, error)
                continue
            except RequestRefusedError:
                raise
            except StoreUnavailableError as cut:
                if time.monotonic() - started > RESUME_WITHIN * 2:
                    cut_at = None  # it worked for a while, so this is another fault
                    backoff.reset()
                cut_at = cut_at or time.monotonic()
                if time.monotonic() - cut_at > RESUME_WITHIN:
                    raise
                log.info("%s: resuming the watch: %s", self.store, cut.problem)
                self._gateway.pass_over(endpoint)
                await asyncio.sleep(backoff.next())
                try:
                    async with asyncio.timeout(cut_at + RESUME_WITHIN - time.monotonic()):
                        await self._list_unless_same()
                except TimeoutError:
                    raise cut from None  # the consumer has to know that its list is old

    async def _list_unless_same(self) -> None:
        """Lists anew unless the store still has the history from which the listing was made.

        A watch that starts at a revision of a wiped or restored store's former history would miss
        changes without an error.
        """
        versions: dict[str, KeyVersion] = {}
        try:
            async with aclosing(
                self._gateway.pages(self._keys.watched, keys_only=True, revision=self._revision)
            ) as pages:
                async for _, kvs in pages:
                    versions |= {key_text(kv["key"]): KeyVersion.of(kv) for kv in kvs}
        except RevisionGoneError:
            await self._list()
            return
        if versions != self._listing.versions:
            await self._list()

    async def _stream(self, endpoint: str) -> None:
        request = self._range | {
            "start_revision": str(self._revision + 1),
            "progress_notify": True,
            "fragment": True,
        }
        self._fragments.clear()
        self._suspect = False
        lines, created = LineSplitter(MAX_MESSAGE), False
        body = {"create_request": request}
        async with self._gateway.stream(endpoint, "watch", body, idle=IDLE) as response:
            while True:
                chunk = await self._next_chunk(endpoint, response, created=created)
                if not chunk:
                    raise StoreUnavailableError(self.store, "etcd closed the watch")
                try:
                    ready = lines.feed(chunk)
                except LineTooLongError as error:
                    raise StoreUnavailableError(self.store, f"in a watch {error}") from error
                for line in ready:
                    created |= await self._take(orjson.loads(line))

    async def _next_chunk(
        self, endpoint: str, response: aiohttp.ClientResponse, *, created: bool
    ) -> bytes:
        while True:
            try:
                async with asyncio.timeout(CHECK_EVERY):
                    return await response.content.readany()
            except TimeoutError as error:
                if not created:
                    problem = f"created no watch within {CHECK_EVERY:g} s"
                    raise StoreUnavailableError(
                        self.store, problem, fault=StoreFault.SILENT
                    ) from error
            await self._check(endpoint)

    async def _take(self, message: Json) -> bool:
        """Processes one message; returns whether it confirms that the watch was created."""
        result = message.get("result")
        if result is None:
            neither = "a watch answered neither a result nor an error"
            raise from_object(self.store, message) or RequestRefusedError(self.store, neither)
        if result.get("canceled"):
            if int(result.get("compact_revision", 0)):
                raise RevisionGoneError(self.store, "the watch's revision has been compacted")
            reason = result.get("cancel_reason") or "etcd cancelled the watch without a reason"
            refused = refusal(self.store, reason)
            if isinstance(refused, PermissionDeniedError):
                request = {"create_request": self._range}
                raise await self._gateway.explained(refused, "watch", request)
            raise refused
        self._suspect = False
        events = result.get("events", [])
        if result.get("fragment"):
            self._fragments += events
            return False
        if self._fragments:
            events, self._fragments = self._fragments + events, []
        if events:
            await self._apply(events)
        elif not result.get("created"):
            self._revision = max(self._revision, int(result["header"]["revision"]))
        return bool(result.get("created"))

    async def _apply(self, events: list[Json]) -> None:
        """Puts the events into the listing, and each instance that they changed into the queue."""
        touched: dict[str, None] = {}
        removed: Counter[str] = Counter()
        for number, event in enumerate(events):
            kv = event["kv"]
            key = key_text(kv["key"])
            if event.get("type") == "DELETE":
                id = self._listing.delete(key)
                removed[kv["mod_revision"]] += key.startswith(self._keys.records[0])
            else:
                id = self._listing.put(key, kv)
            if id is not None:
                touched[id] = None
            if number % _BATCH == _BATCH - 1:
                await asyncio.sleep(0)
        changes = [change for id in touched if (change := self._change(id)) is not None]
        if any(records > 1 for records in removed.values()):
            # Deregistration and expiry remove one record per revision. Several in one revision are
            # a removal by hand, which the catalog may hold back.
            self.queue.snapshot(Snapshot(dict(self._shown)))
        else:
            for change in changes:
                self.queue.change(change)
        self._revision = max(self._revision, int(events[-1]["kv"]["mod_revision"]))

    def _change(self, id: str) -> Change | None:
        old, new = self._shown.get(id), self._listing.instance(id)
        if new is None:
            return Change(id, None) if self._shown.pop(id, None) is not None else None
        if new == old:
            return None
        self._shown[id] = new
        return Change(id, new)

    # -- a watch without messages ------------------------------------------------------------

    async def _check(self, endpoint: str) -> None:
        """Asks the watch's own endpoint for changes that the watch has not sent.

        Raises :class:`StoreUnavailableError` when it does not answer, or has such a change in two
        checks without a message in between.
        """
        ask = partial(self._gateway.call_endpoint, endpoint, "kv/range", timeout=CHECK_WITHIN)
        alive = await ask({"key": self._range["key"], "serializable": True})
        if int(alive["header"]["revision"]) <= self._revision:
            return
        # Something was written, perhaps outside the range. A removal shows in the count.
        since = {"min_mod_revision": str(self._revision + 1), "limit": "1", "keys_only": True}
        changed = await ask(self._range | since | {"serializable": True})
        if not changed.get("kvs") and int(changed.get("count", 0)) == len(self._listing.versions):
            self._revision = int(changed["header"]["revision"])
            self._suspect = False
        elif self._suspect:
            raise StoreUnavailableError(self.store, "the watch withholds changes")
        else:
            self._suspect = True

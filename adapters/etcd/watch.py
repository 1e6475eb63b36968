"""Follows the watched range: a full list, then one watch, resumed where it was cut."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from contextlib import aclosing
from datetime import timedelta

import aiohttp
import orjson

from mcp_discovery.adapters.backoff import Backoff
from mcp_discovery.adapters.etcd.api import Gateway
from mcp_discovery.adapters.etcd.errors import (
    RequestRefusedError,
    RevisionGoneError,
    TokenRejectedError,
    from_object,
    refusal,
)
from mcp_discovery.adapters.etcd.feed import Feed
from mcp_discovery.adapters.etcd.keys import Keys, encode, key_text
from mcp_discovery.adapters.etcd.lease import heard_ago
from mcp_discovery.adapters.etcd.lines import Lines, LineTooLongError
from mcp_discovery.adapters.etcd.listing import Listing, Stamp
from mcp_discovery.adapters.etcd.txn import Json
from mcp_discovery.adapters.skipped import Skipped
from mcp_discovery.adapters.store import Change, Snapshot
from mcp_discovery.errors import StoreDeniedError, StoreError, StoreUnavailableError
from mcp_discovery.health import utcnow
from mcp_discovery.instance import Instance

log = logging.getLogger(__name__)

#: Seconds of silence after which the peer is asked whether it still serves …
CHECK_EVERY = 4.0
#: … and the seconds that it has to answer.
CHECK_WITHIN = 2.5
#: Seconds for which a cut watch is resumed in silence before it is given up.
RESUME_WITHIN = 4.0
#: The longest answer: etcd cuts them at its request limit, a single event may be longer.
MAX_ANSWER = 32 * 2**20
#: Seconds after which a stream without a byte is cut, whatever the checks say. etcd tells its
#: progress every ten minutes.
QUIET = 1800.0

_LIST_ATTEMPTS = 5
#: Of so many silent instances a first list asks when they were heard of.
_ASK_ABOUT = 256
#: Values that are decoded before other tasks have their turn.
_AT_ONCE = 100


class Watch:
    """One watch of the store; :meth:`run` feeds :attr:`feed` until it fails."""

    def __init__(self, gateway: Gateway, keys: Keys, skipped: Skipped) -> None:
        self.feed = Feed()
        self.store = gateway.store
        self._gateway = gateway
        self._keys = keys
        self._skipped = skipped
        self._listing = Listing(keys, skipped)
        self._shown: dict[str, Instance] = {}
        self._revision = 0  # everything up to here is in the listing
        self._partial: list[Json] = []  # events of an answer that came in fragments so far
        self._suspect = False

    async def run(self) -> None:
        """Lists and follows. Never returns; raises StoreUnavailable or StoreDenied only."""
        try:
            await self._list()
            await self._follow()
        except RevisionGoneError as error:
            raise StoreUnavailableError(self.store, error.problem) from error
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise StoreUnavailableError(
                self.store, f"answers what no etcd does ({error!r})"
            ) from error

    # -- the full list -----------------------------------------------------------------------

    async def _list(self) -> None:
        for attempt in range(_LIST_ATTEMPTS):
            try:
                await self._read_all()
                break
            except RevisionGoneError:
                # Compacted between two pages.
                if attempt == _LIST_ATTEMPTS - 1:
                    raise
        await self._ask_when_heard()
        shown = ((id, self._listing.instance(id)) for id in self._listing.ids())
        self._shown = {id: instance for id, instance in shown if instance is not None}
        self.feed.snapshot(Snapshot(dict(self._shown)))

    async def _read_all(self) -> None:
        seen: list[str] = []
        # A store that was wiped may have put the same revision on another value: Listing compares
        # leases as well.
        async with aclosing(self._gateway.pages(self._keys.watched)) as pages:
            async for revision, kvs in pages:
                self._revision = revision
                for number, kv in enumerate(kvs):
                    key = key_text(kv["key"])
                    self._listing.put(key, kv)
                    seen.append(key)
                    if number % _AT_ONCE == 0:
                        await asyncio.sleep(0)
        self._listing.retain(seen)
        self._partial.clear()

    async def _ask_when_heard(self) -> None:
        """The record's lease was kept alive with the last heartbeat: it tells when that was."""
        silent = self._listing.unheard()[:_ASK_ABOUT]
        gate = asyncio.Semaphore(16)

        async def ask(id: str, lease: str) -> None:
            try:
                async with gate:
                    ago = await heard_ago(self._gateway, lease)
            except StoreError as error:
                log.debug("when %r was heard of stays unknown: %s", id, error)
                return
            if ago is not None:
                self._listing.heard(id, utcnow() - timedelta(seconds=ago))

        await asyncio.gather(*(ask(id, lease) for id, lease in silent if lease != "0"))

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
                    cut_at = None  # It went well for a while: this is another fault.
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
                    raise cut from None  # whoever is told the list must hear that it is old

    async def _list_unless_same(self) -> None:
        """Lists anew unless the store still has the history that the listing comes from.

        A watch from a revision that a wiped or restored store has passed again, or has not reached
        yet, would miss changes without a word.
        """
        stamps: dict[str, Stamp] = {}
        try:
            async with aclosing(
                self._gateway.pages(self._keys.watched, keys_only=True, revision=self._revision)
            ) as pages:
                async for _, kvs in pages:
                    stamps |= {key_text(kv["key"]): Stamp.of(kv) for kv in kvs}
        except RevisionGoneError:
            await self._list()
            return
        if stamps != self._listing.stamps:
            await self._list()

    async def _stream(self, endpoint: str) -> None:
        """Reads one watch until it fails."""
        first, end = self._keys.watched
        request = {
            "key": encode(first),
            "range_end": encode(end),
            "start_revision": str(self._revision + 1),
            "progress_notify": True,
            "fragment": True,
        }
        self._partial.clear()
        self._suspect = False
        lines = Lines(MAX_ANSWER)
        body = {"create_request": request}
        async with self._gateway.stream(endpoint, "watch", body, quiet=QUIET) as response:
            created = False
            while True:
                chunk = await self._next_chunk(endpoint, response, wait_for_it=created)
                if not chunk:
                    raise StoreUnavailableError(self.store, "etcd closed the watch")
                try:
                    ready = lines.feed(chunk)
                except LineTooLongError as error:
                    raise StoreUnavailableError(self.store, f"in a watch {error}") from error
                for line in ready:
                    created |= await self._take(orjson.loads(line))

    async def _next_chunk(
        self, endpoint: str, response: aiohttp.ClientResponse, *, wait_for_it: bool
    ) -> bytes:
        while True:
            try:
                async with asyncio.timeout(CHECK_EVERY):
                    return await response.content.readany()
            except TimeoutError as error:
                if not wait_for_it:
                    raise StoreUnavailableError(
                        self.store, f"created no watch within {CHECK_EVERY:g} s"
                    ) from error
            await self._check(endpoint)

    async def _take(self, message: Json) -> bool:
        """Takes in one answer; returns whether it says that the watch was created."""
        result = message.get("result")
        if result is None:
            raise from_object(self.store, message) or RequestRefusedError(
                self.store, "a watch answered neither a result nor an error"
            )
        if result.get("canceled"):
            if int(result.get("compact_revision", 0)):
                raise RevisionGoneError(self.store, "the watch's revision has been compacted")
            reason = result.get("cancel_reason") or "etcd cancelled the watch without a reason"
            raise refusal(self.store, reason)
        self._suspect = False
        events = result.get("events", [])
        if result.get("fragment"):
            self._partial += events
            return False
        if self._partial:
            events, self._partial = self._partial + events, []
        if events:
            await self._apply(events)
        elif not result.get("created"):
            self._revision = max(self._revision, int(result["header"]["revision"]))
        return bool(result.get("created"))

    async def _apply(self, events: list[Json]) -> None:
        """Puts the events into the listing and tells what they changed, each instance once."""
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
            if number % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)
        changes = [change for id in touched if (change := self._change(id)) is not None]
        if any(records > 1 for records in removed.values()):
            # Whoever leaves, or expires, removes one record. Several at a stroke are none of their
            # own doing: the catalog may doubt it.
            self.feed.snapshot(Snapshot(dict(self._shown)))
        else:
            for change in changes:
                self.feed.change(change)
        self._revision = max(self._revision, int(events[-1]["kv"]["mod_revision"]))

    def _change(self, id: str) -> Change | None:
        """What became of an instance since it was last shown; from now on it is shown so."""
        old, new = self._shown.get(id), self._listing.instance(id)
        if new is None:
            return Change(id, None) if self._shown.pop(id, None) is not None else None
        if old is not None and new.same_as(old):
            return None
        self._shown[id] = new
        return Change(id, new)

    # -- a watch that says nothing -----------------------------------------------------------

    async def _check(self, endpoint: str) -> None:
        """Asks the watch's own peer whether it lives, and whether the watch withholds something.

        Raises :class:`StoreUnavailableError` when it does not answer, or knows of a change for the
        second time and the watch has told nothing in between.
        """
        first, end = self._keys.watched
        alive = await self._gateway.ask(
            endpoint,
            "kv/range",
            {"key": encode(first), "serializable": True},
            CHECK_WITHIN,
        )
        if int(alive["header"]["revision"]) <= self._revision:
            return
        # Something was written, perhaps outside of the range. A removal shows in the count.
        changed = await self._gateway.ask(
            endpoint,
            "kv/range",
            {
                "key": encode(first),
                "range_end": encode(end),
                "serializable": True,
                "keys_only": True,
                "limit": "1",
                "min_mod_revision": str(self._revision + 1),
            },
            CHECK_WITHIN,
        )
        if not changed.get("kvs") and int(changed.get("count", 0)) == len(self._listing.stamps):
            self._revision = int(changed["header"]["revision"])
            self._suspect = False
        elif self._suspect:
            raise StoreUnavailableError(self.store, "the watch withholds changes")
        else:
            self._suspect = True

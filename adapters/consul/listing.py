"""Joins Consul's services and the records in KV into the list of instances.

It does no input or output. Only what has changed is parsed again: a response with a thousand
instances of which one has changed costs a thousand comparisons and one parse.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import chain
from typing import NamedTuple

from mcp_discovery.adapters.consul.checks import (
    Check,
    Presence,
    ServicePlace,
    heartbeat_check,
    read_presence,
    verdict,
)
from mcp_discovery.adapters.consul.kv import KVPair
from mcp_discovery.adapters.consul.records import StoredRecord, read_entry
from mcp_discovery.adapters.consul.services import Services
from mcp_discovery.adapters.consul.session import ENDED_FOR
from mcp_discovery.adapters.skipped_keys import SkippedKeys
from mcp_discovery.health import Health, Status, silent_for, utcnow
from mcp_discovery.instance import Instance, Lease

#: Seconds for which a service and its record may not match: a registration consists of several
#: writes, and the two queries return one after the other.
GRACE = 3.0
#: Seconds for which a node has to be unreachable before its instances are shown as ``down``.
#: Consul servers that were partitioned report healthy nodes as failed for some milliseconds when
#: they meet again.
UNREACHABLE_FOR = 0.5
#: While an agent's servers hang, it delays all heartbeats; their TTLs lapse, and the heartbeats
#: arrive later. Sidecars send at least this many heartbeats in a TTL, so the lapses that one stall
#: causes are spread over that part of the TTL …
HEARTBEATS_PER_TTL = 3
#: … plus these seconds, by which a lapse may be reported late.
REPORTED_WITHIN = 1.0
#: Seconds after which a lapse is shown, if most other instances lapsed together with it.
LAPSED_FOR = 1.0
#: Where at least this many lapsed together, they are shown as ``degraded`` instead of ``down`` …
MANY = 3
#: … for this many seconds: an agent takes up to 10 s to leave a server that hangs, and what it
#: passes on waits as long.
IN_DOUBT = 12.0


@dataclass(frozen=True, slots=True)
class AdverseFinding:
    """A status that Consul's checks give an instance against its registrant's report, and since
    when; Consul does not store that time.

    ``quiet`` is the monotonic time from which it has been silent or unreachable; ``None`` if it is
    neither.
    """

    holder: str
    status: Status
    reason: str
    since: datetime
    last_seen: datetime
    quiet: float | None


@dataclass(slots=True)
class _Lapse:
    """The monotonic time from which a TTL has lapsed; whether those of most other instances lapsed
    together with it; whether these were at least :data:`MANY`."""

    since: float
    most: bool = False
    many: bool = False


class Joined(NamedTuple):
    """A service, the record of the same holder, and the instance that is made of both."""

    presence: Presence
    stored: StoredRecord
    instance: Instance

    @property
    def changed(self) -> int:
        """The Consul index of the last change."""
        return max(self.presence.index, self.stored.modified)


@dataclass(slots=True)
class WatchMemory:
    """What a store object keeps from one watch to the next, by id, so that a watch that is started
    again does not begin to count times anew: findings, and the last joined instances."""

    findings: dict[str, AdverseFinding] = field(default_factory=dict)
    joined: dict[str, Joined] = field(default_factory=dict)


class ConsulListing:
    """The list of one watch; complete once services and records have both been fed."""

    def __init__(self, prefix: str, skipped: SkippedKeys, memory: WatchMemory) -> None:
        self._prefix = prefix
        self._skipped = skipped
        self._memory = memory
        self._findings = memory.findings
        self._checks: Services = {}
        self._present: dict[str, list[Presence]] = {}
        # The same, without those that pass only because Consul was not told of their end.
        self._presences: dict[str, list[Presence]] = {}
        self._read: dict[ServicePlace, Presence] = {}
        # Key → hash of its value, record.
        self._entries: dict[str, tuple[int, StoredRecord | None]] = {}
        self._stored: dict[str, list[StoredRecord]] = {}
        self._unsettled: dict[str, float] = {}
        self._stray: set[str] = set()
        self._unread: set[str] = set()  # ids whose record is malformed, and in ``skipped``
        self._unreachable: dict[str, float] = {}
        self._lapsed: dict[str, _Lapse] = {}
        # (id, holder) → the monotonic time at which its session was first seen to have ended.
        self._ended: dict[tuple[str, str], float] = {}
        self._ghosts: set[tuple[str, str]] = set()  # those whose check passed after that
        #: The monotonic time at which the result of :meth:`instances` changes without new input.
        self.due = math.inf

    def feed_services(self, services: Services) -> None:
        """Takes the present services."""
        read: dict[ServicePlace, Presence] = {}
        presences: dict[str, list[Presence]] = {}
        for place, checks in services.items():
            known = self._read.get(place)
            if known is None or self._checks.get(place) != checks:
                try:
                    known = read_presence(place, checks)
                except (KeyError, TypeError, AttributeError) as error:
                    self._skipped.add(place.id, f"its checks are not Consul's: {error!r}")
                    continue
            read[place] = known
            presences.setdefault(place.id, []).append(known)
        self._checks, self._read, self._present = services, read, presences

    def feed_records(self, entries: Iterable[KVPair]) -> None:
        """Takes the present records."""
        present: dict[str, tuple[int, StoredRecord | None]] = {}
        stored: dict[str, list[StoredRecord]] = {}
        for entry in entries:
            value = hash(entry.raw)
            before, known = self._entries.get(entry.key, (None, None))
            if before != value:
                try:
                    known = read_entry(entry, self._prefix)
                    self._skipped.discard(entry.key)
                except ValueError as error:
                    known = None
                    self._skipped.add(entry.key, str(error))
            elif known is not None and known.modified != entry.modified:
                known = replace(
                    known, modified=entry.modified, guarded=entry.guarded, ended=entry.ended
                )
            present[entry.key] = value, known
            if known is not None:
                stored.setdefault(known.record.id, []).append(known)
        for key in self._entries.keys() - present.keys():
            self._skipped.discard(key)
        self._entries, self._stored = present, stored
        self._unread = {key.rpartition("/")[2] for key, (_, one) in present.items() if one is None}

    def halves(self) -> tuple[list[StoredRecord], list[Presence]]:
        """The present records and services, whether they belong together or not."""
        return [*chain.from_iterable(self._stored.values())], [
            *chain.from_iterable(self._present.values())
        ]

    def has(self, id: str) -> tuple[bool, bool]:
        """Whether there is a service, and whether there is a record of ``id``."""
        return id in self._present, id in self._stored or id in self._unread

    def instances(self) -> dict[str, Instance]:
        """All instances, in the order of their last change."""
        now = time.monotonic()
        self.due = math.inf
        joined: dict[str, Joined] = {}
        unsettled: dict[str, float] = {}
        stray: set[str] = set()
        self._note_ended(now)
        self._note_unreachable(now)
        self._note_lapsed(now)
        for id, presences in self._presences.items():
            if (known := self._unchanged(id, presences)) is not None:
                joined[id] = known
                continue
            pair = self._pair(id, presences)
            if pair is None or not pair[0].started:
                began = unsettled[id] = self._unsettled.get(id, now)
                if now < began + GRACE:
                    self.due = min(self.due, began + GRACE)
                    previous = self._memory.joined.get(id)
                    # During a change of holder or a restart it is listed as it was before.
                    if previous is not None and id in self._stored:
                        joined[id] = previous
                    continue
            if pair is None:
                if id not in self._stored and id in self._unread:
                    continue
                lacks = "a record of the same holder" if id in self._stored else "a record"
                self._skipped.add(id, f"is a Consul service without {lacks} in {self._prefix}")
                stray.add(id)
                continue
            presence, stored = self._settled(id, pair[0], now), pair[1]
            health = self._health(id, presence, stored, now)
            if health is None:
                continue
            instance = Instance(stored.record, health, stored.lease, presence.load)
            previous = self._memory.joined.get(id)
            if previous is not None and previous.instance == instance:
                instance = previous.instance
            joined[id] = Joined(presence, stored, instance)
        for id in self._stray - stray:
            self._skipped.discard(id)
        for id in self._findings.keys() - self._presences.keys():
            del self._findings[id]
        self._memory.joined, self._unsettled, self._stray = joined, unsettled, stray
        ordered = sorted(joined, key=lambda id: (joined[id].changed, id))
        return {id: joined[id].instance for id in ordered}

    def _unchanged(self, id: str, presences: list[Presence]) -> Joined | None:
        """What was joined last, if neither service nor record has been parsed again since and no
        check contradicts its registrant: so for all instances but those that have just changed."""
        known = self._memory.joined.get(id)
        stored = self._stored.get(id, ())
        if known is None or len(presences) != 1 or len(stored) != 1 or id in self._findings:
            return None
        presence = presences[0]
        same = known.presence is presence and known.stored is stored[0]
        well = presence.alive and presence.started and not presence.others
        return known if same and well else None

    def ghosts(self) -> list[tuple[ServicePlace, Check]]:
        """The heartbeat checks that pass though the sessions of their holders have ended beyond
        doubt, and their places."""
        now = time.monotonic()
        return [
            (presence.place, check)
            for id, holder in self._ghosts
            if self._in_doubt_until(id) <= now
            for presence in self._present.get(id, ())
            if presence.passing and presence.holder == holder
            for check in self._checks[presence.place]
            if check["CheckID"] == heartbeat_check(id)
        ]

    def _note_ended(self, now: float) -> None:
        ended = [
            (id, each.lease.holder.id)
            for id, stored in self._stored.items()
            for each in stored
            if each.ended
        ]
        self._ended = {holder: self._ended.get(holder, now) for holder in ended}
        self._presences, ghosts = self._present, set()
        for (id, holder), since in self._ended.items():
            found = self._present.get(id, [])
            if now < since + ENDED_FOR:
                self.due = min(self.due, since + ENDED_FOR)
            elif any(each.passing and each.holder == holder for each in found):
                ghosts.add((id, holder))
                silent = [
                    replace(each, passing=False) if each.holder == holder else each
                    for each in found
                ]
                self._presences = {**self._presences, id: silent}
        self._ghosts = ghosts | (self._ghosts & self._ended.keys())

    def _note_unreachable(self, now: float) -> None:
        presences = chain.from_iterable(self._presences.values())
        nodes = {presence.place.node for presence in presences if presence.unreachable}
        self._unreachable = {node: self._unreachable.get(node, now) for node in nodes}

    def _note_lapsed(self, now: float) -> None:
        silent = {id for id, found in self._presences.items() if not any(p.passing for p in found)}
        joined = self._memory.joined
        self._lapsed = {
            id: self._lapsed.get(id) or _Lapse(now)
            for id in silent
            if id in self._lapsed or (id in joined and joined[id].presence.passing)
        }
        together = [
            lapse
            for id, lapse in self._lapsed.items()
            if id in joined
            and now - lapse.since - REPORTED_WITHIN
            <= joined[id].stored.lease.ttl / HEARTBEATS_PER_TTL
        ]
        beating = (joined.keys() & self._presences.keys()) - silent
        if len(together) > max(1, len(beating)):
            for lapse in together:
                lapse.most, lapse.many = True, lapse.many or len(together) >= MANY

    def _settled(self, id: str, presence: Presence, now: float) -> Presence:
        """``presence``, with a lapse or an unreachable node suppressed until it is certain."""
        previous = self._memory.joined.get(id)
        if previous is None:
            return presence
        if presence.unreachable and not previous.presence.unreachable:
            sure = self._unreachable[presence.place.node] + UNREACHABLE_FOR
            if now < sure:
                self.due = min(self.due, sure)
                presence = replace(presence, unreachable=False)
        if id in self._lapsed and self._lapsed[id].most and previous.presence.passing:
            sure = self._lapsed[id].since + LAPSED_FOR
            if now < sure:
                self.due = min(self.due, sure)
                presence = replace(presence, passing=True)
        return presence

    def _pair(self, id: str, presences: list[Presence]) -> tuple[Presence, StoredRecord] | None:
        """A service and a record with the same holder; of several such pairs the present one.

        There are several while an earlier holder's service on another node, or a record under a
        former name of the server, has not been removed.
        """
        pairs = [
            (presence, stored)
            for presence in presences
            for stored in self._stored.get(id, ())
            if presence.holder == stored.lease.holder.id
        ]

        def rank(pair: tuple[Presence, StoredRecord]) -> tuple[bool, bool, int, int]:
            presence, stored = pair
            named = presence.server == stored.record.name
            return presence.alive, named, presence.index, stored.modified

        return max(pairs, key=rank, default=None)

    def _health(
        self, id: str, presence: Presence, stored: StoredRecord, now: float
    ) -> Health | None:
        """Its health; ``None`` when it has been silent for ``reap_after`` and is to be removed."""
        lease = stored.lease
        against = verdict(presence) if presence.passing else self._silent(id, lease, now)
        # A check becomes critical one TTL after the last renewal.
        lapsed_for = 0.0 if presence.passing else lease.ttl
        if against is None:
            self._findings.pop(id, None)
            return presence.own
        finding = self._find(id, lease.holder.id, against, -lapsed_for)
        quiet = None if presence.alive else (now if finding.quiet is None else finding.quiet)
        self._findings[id] = finding = replace(finding, quiet=quiet)
        if quiet is not None:
            over = quiet + lease.reap_after - lapsed_for
            if now >= over:
                return None
            self.due = min(self.due, over)
        return Health(finding.status, finding.reason, finding.since, finding.last_seen)

    def _silent(self, id: str, lease: Lease, now: float) -> tuple[Status, str]:
        reason = silent_for(lease.ttl)
        if (until := self._in_doubt_until(id)) > now:
            self.due = min(self.due, until)
            return Status.DEGRADED, f"{reason}, nor from most others: its store may be at fault"
        if (id, lease.holder.id) in self._ghosts:
            reason = f"{reason}: its session in Consul has ended"
        return Status.DOWN, reason

    def _in_doubt_until(self, id: str) -> float:
        """The monotonic time until which a lapse may be the store's fault."""
        lapse = self._lapsed.get(id)
        return lapse.since + IN_DOUBT if lapse is not None and lapse.many else -math.inf

    def _find(
        self, id: str, holder: str, against: tuple[Status, str], heard: float
    ) -> AdverseFinding:
        status, reason = against
        known = self._findings.get(id)
        if known is not None and known.holder == holder:
            if (known.status, known.reason) == against:
                return known
            since = known.since if known.status is status else utcnow()
            return replace(known, status=status, reason=reason, since=since)
        # If it was down already, it has been down since then.
        now = utcnow()
        previous = self._memory.joined.get(id)
        since = now
        if previous is not None and previous.instance.health.status is status:
            since = previous.instance.health.since
        return AdverseFinding(holder, status, reason, since, now + timedelta(seconds=heard), None)

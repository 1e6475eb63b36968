"""Joins what Consul's services say and what the records say into the list of instances.

Pure: it is fed answers and asked for the list. Only what changed is read again, so that an answer
about a thousand instances costs one comparison for each and one parse for the one that changed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from mcp_discovery.adapters.consul.checks import Check, Place, Presence, read_presence, verdict
from mcp_discovery.adapters.consul.kv import Entry
from mcp_discovery.adapters.consul.services import Services
from mcp_discovery.adapters.skipped import Skipped
from mcp_discovery.errors import InvalidRecordError
from mcp_discovery.health import Health, Status, silent_for, utcnow
from mcp_discovery.instance import Instance, Lease, decode_registration
from mcp_discovery.record import Record

#: Seconds that what does not fit together yet may stay so: a registration is several writes, and
#: the two queries answer one after the other.
GRACE = 3.0
#: Seconds for which a node has to be unreachable before its instances are. When servers that were
#: cut off from each other meet again, they call nodes failed that are not, for some milliseconds.
UNREACHABLE_FOR = 0.5
#: An agent whose servers hang holds back heartbeats, lets them lapse, all of them, and lets them
#: through later. Sidecars beat at least this often in a TTL, so what one stall makes lapse does so
#: over that part of it, and a second on top for what is told late.
BEATS_IN_TTL = 3
TOLD_WITHIN = 1.0
#: Heartbeats that lapse together with most others have to be missing for so many seconds before it
#: is said …
LAPSED_FOR = 1.0
#: … and where they are this many or more, those instances are not taken for down, but for degraded,
#: until so many seconds have passed.
MANY = 3
IN_DOUBT = 6.0


@dataclass(frozen=True, slots=True)
class Stored:
    """A record in KV with its lease, its key and the index of its last write."""

    key: str
    record: Record
    lease: Lease
    modified: int


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found against an instance, and since when; Consul keeps no such moments.

    ``quiet`` is the monotonic second from which it has not been heard of, for one that is silent
    or unreachable.
    """

    holder: str
    status: Status
    reason: str
    since: datetime
    last_seen: datetime
    quiet: float | None


@dataclass(slots=True)
class _Lapse:
    """Since when one that was heard is silent, whether most others fell silent with it, and whether
    they are :data:`MANY`."""

    since: float
    most: bool = False
    many: bool = False


@dataclass(slots=True)
class Memory:
    """What one store object remembers from one of its watches to the next, by id, so that one
    which starts over does not count from zero: findings, and who was last joined with what."""

    findings: dict[str, Finding] = field(default_factory=dict)
    joined: dict[str, tuple[Presence, Stored, Instance]] = field(default_factory=dict)


class Listing:
    """The list of one watch. :meth:`instances` is whole once both feeds have been fed."""

    def __init__(self, prefix: str, skipped: Skipped, memory: Memory) -> None:
        self._prefix = prefix
        self._skipped = skipped
        self._memory = memory
        self._findings = memory.findings
        self._checks: Services = {}
        self._presences: dict[str, list[Presence]] = {}
        self._read: dict[Place, Presence] = {}
        self._entries: dict[str, tuple[int, Stored | None]] = {}  # key → hash of its value, record
        self._stored: dict[str, list[Stored]] = {}
        self._unsettled: dict[str, float] = {}
        self._stray: set[str] = set()
        self._unread: set[str] = set()  # ids whose record was skipped, and said to be
        self._unreachable: dict[str, float] = {}
        self._lapsed: dict[str, _Lapse] = {}
        #: The monotonic second at which :meth:`instances` would answer otherwise by itself.
        self.due = math.inf

    def feed_services(self, services: Services) -> None:
        """Takes in the services as they are now."""
        read: dict[Place, Presence] = {}
        presences: dict[str, list[Presence]] = {}
        for place, checks in services.items():
            known = self._read.get(place)
            if known is None or self._checks.get(place) != checks:
                known = self._presence(place, checks)
                if known is None:
                    continue
            read[place] = known
            presences.setdefault(place.id, []).append(known)
        self._checks, self._read, self._presences = services, read, presences

    def _presence(self, place: Place, checks: Sequence[Check]) -> Presence | None:
        try:
            return read_presence(place, checks)
        except (KeyError, TypeError, AttributeError) as error:
            self._skipped.add(place.id, f"its checks are not Consul's: {error!r}")
            return None

    def feed_records(self, entries: Iterable[Entry]) -> None:
        """Takes in the records as they are now."""
        kept: dict[str, tuple[int, Stored | None]] = {}
        stored: dict[str, list[Stored]] = {}
        for entry in entries:
            value = hash(entry.raw)
            before, known = self._entries.get(entry.key, (None, None))
            if before != value:
                known = self._parse(entry)
            elif known is not None and known.modified != entry.modified:
                known = replace(known, modified=entry.modified)
            kept[entry.key] = value, known
            if known is not None:
                stored.setdefault(known.record.id, []).append(known)
        for key in self._entries.keys() - kept.keys():
            self._skipped.discard(key)
        self._entries, self._stored = kept, stored
        self._unread = {key.rpartition("/")[2] for key, (_, one) in kept.items() if one is None}

    def _parse(self, entry: Entry) -> Stored | None:
        try:
            stored = read_entry(entry, self._prefix)
        except (InvalidRecordError, ValueError) as error:
            self._skipped.add(entry.key, str(error))
            return None
        self._skipped.discard(entry.key)
        return stored

    def instances(self) -> dict[str, Instance]:
        """All instances, in the order of their last change."""
        now = time.monotonic()
        self.due = math.inf
        found: list[tuple[int, str, Instance]] = []
        joined: dict[str, tuple[Presence, Stored, Instance]] = {}
        unsettled: dict[str, float] = {}
        stray: set[str] = set()
        self._note_unreachable(now)
        self._note_lapsed(now)
        for id, presences in self._presences.items():
            if (known := self._unchanged(id, presences)) is not None:
                joined[id] = known
                found.append((max(known[0].index, known[1].modified), id, known[2]))
                continue
            pair = self._pair(id, presences)
            if pair is None or not pair[0].started:
                began = unsettled[id] = self._unsettled.get(id, now)
                if now < began + GRACE:
                    self.due = min(self.due, began + GRACE)
                    previous = self._memory.joined.get(id)
                    # What is between two holders, or restarts, stays as it was for that long.
                    if previous is not None and id in self._stored:
                        joined[id] = previous
                        found.append((previous[0].index, id, previous[2]))
                    continue
            if pair is None and id not in self._stored and id in self._unread:
                continue
            if pair is None:
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
            if previous is not None and previous[2].same_as(instance):
                instance = previous[2]
            joined[id] = presence, stored, instance
            found.append((max(presence.index, stored.modified), id, instance))
        for id in self._stray - stray:
            self._skipped.discard(id)
        for id in self._findings.keys() - self._presences.keys():
            del self._findings[id]
        self._memory.joined, self._unsettled, self._stray = joined, unsettled, stray
        return {id: instance for _, id, instance in sorted(found, key=lambda item: item[:2])}

    def _unchanged(
        self, id: str, presences: list[Presence]
    ) -> tuple[Presence, Stored, Instance] | None:
        """What was joined last, where it is all there is, and nothing is said against it.

        That is all of a list but those that have just changed. A presence or a record that is
        read anew is another object.
        """
        known = self._memory.joined.get(id)
        stored = self._stored.get(id, ())
        if known is None or len(presences) != 1 or len(stored) != 1 or id in self._findings:
            return None
        presence = presences[0]
        same = known[0] is presence and known[1] is stored[0]
        well = presence.alive and presence.started and not presence.others
        return known if same and well else None

    def _note_unreachable(self, now: float) -> None:
        nodes = {
            presence.place.node
            for presences in self._presences.values()
            for presence in presences
            if presence.unreachable
        }
        self._unreachable = {node: self._unreachable.get(node, now) for node in nodes}

    def _note_lapsed(self, now: float) -> None:
        """Who is silent and was heard before, and who of them fell silent with most others."""
        silent = {
            id
            for id, presences in self._presences.items()
            if not any(presence.beats for presence in presences)
        }
        joined = self._memory.joined
        self._lapsed = {
            id: self._lapsed.get(id) or _Lapse(now)
            for id in silent
            if id in self._lapsed or (id in joined and joined[id][0].beats)
        }
        together = [
            lapse
            for id, lapse in self._lapsed.items()
            if id in joined
            and now <= lapse.since + joined[id][1].lease.ttl / BEATS_IN_TTL + TOLD_WITHIN
        ]
        beating = (joined.keys() & self._presences.keys()) - silent
        if len(together) > max(1, len(beating)):
            for lapse in together:
                lapse.most, lapse.many = True, lapse.many or len(together) >= MANY

    def _settled(self, id: str, presence: Presence, now: float) -> Presence:
        """``presence``; one that was heard and reachable stays so until it surely is not."""
        previous = self._memory.joined.get(id)
        if previous is None:
            return presence
        if presence.unreachable and not previous[0].unreachable:
            sure = self._unreachable[presence.place.node] + UNREACHABLE_FOR
            if now < sure:
                self.due = min(self.due, sure)
                presence = replace(presence, unreachable=False)
        if id in self._lapsed and self._lapsed[id].most and previous[0].beats:
            sure = self._lapsed[id].since + LAPSED_FOR
            if now < sure:
                self.due = min(self.due, sure)
                presence = replace(presence, beats=True)
        return presence

    def _pair(self, id: str, presences: list[Presence]) -> tuple[Presence, Stored] | None:
        """The service and the record that belong together: they name the same holder.

        There can be several: an entry that an earlier holder left on another node, a record under
        a name that the server had before.
        """
        pairs = [
            (presence, stored)
            for presence in presences
            for stored in self._stored.get(id, ())
            if presence.holder == stored.lease.holder.id
        ]
        if not pairs:
            return None
        return max(
            pairs,
            key=lambda pair: (
                pair[0].alive,
                pair[0].server == pair[1].record.name,
                pair[0].index,
                pair[1].modified,
            ),
        )

    def _health(self, id: str, presence: Presence, stored: Stored, now: float) -> Health | None:
        """Its health; ``None`` when it has been quiet for so long that it is gone."""
        lease = stored.lease
        if not presence.beats:
            against: tuple[Status, str] | None = self._silent(id, lease, now)
            # Consul noticed the silence one TTL after the last heartbeat.
            patience, heard = lease.reap_after - lease.ttl, -lease.ttl
        else:
            against = verdict(presence)
            patience, heard = lease.reap_after, 0.0
        if against is None:
            self._findings.pop(id, None)
            return presence.own
        finding = self._find(id, lease.holder.id, against, heard)
        if presence.alive:
            finding = replace(finding, quiet=None)
        elif finding.quiet is None:
            finding = replace(finding, quiet=now)
        self._findings[id] = finding
        if finding.quiet is not None:
            if now >= finding.quiet + patience:
                return None
            self.due = min(self.due, finding.quiet + patience)
        return Health(finding.status, finding.reason, finding.since, finding.last_seen)

    def _silent(self, id: str, lease: Lease, now: float) -> tuple[Status, str]:
        """What silence says against an instance."""
        reason = silent_for(lease.ttl)
        lapse = self._lapsed.get(id)
        if lapse is None or not lapse.many or now >= lapse.since + IN_DOUBT:
            return Status.DOWN, reason
        self.due = min(self.due, lapse.since + IN_DOUBT)
        return Status.DEGRADED, f"{reason}, nor from most others: its store may be at fault"

    def _find(self, id: str, holder: str, against: tuple[Status, str], heard: float) -> Finding:
        status, reason = against
        known = self._findings.get(id)
        if known is not None and known.holder == holder:
            if (known.status, known.reason) == against:
                return known
            since = known.since if known.status is status else utcnow()
            return replace(known, status=status, reason=reason, since=since)
        # Silent or unreachable, it stays in the state it was in if it was down already.
        now = utcnow()
        previous = self._memory.joined.get(id)
        since = now
        if previous is not None and previous[2].health.status is status:
            since = previous[2].health.since
        return Finding(holder, status, reason, since, now + timedelta(seconds=heard), None)


def read_entry(entry: Entry, prefix: str) -> Stored:
    """The record in a KV entry below ``prefix``.

    Raises :class:`InvalidRecordError` or :class:`ValueError` for what is none.
    """
    name, slash, id = entry.key.removeprefix(prefix).partition("/")
    if not name or not slash or not id or "/" in id:
        raise InvalidRecordError("", f"the key is not {prefix}<name>/<id>")
    record, lease = decode_registration(entry.value)
    if (record.name, record.id) != (name, id):
        raise InvalidRecordError("", f"the record says it is {record.name}/{record.id}")
    return Stored(entry.key, record, lease, entry.modified)

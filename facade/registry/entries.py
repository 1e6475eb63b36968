"""One entry of the registry: a version of a server, whatever the number of its instances."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any

import orjson

from mcp_discovery.adapters.view import Entry
from mcp_discovery.facade.registry.addresses import Addresses, remote_type
from mcp_discovery.facade.registry.server_json import ServerJson
from mcp_discovery.health import Status, rfc3339

#: The registry's key for what it says itself: status, times and whether it is the latest version.
OFFICIAL = "io.modelcontextprotocol.registry/official"
#: Our key for how the server is right now.
LIVE = "io.github.mcp-discovery/live"

#: Name and version: what tells entries apart, and what they are sorted by.
Key = tuple[str, str]

#: Best first: a server is as well as the best of its instances.
RANK = {Status.HEALTHY: 0, Status.DEGRADED: 1, Status.DOWN: 2, Status.DRAINING: 3}


def seniority(entry: Entry) -> tuple[datetime, str]:
    """What the longest-registered instance is the least of."""
    return entry.record.registered_at, entry.id


@dataclass(frozen=True)
class Listed:
    """A version of a server with its instances, or the memory of one that is gone.

    ``updated`` is when what hosts are told changed, as far as records tell; ``noticed`` is when
    this facade knew. ``instances`` are none where it is ``deleted``.
    """

    key: Key
    server: ServerJson
    instances: tuple[Entry, ...]
    published: datetime
    updated: datetime
    noticed: datetime
    status_changed: datetime
    is_latest: bool = True
    deleted: bool = False

    def gone(self, at: datetime) -> Listed:
        """The same entry when its last instance has left."""
        told = max(at, self.updated)
        return replace(
            self, instances=(), deleted=True, status_changed=told, updated=told, noticed=at
        )

    @cached_property
    def digest(self) -> bytes:
        """Stands for all that :meth:`json` says but ``lastSeen``: 12 bytes."""
        return hashlib.blake2b(self._start, digest_size=12).digest()

    def json(self, now: datetime) -> bytes:
        """The entry as one JSON object, as of ``now``."""
        if self.deleted:
            return self._start
        seen = max(each.last_seen(now) for each in self.instances)
        return self._start + rfc3339(seen).encode() + b'"}}}'

    @cached_property
    def _start(self) -> bytes:
        """All of it, up to the value of ``lastSeen`` where there is one."""
        official = orjson.dumps(
            {
                "status": "deleted" if self.deleted else "active",
                "statusChangedAt": rfc3339(self.status_changed),
                "publishedAt": rfc3339(self.published),
                "updatedAt": rfc3339(self.updated),
                "isLatest": self.is_latest,
            }
        )
        start = b'{"server":%b,"_meta":{"%b":%b' % (self.server.data, OFFICIAL.encode(), official)
        if self.deleted:
            return start + b"}}"
        live = orjson.dumps(_live(self.instances))
        return start + b',"%b":%b,"lastSeen":"' % (LIVE.encode(), live[:-1])


def _live(instances: tuple[Entry, ...]) -> dict[str, Any]:
    """How a server is: as well as the best of its instances, and how many there are of each kind.

    ``reason`` is that of the longest-registered of the best; ``since`` is when the first of them
    came to be so.
    """
    best = min((each.health.status for each in instances), key=RANK.__getitem__)
    so = sorted((each for each in instances if each.health.status is best), key=seniority)
    counts = Counter(each.health.status for each in instances)
    live: dict[str, Any] = {
        "status": best.value,
        "reason": so[0].health.reason,
        "since": rfc3339(min(each.health.since for each in so)),
        "instances": {status.value: counts[status] for status in Status},
        "tags": sorted({tag for each in instances for tag in each.record.tags}),
    }
    if zones := sorted({each.record.zone for each in instances if each.record.zone}):
        live["zones"] = zones
    return live


def renewed(
    key: Key,
    instances: tuple[Entry, ...],
    old: Listed | None,
    addresses: Addresses,
    at: datetime,
    *,
    first: bool,
) -> Listed | None:
    """The entry at ``key`` with these instances, where ``old`` was before; ``at`` is now.

    ``first`` says that this facade has just begun: what it sees then is as old as records say.
    ``None`` where there is nothing to list, and never was. An entry whose instances all drain is
    deleted; one whose instances are all down is listed as that.
    """
    fit = [each for each in instances if each.health.status is not Status.DRAINING]
    if not fit:
        return old if old is None or old.deleted else old.gone(at)
    eldest = min(fit, key=seniority).record
    server = ServerJson(eldest, _speaker(fit, old), addresses)
    published = eldest.registered_at
    if old is None:
        updated = max(published, eldest.started_at or published)
        noticed = updated if first else at
        return Listed(key, server, instances, published, updated, noticed, published)
    if not old.deleted and server.says_the_same(old.server):
        return replace(old, instances=instances, published=min(old.published, published))
    # A registration that is younger than what was told is what was done: all facades know its time.
    told = published if published > old.updated else max(at, old.updated)
    return replace(
        old,
        server=server,
        instances=instances,
        published=min(old.published, published),
        updated=told,
        noticed=at,
        status_changed=told if old.deleted else old.status_changed,
        deleted=False,
    )


def _speaker(fit: Iterable[Entry], old: Listed | None) -> Entry:
    """The instance whose address is published: the same for as long as it is not down.

    Then the longest-registered of those that are best; one that is down only where all are.
    """
    there = {each.id: each for each in fit}
    best = min(there.values(), key=_fitness)
    held = there.get(old.server.speaker.id) if old is not None else None
    if held is None or remote_type(held.record) is None:
        return best
    if held.health.status is Status.DOWN and best.health.status is not Status.DOWN:
        return best
    return held


def _fitness(entry: Entry) -> tuple[bool, int, tuple[datetime, str]]:
    return remote_type(entry.record) is None, RANK[entry.health.status], seniority(entry)

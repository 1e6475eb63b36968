"""One entry of the registry: a version of a server, whatever the number of its instances."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any

import orjson

from mcp_discovery.adapters.view import Entry
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

"""An entry of the registry: one version of a server, made of all its instances."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any

import orjson

from mcp_discovery import vouching
from mcp_discovery.adapters.view import Entry
from mcp_discovery.facade.registry.server_json import (
    Addresses,
    ServerJson,
    remote_type,
    shortened,
)
from mcp_discovery.health import Status, rfc3339

#: The registry's key for what it says itself: status, times and whether it is the latest version.
OFFICIAL = "io.modelcontextprotocol.registry/official"
#: This project's key for the server's current health.
LIVE = "io.github.mcp-discovery/live"

#: Name and version: the identity and the sort key of an entry.
Key = tuple[str, str]

#: The statuses, best first: a server's status is that of its best instance.
RANK = {
    Status.HEALTHY: 0,
    Status.DEGRADED: 1,
    Status.DOWN: 2,
    Status.DRAINING: 3,
    Status.QUARANTINED: 4,
}
#: The statuses of instances for which nothing is published.
_NOT_FIT = (Status.DRAINING, Status.QUARANTINED)
#: The registry's limit, in characters.
_MAX_MESSAGE = 500


def seniority(entry: Entry) -> tuple[bool, datetime, str]:
    """The sort key by which the longest-registered instance is first, of those that are vouched
    for."""
    return vouching.seniority(entry.instance)


@dataclass(frozen=True)
class ServerVersion:
    """A version of a server with its instances; a ``deleted`` one has no instances any more.

    ``message`` is why it is deleted. ``updated`` is when the published content changed, as far as
    the records tell; ``seen_at`` is when this facade saw the change.
    """

    key: Key
    server: ServerJson
    instances: tuple[Entry, ...]
    published: datetime
    updated: datetime
    seen_at: datetime
    status_changed: datetime
    is_latest: bool = True
    deleted: bool = False
    message: str = ""

    @cached_property
    def digest(self) -> bytes:
        """12 bytes that change when anything in :meth:`json` but ``lastSeen`` changes."""
        return hashlib.blake2b(self._start, digest_size=12).digest()

    def json(self, now: datetime) -> bytes:
        """The entry as one JSON object, as of ``now``."""
        if self.deleted:
            return self._start
        seen = max(each.last_seen(now) for each in self.instances)
        return self._start + rfc3339(seen).encode() + b'"}}}'

    @cached_property
    def _start(self) -> bytes:
        """The JSON up to the value of ``lastSeen``; the whole of it where the entry is deleted."""
        message = self.message if self.deleted else _message(self.instances)
        official = orjson.dumps(
            {
                "status": "deleted" if self.deleted else "active",
                **({"statusMessage": message} if message else {}),
                "statusChangedAt": rfc3339(self.status_changed),
                "publishedAt": rfc3339(self.published),
                "updatedAt": rfc3339(self.updated),
                "isLatest": self.is_latest,
            }
        )
        start = b'{"server":%b,"_meta":{"%b":%b' % (self.server.data, OFFICIAL.encode(), official)
        if self.deleted:
            return start + b"}}"
        live = orjson.dumps(live_state(self.instances))
        return start + b',"%b":%b,"lastSeen":"' % (LIVE.encode(), live[:-1])


def live_state(instances: tuple[Entry, ...]) -> dict[str, Any]:
    """The server's current health: that of its best instances, and how many have which status.

    ``reason`` is that of the longest-registered of the best; ``since`` is the earliest of theirs.
    """
    bests = _bests(instances)
    best = bests[0].health.status
    counts = Counter(each.health.status for each in instances)
    live: dict[str, Any] = {
        "status": best.value,
        "reason": bests[0].health.reason,
        "since": rfc3339(min(each.health.since for each in bests)),
        "instances": {status.value: counts[status] for status in Status},
        "tags": sorted({tag for each in instances for tag in each.record.tags}),
    }
    if zones := sorted({each.record.zone for each in instances if each.record.zone}):
        live["zones"] = zones
    return live


def _bests(instances: tuple[Entry, ...]) -> list[Entry]:
    """Those in the best health, the longest-registered first."""
    best = min((each.health.status for each in instances), key=RANK.__getitem__)
    return sorted((each for each in instances if each.health.status is best), key=seniority)


def _message(instances: tuple[Entry, ...]) -> str:
    """How the best of them is, and why, unless it is well."""
    health = _bests(instances)[0].health
    if health.status is Status.HEALTHY:
        return ""
    return shortened(f"{health.status.value}: {health.reason}", _MAX_MESSAGE)


def updated_version(
    key: Key,
    instances: tuple[Entry, ...],
    old: ServerVersion | None,
    addresses: Addresses,
    at: datetime,
    *,
    first: bool,
) -> ServerVersion | None:
    """The entry at ``key`` with these instances, where ``old`` was before; ``at`` is now.

    ``first`` says that this facade has just started: entries are then as old as their records say.
    ``None`` where there is nothing to list, and never was. An entry whose instances all drain, or
    are quarantined, is deleted; one whose instances are all down is listed with that status.
    """
    fit = [each for each in instances if each.health.status not in _NOT_FIT]
    if not fit:
        if old is None or old.deleted:
            return old
        gone = max(at, old.updated)
        why = _message(instances) if instances else "no instance of it is registered any more"
        old = replace(old, instances=(), status_changed=gone, updated=gone, seen_at=at)
        return replace(old, deleted=True, message=why)
    eldest = min(fit, key=seniority).record
    server = ServerJson(eldest, _representative(fit, old), addresses)
    published = eldest.registered_at
    if old is None:
        updated = max(published, eldest.started_at or published)
        seen_at = updated if first else at
        return ServerVersion(key, server, instances, published, updated, seen_at, published)
    if not old.deleted and server.same_content(old.server):
        return replace(old, instances=instances, published=min(old.published, published))
    # A registration younger than the last change is the cause of this one; every facade knows its
    # time, so that all of them publish the same.
    changed = published if published > old.updated else max(at, old.updated)
    return replace(
        old,
        server=server,
        instances=instances,
        published=min(old.published, published),
        updated=changed,
        seen_at=at,
        status_changed=changed if old.deleted else old.status_changed,
        deleted=False,
        message="",
    )


def _representative(fit: Iterable[Entry], old: ServerVersion | None) -> Entry:
    """The instance whose address is published: the same one for as long as it is not down.

    After that the longest-registered of the best; one that is down only where all are.
    """
    by_id = {each.id: each for each in fit}
    best = min(by_id.values(), key=_preference)
    held = by_id.get(old.server.representative.id) if old is not None else None
    if held is None or remote_type(held.record) is None:
        return best
    if held.health.status is Status.DOWN and best.health.status is not Status.DOWN:
        return best
    return held


def _preference(entry: Entry) -> tuple[bool, int, tuple[bool, datetime, str]]:
    return remote_type(entry.record) is None, RANK[entry.health.status], seniority(entry)

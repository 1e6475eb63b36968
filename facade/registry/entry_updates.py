"""What becomes of an entry when the instances of its server change."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from mcp_discovery.adapters.view import Entry
from mcp_discovery.facade.registry.addresses import Addresses, remote_type
from mcp_discovery.facade.registry.entries import RANK, Key, Listed, seniority
from mcp_discovery.facade.registry.server_json import ServerJson
from mcp_discovery.health import Status


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

"""How much an instance counts among others of its name: by who vouches for it.

A sidecar vouches for its server, a caller that is known for what it registers, and a facade for
what answered its probes. What somebody registered over HTTP without saying who it is only claims to
be: it stands behind the others until a probe has found its server, and neither its weight nor its
number outvotes those that were there before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from mcp_discovery.instance import Instance


class Voice(NamedTuple):
    """What some instances that agree count for, as a sort key: first how many of them are of known
    registrants, less than 0, then the :func:`seniority` of the first of them."""

    known: int
    eldest: tuple[bool, datetime, str]


#: The voice of no instance.
NOBODY = Voice(0, (True, datetime.max.replace(tzinfo=UTC), ""))


def is_vouched_for(instance: Instance) -> bool:
    """Whether a registrant that is known, or a probe, stands behind it."""
    holder = instance.lease.holder
    return not holder.claims or holder.probed


def seniority(instance: Instance) -> tuple[bool, datetime, str]:
    """The sort key by which those that are vouched for are first, and of them the eldest."""
    return not is_vouched_for(instance), instance.record.registered_at, instance.id


def weights(instances: Iterable[Instance]) -> Mapping[str, int]:
    """What each counts for among the replicas of one server, by its id.

    It is the weight of its record; of one that anybody may have registered, at most that of all
    together that were there before it.
    """
    found: dict[str, int] = {}
    before = 0
    for each in sorted(instances, key=seniority):
        weight = each.record.weight
        if each.lease.holder.claims and before:
            weight = min(weight, before)
        found[each.id] = weight
        before += weight
    return found


def voice(instance: Instance) -> Voice:
    """The voice of one instance."""
    return Voice(-(not instance.lease.holder.claims), seniority(instance))


def together(voices: Iterable[Voice]) -> Voice:
    """The voice of all who agree; that of those that count most is the least."""
    known, eldest = 0, NOBODY.eldest
    for each in voices:
        known += each.known
        eldest = min(eldest, each.eldest)
    return Voice(known, eldest)

"""Reading and writing Consul's checks: an instance's heartbeat, its health, its node, maintenance.

Each instance has two checks of its own. ``mcp:<id>`` is the heartbeat: a TTL check that passes
while the registrant renews it and that Consul turns critical otherwise. ``mcp-health:<id>`` carries
the health that the registrant reports. There are two because an agent sends a change of status to
its servers at once, but delays a change of output alone by ``check_update_interval`` (5 minutes by
default): with one check, the end of an instance that is critical already would show minutes late.
Besides, an instance that its registrant reports as ``down`` must not be removed by Consul.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from mcp_discovery.adapters.dns_names import server_in
from mcp_discovery.health import Health, Load, Status, rfc3339, unreachable
from mcp_discovery.instance import load_from_dict, load_to_dict
from mcp_discovery.record import parse_moment

#: A check as a JSON object of Consul's API.
Check = Mapping[str, Any]

#: The fields of a check that :func:`read_presence` reads.
READ = ("CheckID", "Status", "Output", "Notes", "Name", "ServiceTags", "ModifyIndex")

PASSING, WARNING, CRITICAL = "passing", "warning", "critical"

_STATUS = {
    Status.HEALTHY: PASSING,
    Status.DEGRADED: WARNING,
    Status.DRAINING: CRITICAL,
    Status.DOWN: CRITICAL,
    Status.QUARANTINED: CRITICAL,
}
_HOLDER = "held by "
_SERF = "serfHealth"
#: The words before the last output in the output of a TTL check that has lapsed.
_QUOTED = "last output before timeout follows"
_MAINTENANCE = ("_node_maintenance", "_service_maintenance:")


class ServicePlace(NamedTuple):
    """The node on which a service is registered, and its id there."""

    node: str
    id: str


def heartbeat_check(id: str) -> str:
    """The id of an instance's heartbeat check."""
    return f"mcp:{id}"


def health_check(id: str) -> str:
    """The id of an instance's health check."""
    return f"mcp-health:{id}"


def heartbeat_output(holder: str) -> str:
    """The output of the heartbeat check after a renewal by ``holder``.

    It is constant, so that a renewal moves no index. It names the holder because a service that is
    registered again keeps the state in which the former holder left its checks.
    """
    return f"heartbeats of {holder} arrive"


def holder_notes(holder: str) -> str:
    """The notes of a heartbeat check, which name the holder."""
    return _HOLDER + holder


def holder_in(check: Check | None) -> str | None:
    """The id of the holder that a heartbeat check's notes name."""
    notes = check.get("Notes") if check is not None else None
    if not isinstance(notes, str) or not notes.startswith(_HOLDER):
        return None
    return notes.removeprefix(_HOLDER)


def to_check(health: Health, load: Load | None, holder: str) -> tuple[str, str]:
    """Status and output of the health check. The output is the reason and then a line of JSON."""
    facts: dict[str, Any] = {
        "status": health.status.value,
        "since": rfc3339(health.since),
        "holder": holder,
    }
    if load is not None:
        facts["load"] = load_to_dict(load)
    return _STATUS[health.status], f"{health.reason}\n{orjson.dumps(facts).decode()}"


def from_check(check: Check, holder: str | None) -> tuple[Health, Load | None] | None:
    """Reads what :func:`to_check` wrote for ``holder``; ``None`` where it is anything else."""
    reason, line, text = _text(check.get("Output")).rpartition("\n")
    if not line:
        return None
    try:
        facts = orjson.loads(text)
        health = Health(Status(_text(facts["status"])), reason[:500], parse_moment(facts["since"]))
    except (ValueError, KeyError, TypeError):
        return None
    if _STATUS[health.status] != check.get("Status") or facts.get("holder") != holder:
        return None
    return health, load_from_dict(facts.get("load"))


@dataclass(frozen=True, slots=True)
class Presence:
    """What the checks of one service instance say.

    ``passing``: the heartbeat check passes. ``began``: it has been set by the present holder.
    ``unreachable``: its node is. ``own`` and ``load`` are what the registrant reported. ``others``
    is what other checks say (maintenance mode, checks by operators), as status and reason.
    ``index`` is the Consul index of the last change to its own checks.
    """

    place: ServicePlace
    holder: str | None
    server: str | None
    passing: bool
    began: bool
    unreachable: bool
    own: Health | None
    load: Load | None
    others: tuple[tuple[Status, str], ...]
    index: int

    @property
    def started(self) -> bool:
        """Whether its registrant has reported a health; before that the checks mean nothing."""
        return self.began and self.own is not None

    @property
    def alive(self) -> bool:
        """Whether its holder renews it and its node is reachable, as far as Consul knows."""
        return self.passing and not self.unreachable


def read_presence(place: ServicePlace, checks: Sequence[Check]) -> Presence:
    """Reads the checks of the service at ``place`` and of its node.

    Missing or malformed fields raise :class:`KeyError` or :class:`TypeError`.
    """
    by_id = {check["CheckID"]: check for check in checks}
    heartbeat = by_id.pop(heartbeat_check(place.id), None)
    health = by_id.pop(health_check(place.id), None)
    serf = by_id.pop(_SERF, None)
    holder = holder_in(heartbeat)
    own = from_check(health, holder) if health is not None else None
    tags = (heartbeat.get("ServiceTags") or ()) if heartbeat is not None else ()
    others = [found for check in by_id.values() if (found := _other_check(check)) is not None]
    if own is None:
        others.append(_status_only(health))
    return Presence(
        place=place,
        holder=holder,
        server=server_in(tags[0]) if tags else None,
        passing=heartbeat is not None and heartbeat["Status"] == PASSING,
        began=heartbeat is not None and _began(heartbeat, holder),
        unreachable=serf is not None and serf["Status"] == CRITICAL,
        own=own[0] if own else None,
        load=own[1] if own else None,
        others=tuple(others),
        index=max((_index(c) for c in (heartbeat, health) if c is not None), default=0),
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _index(check: Check) -> int:
    index = check.get("ModifyIndex", 0)
    if not isinstance(index, int):
        raise TypeError(f"a ModifyIndex is a {type(index).__name__}")
    return index


def _began(heartbeat: Check, holder: str | None) -> bool:
    """Whether ``holder`` has ever renewed the check. Consul quotes the last output when the TTL
    lapses; a check that was never renewed has none."""
    output = _text(heartbeat["Output"])
    if not output:
        return False
    _, quoted, last = output.partition(_QUOTED)
    return not quoted or holder is None or heartbeat_output(holder) in last


def _status_only(health: Check | None) -> tuple[Status, str]:
    """What a health check means by its status alone: another program wrote it, or it was lost."""
    status = _text(health["Status"]) if health is not None else CRITICAL
    meaning = {PASSING: Status.HEALTHY, WARNING: Status.DEGRADED}.get(status, Status.DOWN)
    return meaning, f"its health check is {status if health is not None else 'missing'}"


def _other_check(check: Check) -> tuple[Status, str] | None:
    status, id = check["Status"], check["CheckID"]
    if status == PASSING:
        return None
    if id.startswith(_MAINTENANCE):
        why = _text(check["Notes"]) or "no reason given"
        return Status.DRAINING, f"maintenance mode: {why}"[:500]
    first = (_text(check["Output"]) or _text(check["Notes"])).strip().partition("\n")[0]
    reason = f"Consul check {_text(check['Name']) or id!r} is {_text(status)}"
    reason += f": {first}" if first else ""
    return (Status.DEGRADED if status == WARNING else Status.DOWN), reason[:500]


_WORST = [Status.QUARANTINED, Status.DOWN, Status.DRAINING, Status.DEGRADED, Status.HEALTHY]


def verdict(presence: Presence) -> tuple[Status, str] | None:
    """The worst status that the node and other checks give an instance whose heartbeats arrive, if
    it is worse than the one that its registrant reports; otherwise ``None``.
    """
    if presence.unreachable:
        return Status.DOWN, unreachable(presence.place.node)
    if not presence.others:
        return None
    status, reason = min(presence.others, key=lambda found: _WORST.index(found[0]))
    if presence.own is None or _WORST.index(status) < _WORST.index(presence.own.status):
        return status, reason
    return None

"""Health and Consul's checks, there and back."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_discovery.adapters.consul import checks
from mcp_discovery.adapters.consul.checks import ServicePlace, read_presence, to_check, verdict
from mcp_discovery.health import Health, Load, Status

HOLDER = "h1"


def check(id: str, status: str = "passing", **fields: Any) -> dict[str, Any]:
    return {
        "Node": "n",
        "CheckID": id,
        "Name": id,
        "Status": status,
        "Notes": "",
        "Output": "",
        "ServiceID": "a-1",
        "ServiceTags": ["a"],
        "ModifyIndex": 7,
    } | fields


def beat(status: str = "passing", output: str | None = None) -> dict[str, Any]:
    said = checks.heartbeat_output(HOLDER) if output is None else output
    notes = checks.holder_notes(HOLDER)
    return check("mcp:a-1", status, Output=said, Notes=notes)


def told(health: Health, load: Load | None = None, holder: str = HOLDER) -> dict[str, Any]:
    status, output = to_check(health, load, holder)
    return check("mcp-health:a-1", status, Output=output)


HEALTHY = Health(Status.HEALTHY, "answers MCP")
SERF = check("serfHealth", ServiceID="")


@pytest.mark.parametrize(
    ("status", "consul"),
    [
        (Status.HEALTHY, "passing"),
        (Status.DEGRADED, "warning"),
        (Status.DRAINING, "critical"),
        (Status.DOWN, "critical"),
    ],
)
def test_a_health_comes_back_as_it_was(status: Status, consul: str) -> None:
    health = Health(status, "späť\nand a second line")
    load = Load(active=2, error_rate=0.5)
    assert to_check(health, load, HOLDER)[0] == consul
    assert to_check(health, load, HOLDER)[1].startswith("späť\n")  # what people see first
    presence = read_presence(ServicePlace("n", "a-1"), [beat(), told(health, load), SERF])
    assert (presence.own, presence.load) == (health, load)
    assert (presence.holder, presence.server) == (HOLDER, "a")
    assert presence.alive and presence.started and verdict(presence) is None


@pytest.mark.parametrize(
    ("extra", "status", "reason"),
    [
        (check("serfHealth", "critical"), Status.DOWN, "node n is unreachable"),
        (
            check("_node_maintenance", "critical", Notes="new disks"),
            Status.DRAINING,
            "maintenance mode: new disks",
        ),
        (
            check("_service_maintenance:a-1", "critical", Notes=""),
            Status.DRAINING,
            "maintenance mode: no reason given",
        ),
        (
            check("disk", "warning", Output="80 % full\nmore"),
            Status.DEGRADED,
            "Consul check 'disk' is warning: 80 % full",
        ),
        (check("disk", "critical"), Status.DOWN, "Consul check 'disk' is critical"),
    ],
)
def test_what_others_say_counts_when_it_is_worse(
    extra: dict[str, Any], status: Status, reason: str
) -> None:
    place = ServicePlace("n", "a-1")
    assert verdict(read_presence(place, [beat(), told(HEALTHY), extra])) == (status, reason)
    down = read_presence(place, [beat(), told(Health(Status.DOWN, "gone")), extra])
    if not down.unreachable:
        assert verdict(down) is None  # its registrant says worse, or the same


@pytest.mark.parametrize(
    "output", ["", "by hand", "x\n{", 'x\n{"status":"odd"}', 'x\n{"status":"down"}', "x\n[]"]
)
def test_an_unreadable_health_is_what_its_status_says(output: str) -> None:
    presence = read_presence(
        ServicePlace("n", "a-1"), [beat(), check("mcp-health:a-1", "warning", Output=output)]
    )
    assert not presence.started
    assert verdict(presence) == (Status.DEGRADED, "its health check is warning")


def test_a_state_left_by_another_holder_is_not_this_holders() -> None:
    left = f"TTL expired, last output before timeout follows\n{checks.heartbeat_output('h0')}"
    place = ServicePlace("n", "a-1")
    assert not read_presence(place, [beat("critical", left), told(HEALTHY)]).started
    assert not read_presence(place, [beat("critical", ""), told(HEALTHY)]).started
    assert not read_presence(place, [beat(), told(HEALTHY, holder="h0")]).started
    own = f"TTL expired, last output before timeout follows\n{checks.heartbeat_output(HOLDER)}"
    silent = read_presence(place, [beat("critical", own), told(HEALTHY)])
    assert silent.started and not silent.passing

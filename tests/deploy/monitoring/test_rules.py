"""Prometheus's own files: they are valid, and each alert fires by its cause and by nothing else.

The rules run, by promtool, over what Prometheus saw in real outages; see ``outages.py``.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.deploy.monitoring.files import PROMETHEUS, alerts, rules
from tests.deploy.monitoring.outages import OUTAGES
from tests.deploy.monitoring.series import written
from tests.deploy.tools import program

TESTS = PROMETHEUS / "tests"
#: What no outage of some minutes can make.
MADE_UP = TESTS / "mcp-discovery_test.yml"
RULES = PROMETHEUS / "rules" / "mcp-discovery.yml"

#: Outage → the alerts that ever fire in it. None else does.
MATRIX = {
    "nothing_wrong": set[str](),
    "quorum_lost": {"ListStale", "HeartbeatsFailing", "SidecarNotRegistered"},
    "facade_cut_off": {"ListStale", "InstanceDown"},
    "facade_without_list": {"FacadeNotReady"},
    "facades_gone": {"FacadeDown", "NoFacadeScraped"},
    "servers_killed": {"InstanceDown", "ServerUnavailable"},
    "hosts_dead": {"InstanceDown", "ServerUnavailable"},
    "sidecar_cut_off": {"HeartbeatsFailing", "SidecarNotRegistered", "InstanceDown"},
    "locked_out": {"FacadeNotReady", "StoreDenied", "SidecarNotRegistered", "InstanceDown"},
    "facade_may_not_write": {"StoreDenied", "RequestErrors"},
    "keys_deleted": {"RegistrationsLost"},
    "watch_cut": {"WatchRestarting"},
    "store_wiped": {"MassDropHeld", "InstanceDown"},
    "other_prefix": {"FacadesDisagree"},
    "foreign_key": {"KeysSkipped"},
    "slow_server": {"ProbesSlow"},
    "clock_behind": {"ClockDiffers"},
    "slow_way": {"ListLags"},
    "slow_writes": {"RequestsSlow"},
}


def promtool(*arguments: str | Path) -> str:
    """What promtool says; raises AssertionError with it when it finds fault."""
    asked = [program("promtool"), *map(str, arguments)]
    ended = subprocess.run(asked, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def fired(text: str) -> set[str]:
    """The alerts that a test file expects at some point."""
    return set(re.findall(r'alertname="McpDiscovery(\w+)",?[^}]*}\', value: 1', text))


def test_the_configuration_and_the_rules_are_valid() -> None:
    assert "SUCCESS" in promtool("check", "config", PROMETHEUS / "prometheus.yml")
    assert f"{len(rules())} rules found" in promtool("check", "rules", RULES)


def test_in_each_outage_exactly_its_alerts_fire() -> None:
    assert "SUCCESS" in promtool("test", "rules", *sorted(TESTS.glob("*.yml")))
    assert {path.stem for path in TESTS.glob("*.yml")} - {MADE_UP.stem} == OUTAGES.keys()
    texts = {name: (TESTS / f"{name}.yml").read_text() for name in OUTAGES}
    assert {name: fired(text) for name, text in texts.items()} == MATRIX
    for text in texts.values():  # the last question is what ever fired
        assert "(count_over_time(ALERTS" in text


def test_each_alert_is_fired_by_something() -> None:
    some = set[str]().union(*MATRIX.values(), fired(MADE_UP.read_text()))
    assert some == {alert["alert"].removeprefix("McpDiscovery") for alert in alerts()}


def test_a_rule_that_is_wrong_is_found(tmp_path: Path) -> None:
    """The trial can fail: of a threshold that is never reached."""
    (tmp_path / "rules").mkdir()
    (tmp_path / "tests").mkdir()
    changed = RULES.read_text().replace("stale_seconds > 60", "stale_seconds > 6000")
    (tmp_path / "rules" / RULES.name).write_text(changed)
    failed = set()
    for name in ("quorum_lost", "foreign_key", "servers_killed"):
        file = tmp_path / "tests" / f"{name}.yml"
        file.write_text((TESTS / f"{name}.yml").read_text())
        asked = [program("promtool"), "test", "rules", str(file)]
        ended = subprocess.run(asked, capture_output=True, text=True, timeout=60)
        failed |= {name} if ended.returncode else set()
    assert failed == {"quorum_lost"}


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([1.0] * 5, "1x4"),
        ([1.0, 3.0, 5.0, 5.0, 5.0], "1+2x2 5x1"),
        ([0.0, 4.0, 9.0, 13.0], "0 4 9 13"),
        ([None, None, 1.0, None, None, None, 2.0], "_x2 1 stale _x2 2"),
        ([9.0, 6.04, 3.04], "9-3x2"),
    ],
)
def test_series_are_written_as_promtool_reads_them(values: list[float | None], told: str) -> None:
    assert written(values) == told


def test_each_alert_says_what_it_means_and_where_to_read_on() -> None:
    names = [alert["alert"] for alert in alerts()]
    assert len(set(names)) == len(names)
    for alert in alerts():
        told = alert["annotations"]
        assert alert["labels"]["severity"] in {"critical", "warning"}, alert
        assert re.fullmatch(r"\d+[sm]", alert["for"]), alert
        assert set(told) == {"summary", "description", "runbook_url"}, alert
        assert told["runbook_url"] == f"docs/operations.md#{alert['alert'].lower()}"

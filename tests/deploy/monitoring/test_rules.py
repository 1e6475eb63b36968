"""Prometheus's own files: they are valid, and each alert is tried both ways by promtool."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import yaml

from tests.deploy.monitoring.files import PROMETHEUS, alerts, rules
from tests.deploy.tools import program

TRIED = PROMETHEUS / "tests" / "mcp-discovery_test.yml"
RULES = PROMETHEUS / "rules" / "mcp-discovery.yml"


def promtool(*arguments: str | Path) -> str:
    """What promtool says; raises AssertionError with it when it finds fault."""
    asked = [program("promtool"), *map(str, arguments)]
    ended = subprocess.run(asked, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def test_the_configuration_and_the_rules_are_valid() -> None:
    assert "SUCCESS" in promtool("check", "config", PROMETHEUS / "prometheus.yml")
    assert f"{len(rules())} rules found" in promtool("check", "rules", RULES)


def test_each_alert_fires_and_keeps_quiet() -> None:
    assert "SUCCESS" in promtool("test", "rules", TRIED)


def test_each_alert_is_tried_both_ways() -> None:
    tried = yaml.safe_load(TRIED.read_text())["tests"]
    fires: set[str] = set()
    quiet: set[str] = set()
    for each in tried:
        (asked,) = each["promql_expr_test"]
        (name,) = re.findall(r'alertname="(\w+)"', asked["expr"])
        (fires if asked["exp_samples"] else quiet).add(name)
    assert fires == quiet == {alert["alert"] for alert in alerts()}


def test_an_alert_that_never_fires_is_found(tmp_path: Path) -> None:
    """The trial can fail: an alert with another threshold is caught, and one that waits not."""
    (tmp_path / "rules").mkdir()
    (tmp_path / "tests").mkdir()
    changed = RULES.read_text().replace("stale_seconds > 60", "stale_seconds > 6000")
    changed = changed.replace("for: 10m", "for: 0s")
    (tmp_path / "rules" / RULES.name).write_text(changed)
    (tmp_path / "tests" / TRIED.name).write_text(TRIED.read_text())
    asked = [program("promtool"), "test", "rules", str(tmp_path / "tests" / TRIED.name)]
    ended = subprocess.run(asked, capture_output=True, text=True, timeout=60)
    found = ended.stdout + ended.stderr
    assert ended.returncode != 0
    assert set(re.findall(r'alertname="(\w+)"', found)) == {
        "McpDiscoveryListStale",
        "McpDiscoveryKeysSkipped",
    }


def test_each_alert_says_what_it_means_and_where_to_read_on() -> None:
    names = [alert["alert"] for alert in alerts()]
    assert len(set(names)) == len(names)
    for alert in alerts():
        told = alert["annotations"]
        assert alert["labels"]["severity"] in {"critical", "warning"}, alert
        assert re.fullmatch(r"\d+[sm]", alert["for"]), alert
        assert set(told) == {"summary", "description", "runbook_url"}, alert
        assert told["runbook_url"] == f"docs/operations.md#{alert['alert'].lower()}"

"""The monitoring files of `deploy/`, as the tests read them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
PROMETHEUS = ROOT / "deploy" / "prometheus"
GRAFANA = ROOT / "deploy" / "grafana"
PAGE = ROOT / "docs" / "operations.md"
DASHBOARD = GRAFANA / "dashboards" / "mcp-discovery.json"

#: The dashboard's own variables that choose what is shown; all of it, where nothing is chosen.
FILTERS = ("facade", "server", "zone", "datacenter")
_FILTER = re.compile(rf"\$({'|'.join(FILTERS)})\b")


def rules() -> list[dict[str, Any]]:
    """Every rule, recording ones included."""
    read = yaml.safe_load((PROMETHEUS / "rules" / "mcp-discovery.yml").read_text())
    return [rule for group in read["groups"] for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    """The rules that alert."""
    return [rule for rule in rules() if "alert" in rule]


def panels() -> list[dict[str, Any]]:
    """The dashboard's panels, without the rows that divide them."""
    read = json.loads(DASHBOARD.read_text())
    return [panel for panel in read["panels"] if panel["type"] != "row"]


def expressions() -> list[tuple[str, str]]:
    """Each panel's title with each of its expressions, Grafana's own variables filled in."""
    return [
        (panel["title"], _FILTER.sub(".*", target["expr"].replace("$__rate_interval", "5m")))
        for panel in panels()
        for target in panel["targets"]
    ]

"""The dashboard's form: what Grafana asks of it, and that it fits its provisioning."""

from __future__ import annotations

import json
from itertools import combinations
from typing import Any

import yaml

from tests.deploy.monitoring.files import DASHBOARD, GRAFANA, panels


def test_ids_are_unique_and_every_panel_says_what_it_shows() -> None:
    every = json.loads(DASHBOARD.read_text())["panels"]
    ids = [panel["id"] for panel in every]
    assert len(set(ids)) == len(ids)
    titles = [panel["title"] for panel in panels()]
    assert len(set(titles)) == len(titles)
    for panel in panels():
        assert panel["description"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["targets"], panel["title"]
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs)


def test_panels_do_not_overlap_and_fit_the_width() -> None:
    places = [panel["gridPos"] for panel in json.loads(DASHBOARD.read_text())["panels"]]
    for place in places:
        assert place["x"] >= 0
        assert place["x"] + place["w"] <= 24
    for one, other in combinations(places, 2):
        apart = any(
            one[axis] + one[size] <= other[axis] or other[axis] + other[size] <= one[axis]
            for axis, size in (("x", "w"), ("y", "h"))
        )
        assert apart, (one, other)


def test_the_data_source_is_the_one_that_is_provisioned() -> None:
    folder = GRAFANA / "provisioning"
    (source,) = yaml.safe_load((folder / "datasources/prometheus.yaml").read_text())["datasources"]
    read = json.loads(DASHBOARD.read_text())
    (variable,) = read["templating"]["list"]
    assert variable["type"] == "datasource"
    assert variable["query"] == source["type"] == "prometheus"
    assert variable["current"] == {"text": source["name"], "value": source["uid"]}
    for told in _data_sources(read["panels"]):
        assert told == {"type": "prometheus", "uid": f"${{{variable['name']}}}"}
    (provider,) = yaml.safe_load((folder / "dashboards/mcp-discovery.yaml").read_text())[
        "providers"
    ]
    assert provider["type"] == "file"
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"


def _data_sources(said: Any) -> list[Any]:
    """Every ``datasource`` in a part of the dashboard."""
    if isinstance(said, dict):
        here = [said["datasource"]] if "datasource" in said else []
        return here + [each for part in said.values() for each in _data_sources(part)]
    if isinstance(said, list):
        return [each for part in said for each in _data_sources(part)]
    return []

"""The dashboard's form: what Grafana asks of it, and that it fits its provisioning."""

from __future__ import annotations

import json
import re
from itertools import combinations
from typing import Any
from urllib.parse import unquote

import yaml

from tests.deploy.monitoring.files import (
    DASHBOARD,
    FILTERS,
    GRAFANA,
    PAGE,
    PROMETHEUS,
    ROOT,
    panels,
)


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
    variable, *others = read["templating"]["list"]
    assert variable["type"] == "datasource"
    assert variable["query"] == source["type"] == "prometheus"
    assert variable["current"] == {"text": source["name"], "value": source["uid"]}
    (traces,) = yaml.safe_load((folder / "datasources/tempo.yaml").read_text())["datasources"]
    assert next(each["current"] for each in others if each["name"] == "tempo") == {
        "text": traces["name"],
        "value": traces["uid"],
    }
    for told in _data_sources([read["panels"], others]):
        assert told == {"type": "prometheus", "uid": f"${{{variable['name']}}}"}
    (provider,) = yaml.safe_load((folder / "dashboards/mcp-discovery.yaml").read_text())[
        "providers"
    ]
    assert provider["type"] == "file"
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"


def test_each_panel_is_filtered_by_what_its_series_have() -> None:
    read = json.loads(DASHBOARD.read_text())
    variables = {each["name"]: each for each in read["templating"]["list"]}
    asked = " ".join(target["expr"] for panel in panels() for target in panel["targets"])
    for name in FILTERS:
        assert f"${name}" in asked
        assert variables[name]["allValue"] == ".*"  # so that series without the label are there
        assert variables[name]["query"]["query"].startswith("label_values(")
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    jobs = {each["job_name"]: each for each in config["scrape_configs"]}
    for label in ("server", "zone", "datacenter"):
        for job in ("mcp-discovery-sidecar", "mcp-server"):
            assert label in {each.get("target_label") for each in jobs[job]["relabel_configs"]}
    used = set(re.findall(r"\$(?:\{)?(\w+)", json.dumps(read["panels"])))
    assert {each for each in used if not each.startswith("__")} <= variables.keys()


def test_links_lead_to_sections_of_the_runbook_and_to_traces_that_there_are() -> None:
    found = re.findall(r"^### (\w+)$", PAGE.read_text(), re.MULTILINE)
    sections = {each.lower() for each in found}
    linked, traces = set(), []
    for panel in panels():
        for link in panel.get("links", []) + panel["fieldConfig"]["defaults"].get("links", []):
            where, _, anchor = link["url"].partition("#")
            if link["title"] == "Runbook":
                assert where == "${runbook}"
                linked.add(anchor)
            else:
                traces.append(link["url"])
    assert linked <= sections
    assert len(linked) >= 10 and len(traces) >= 8
    page = (ROOT / "docs/observability.md").read_text()
    for url in traces:
        (pane,) = json.loads(unquote(url.partition("panes=")[2])).values()
        (query,) = pane["queries"]
        assert pane["datasource"] == query["datasource"]["uid"] == "${tempo}"
        for name in re.findall(r'\bname="(\w+)', query["query"]):
            assert name in page
        for service in re.findall(r'service\.name="(.*?)"', query["query"]):
            assert f"`{service}`" in page


def _data_sources(said: Any) -> list[Any]:
    """Every ``datasource`` in a part of the dashboard."""
    if isinstance(said, dict):
        here = [said["datasource"]] if "datasource" in said else []
        return here + [each for part in said.values() for each in _data_sources(part)]
    if isinstance(said, list):
        return [each for part in said for each in _data_sources(part)]
    return []

"""The chart and the plain manifests: valid, strict, refusing what cannot work, and in step."""

from __future__ import annotations

import copy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.kubernetes import schema
from tests.deploy.kubernetes.charts import (
    CHART,
    VALUES,
    HelmFailed,
    documents_of,
    helm,
    manifests,
    of_kind,
    one,
    rendered,
    setting,
)
from tests.deploy.kubernetes.sets import SETS
from tests.deploy.tools import program
from tests.programs import ENVIRONMENT, ROOT


@pytest.mark.parametrize("options", SETS.values(), ids=SETS.keys())
def test_every_object_fits_its_schema(options: list[str]) -> None:
    documents = rendered(*options)
    assert documents
    for document in documents:
        for version in schema.VERSIONS:
            schema.check(document, version)
        assert document["metadata"]["namespace"] == "tests"


@pytest.mark.parametrize("path", manifests(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_manifest_fits_its_schema(path: Path) -> None:
    for document in documents_of(path):
        for version in schema.VERSIONS:
            schema.check(document, version)
        if document["kind"] != "Namespace":
            assert document["metadata"]["namespace"] == "mcp-discovery"


def test_the_schemas_see_mistakes() -> None:
    """Else the tests above could not fail."""
    documents = rendered(*SETS["everything"])
    wrong: dict[str, tuple[tuple[str | int, ...], Any]] = {
        "Deployment": (
            ("spec", "template", "spec", "initContainers", 0, "restartPolicys"),
            "Always",
        ),
        "PodDisruptionBudget": (("spec", "maxUnavailabel"), 1),
        "NetworkPolicy": (("spec", "egress", 0, "ports", 0, "protocoll"), "TCP"),
        "ServiceMonitor": (("spec", "endpoints", 0, "intervall"), "1s"),
    }
    split = documents_of(ROOT / "deploy/kubernetes/istio/version-split.yaml")
    split += documents_of(ROOT / "deploy/kubernetes/linkerd/version-split.yaml")
    wrong_split: dict[str, tuple[tuple[str | int, ...], Any]] = {
        "VirtualService": (("spec", "http", 0, "route", 0, "wight"), 90),
        "DestinationRule": (("spec", "subsets", 0, "labels"), ["v1"]),
        "HTTPRoute": (("spec", "rules", 0, "backendRefs", 0, "weight"), "90"),
    }
    for found, mistakes in ((documents, wrong), (split, wrong_split)):
        for kind, (place, value) in mistakes.items():
            document = copy.deepcopy(of_kind(found, kind)[-1])
            target: Any = document
            for step in place[:-1]:
                target = target[step]
            target[place[-1]] = value
            with pytest.raises(schema.DoesNotFit, match=f"{place[-1]}|v1|90"):
                schema.check(document, "1.32")


@pytest.mark.parametrize("options", SETS.values(), ids=SETS.keys())
def test_lint(options: list[str]) -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", CHART, *options)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (setting(facade__replicas=2), "each facade would keep a list of its own; set facade.repl"),
        (setting(store__url="redis://r:1"), "store.url: Does not match pattern"),
        (setting(store__url="etcd://user:secret@h:2379"), "store.url: Does not match pattern"),
        (setting(facade__replcas=2), "Additional property replcas is not allowed"),
        (setting(facade__replicas="many"), "facade.replicas: Invalid type"),
        (setting(facade__port=80), "facade.port: Must be greater than or equal to 1024"),
        (["--set", "store.secret.keys={pasword}"], "store.secret.keys.0"),
        (["--kube-version", "1.29.0"], "incompatible with Kubernetes v1.29.0"),
    ],
)
def test_what_cannot_work_is_refused(options: list[str], sentence: str) -> None:
    with pytest.raises(HelmFailed) as failed:
        rendered(*options)
    assert sentence in str(failed.value)


def test_the_plain_manifests_are_what_the_chart_renders() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/render-kubernetes", "--check"],
        capture_output=True,
        text=True,
        env=ENVIRONMENT | {"HELM": program("helm")},
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), f"run scripts/render-kubernetes: {done}"


@pytest.mark.parametrize("path", manifests(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_manifest_says_what_it_is_for(path: Path) -> None:
    comment = path.read_text().partition("\n\n")[0]
    assert comment.startswith("# ")
    assert "#   kubectl " in comment


def test_the_sidecar_goes_into_other_charts(tmp_path: Path) -> None:
    chart = tmp_path / "mine"
    (chart / "templates").mkdir(parents=True)
    shutil.copytree(CHART, chart / "charts/mcp-discovery")
    dependency = {"name": "mcp-discovery", "version": "0.2.0-dev.0"}
    about = {"apiVersion": "v2", "name": "mine", "version": "1.0.0", "dependencies": [dependency]}
    (chart / "Chart.yaml").write_text(yaml.safe_dump(about))
    (chart / "values.yaml").write_text("mcp-discovery: {facade: {enabled: false}}\n")
    (chart / "templates/pod.yaml").write_text(
        """\
apiVersion: v1
kind: Pod
metadata: {name: mine, namespace: tests}
spec:
  enableServiceLinks: false
  initContainers:
    {{- include "mcp-discovery.sidecar" (dict
          "store" "etcd://etcd.etcd.svc:2379" "url" "http://127.0.0.1:8000/mcp"
          "tags" (list "products") "drain" 8 "secret" (dict "name" "s" "keys" (list "token"))
          "tls" (dict "secretName" "t") "extraArgs" (list "--owner=shop")) | nindent 4 }}
  containers:
    - name: server
      image: mine:1
      lifecycle:
        preStop: {{- include "mcp-discovery.serverPreStop" (dict "drain" 8) | nindent 10 }}
  volumes:
    {{- include "mcp-discovery.storeVolumes" (dict "tls" (dict "secretName" "t")
          "secret" (dict "name" "s")) | nindent 4 }}
"""
    )
    (pod,) = rendered(chart=chart)
    schema.check(pod, "1.30")
    assert {"--drain=8", "--owner=shop", "--tag=products"} <= set(
        pod["spec"]["initContainers"][0]["args"]
    )
    assert pod["spec"]["containers"][0]["lifecycle"]["preStop"] == {"sleep": {"seconds": 10}}
    with pytest.raises(HelmFailed, match="needs `url`, such as"):
        text = (chart / "templates/pod.yaml").read_text()
        (chart / "templates/pod.yaml").write_text(text.replace('"url"', '"uri"'))
        rendered(chart=chart)


@pytest.mark.parametrize(
    ("options", "has", "has_not"),
    [
        ([], ["1 facade(s) over embedded:", "exampleServer.enabled=true", "is gone when"], []),
        (SETS["example"], ["/servers?tags=products"], ["exampleServer.enabled=true"]),
        (SETS["kept"], ["kept inside the one facade."], ["is gone when"]),
        (SETS["everything"], ["2 facade(s) over etcd", "clients=true"], ["inside the one", "down"]),
        (SETS["no facade"], ["No facade"], ["port-forward"]),
    ],
    ids=["defaults", "example", "kept", "everything", "no facade"],
)
def test_the_notes(tmp_path: Path, options: list[str], has: list[str], has_not: list[str]) -> None:
    """``helm template`` leaves them out: they are rendered as a text in an object instead."""
    chart = tmp_path / "mcp-discovery"
    shutil.copytree(CHART, chart)
    (chart / "templates/NOTES.txt").rename(chart / "NOTES.txt")
    (chart / "templates/notes.yaml").write_text(
        'kind: Notes\ntext: {{ tpl (.Files.Get "NOTES.txt") . | quote }}\n'
    )
    notes = one(rendered(*options, chart=chart), "Notes")["text"]
    for text in has:
        assert text in notes
    for text in has_not:
        assert text not in notes


def test_values_are_all_described() -> None:
    """Every value in values.yaml is in the schema, and the schema's every value has a default."""
    import json

    described = json.loads((CHART / "values.schema.json").read_text())["properties"]
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert set(described) - {"global", "enabled"} == set(values)
    for name, value in values.items():
        if isinstance(value, dict) and "properties" in described[name]:
            assert set(described[name]["properties"]) == set(value), name


@pytest.mark.parametrize("values", sorted(VALUES.rglob("*.yaml")), ids=lambda path: path.name)
def test_the_values_that_are_shipped_work_with_helm_too(values: Path) -> None:
    assert rendered("--values", values)

"""The chart and the plain manifests: valid, strict, refusing what cannot work, and in step."""

from __future__ import annotations

import copy
import re
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
    Document,
    HelmFailed,
    documents_of,
    helm,
    manifests,
    of_kind,
    one,
    rendered,
    setting,
)
from tests.deploy.kubernetes.fake_cluster import cluster_with
from tests.deploy.kubernetes.sets import ETCD, SETS
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
        (setting(facade__preStopSeconds=25), "is 30, and facade.preStopSeconds 25: a facade would"),
        (
            setting(facade__preStopSeconds=40, facade__terminationGracePeriodSeconds=45),
            "is 45, and facade.preStopSeconds 40",
        ),
        (setting(facade__terminationGracePeriodSeconds=6), "Must be greater than or equal to 7"),
        (setting(facade__persistence__size="lots"), "facade.persistence.size: Does not match"),
        (
            setting(exampleServer__enabled=True, exampleServer__port=4001),
            "exampleServer.port and sidecar.healthPort are both 4001",
        ),
        (setting(store__secret__name="s"), "store.secret wants both `name`, of your Secret"),
        (["--set", "store.secret.keys={token}"], "store.secret wants both `name`, of your Secret"),
        (
            [
                *setting(store__url="etcd://e:2379", store__secret__name="s"),
                *("--set", "store.secret.keys={password}"),
            ],
            'store.secret.keys is ["password"], but etcd takes user and password',
        ),
        (
            [
                *setting(store__url="consul://c:8500", store__secret__name="s"),
                *("--set", "store.secret.keys={user,password}"),
            ],
            "but Consul takes a token alone",
        ),
        (setting(store__tls__clientCertificate=True), "clientCertificate wants store.tls.secretN"),
        (
            setting(store__url="etcd://e:2379", store__tls__secretName="t"),
            "store.tls.secretName is given, but store.url, etcd://e:2379, is without TLS",
        ),
        (setting(ingress__enabled=True), "everybody outside could register servers"),
        (
            setting(facade__openWrites=True, facade__auth__secretName="s"),
            "facade.openWrites and facade.auth.secretName are both given",
        ),
        (
            setting(facade__audit__passwordSecret__name="s"),
            "facade.audit.passwordSecret.name is given without facade.audit.store",
        ),
        (setting(facade__audit__store="postgresql://a:secret@h/d"), "facade.audit.store: Does not"),
        (setting(image__digest="sha256:1"), "image.digest: Does not match pattern"),
        (["--kube-version", "1.29.0"], "incompatible with Kubernetes v1.29.0"),
    ],
)
def test_what_cannot_work_is_refused(options: list[str], sentence: str) -> None:
    with pytest.raises(HelmFailed) as failed:
        rendered(*options)
    assert sentence in str(failed.value)


CLAIM: Document = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "test-mcp-discovery", "namespace": "tests"},
    "spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "1Gi"}}},
}
FACADES: Document = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "test-mcp-discovery", "namespace": "tests"},
    "spec": {"selector": {"matchLabels": {"app.kubernetes.io/name": "mcp-discovery"}}},
}


@pytest.mark.parametrize(
    ("values", "outcome"),
    [
        ({}, ("fast", "1Gi")),  # the class that it has, though none is given
        ({"storageClassName": "fast", "size": "1024Mi"}, ("fast", "1024Mi")),
        ({"size": "1.5Gi"}, ("fast", "1.5Gi")),
        ({"storageClassName": "slow"}, 'the claim test-mcp-discovery has "fast"'),
        ({"size": "1000M"}, "has 1Gi, and a claim only grows"),
    ],
)
def test_a_claim_that_is_there_is_changed_as_far_as_it_can_be(
    tmp_path: Path, values: dict[str, str], outcome: tuple[str, str] | str
) -> None:
    given = {f"facade__persistence__{name}": value for name, value in values.items()}
    options = setting(facade__persistence__enabled=True, **given)
    with cluster_with(tmp_path, CLAIM, FACADES) as there:
        if isinstance(outcome, str):
            with pytest.raises(HelmFailed, match=re.escape(outcome)):
                rendered(*options, *there)
            return
        claim = one(rendered(*options, *there), "PersistentVolumeClaim")
    spec = claim["spec"]
    assert (spec["storageClassName"], spec["resources"]["requests"]["storage"]) == outcome
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_a_deployment_that_is_there_keeps_its_selector(tmp_path: Path) -> None:
    same_name = setting(nameOverride="mcp", fullnameOverride="test-mcp-discovery")
    with cluster_with(tmp_path, FACADES) as there:
        assert rendered(*there)
        with pytest.raises(HelmFailed, match=r"name=mcp-discovery, which cannot become mcp: keep"):
            rendered(*same_name, *there)


def test_nought_is_a_value() -> None:
    documents = rendered(
        *setting(exampleServer__enabled=True, sidecar__drainSeconds=0),
        *("--set", "exampleServer.versions[0].suffix=v1,exampleServer.versions[0].replicas=0"),
    )
    deployment = of_kind(documents, "Deployment")[-1]["spec"]
    assert deployment["replicas"] == 0
    assert "--drain=0" in deployment["template"]["spec"]["initContainers"][0]["args"]


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
          "tls" (dict "secretName" "t") "extraArgs" (list "--owner=shop")
          "telemetry" (dict "otlpEndpoint" "http://collector:4318")) | nindent 4 }}
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
    (endpoint,) = _telemetry(pod["spec"]["initContainers"][0])
    assert endpoint == {"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://collector:4318"}
    assert pod["spec"]["containers"][0]["lifecycle"]["preStop"] == {"sleep": {"seconds": 10}}
    with pytest.raises(HelmFailed, match="needs `url`, such as"):
        text = (chart / "templates/pod.yaml").read_text()
        (chart / "templates/pod.yaml").write_text(text.replace('"url"', '"uri"'))
        rendered(chart=chart)


def _telemetry(container: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for each in container["env"] if each["name"].startswith("OTEL_")]


def test_telemetry_is_set_by_its_own_variables() -> None:
    options = (
        *("--set", "telemetry.otlpEndpoint=http://collector:4318"),
        *(
            "--set",
            "telemetry.env.OTEL_TRACES_SAMPLER_ARG=0.01",
            "--set",
            "exampleServer.enabled=true",
        ),
    )
    for workload in of_kind(rendered(*options), "Deployment"):
        spec = workload["spec"]["template"]["spec"]
        ours = spec.get("initContainers", spec["containers"])[0]
        assert _telemetry(ours) == [
            {"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://collector:4318"},
            {"name": "OTEL_TRACES_SAMPLER_ARG", "value": "0.01"},
        ]
    for workload in of_kind(rendered(), "Deployment"):
        assert not _telemetry(workload["spec"]["template"]["spec"]["containers"][0])


@pytest.mark.parametrize(
    ("options", "has", "has_not"),
    [
        ([], ["1 facade(s) over embedded:", "exampleServer.enabled=true", "is gone when"], []),
        (SETS["example"], ["/servers?tags=products"], ["exampleServer.enabled=true"]),
        (SETS["kept"], ["kept inside the one facade.", "stays when persistence"], ["is gone when"]),
        (
            setting(store__url=ETCD, facade__persistence__enabled=True),
            ["facade.persistence.enabled has no effect"],
            ["claim"],
        ),
        (SETS["everything"], ["2 facade(s) over etcd", "clients=true"], ["inside the one", "down"]),
        (SETS["no facade"], ["No facade"], ["port-forward"]),
    ],
    ids=["defaults", "example", "kept", "not kept", "everything", "no facade"],
)
def test_the_notes(tmp_path: Path, options: list[str], has: list[str], has_not: list[str]) -> None:
    notes = notes_of(tmp_path, *options)
    for text in has:
        assert text in notes
    for text in has_not:
        assert text not in notes


@pytest.mark.parametrize(
    "options",
    [[], setting(store__url=ETCD, facade__persistence__enabled=True), SETS["no facade"]],
    ids=["turned off", "another store", "no facade"],
)
def test_the_notes_tell_of_a_claim_that_is_left(tmp_path: Path, options: list[str]) -> None:
    with cluster_with(tmp_path, CLAIM) as there:
        notes = notes_of(tmp_path, *options, *there)
    assert "The claim test-mcp-discovery of an earlier revision is kept" in notes
    assert "-n tests delete persistentvolumeclaim test-mcp-discovery" in notes


def notes_of(tmp_path: Path, *options: str) -> str:
    """``helm template`` leaves them out: they are rendered as a text in an object instead."""
    chart = tmp_path / "mcp-discovery"
    shutil.copytree(CHART, chart)
    (chart / "templates/NOTES.txt").rename(chart / "NOTES.txt")
    (chart / "templates/notes.yaml").write_text(
        'kind: Notes\ntext: {{ tpl (.Files.Get "NOTES.txt") . | quote }}\n'
    )
    return str(one(rendered(*options, chart=chart), "Notes")["text"])


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


def test_the_page_makes_the_secrets_that_the_files_make() -> None:
    def made(text: str) -> set[str]:
        joined = re.sub(r"\\\n[#\s]*", "", text)
        return set(re.findall(r"kubectl .*create secret generic .*", joined))

    page = made((ROOT / "docs/kubernetes.md").read_text())
    assert page
    assert page <= set().union(*(made(path.read_text()) for path in VALUES.rglob("*.yaml")))

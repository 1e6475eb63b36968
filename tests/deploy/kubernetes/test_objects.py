"""What the objects promise: security, time to drain, who reaches whom, and who finds whom."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.deploy.kubernetes.charts import (
    containers,
    documents_of,
    manifests,
    of_kind,
    one,
    pod_specs,
    rendered,
    setting,
)
from tests.deploy.kubernetes.sets import ETCD, SETS
from tests.programs import ROOT

#: By the chart's version, and by the digest of the set that has everything.
IMAGES = ("mcp-discovery:0.2.0.dev0", f"mcp-discovery@sha256:{'0' * 64}")


def all_pods() -> list[dict[str, Any]]:
    found = [pod for options in SETS.values() for pod in pod_specs(rendered(*options))]
    return found + [pod for path in manifests() for pod in pod_specs(documents_of(path))]


def test_pods_meet_the_restricted_pod_security_standard_and_more() -> None:
    for pod in all_pods():
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False  # or MCP_DISCOVERY_PORT would be tcp://…
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 65532  # the image's user
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        assert {kind for each in pod.get("volumes", []) for kind in each} <= {
            *("name", "secret", "persistentVolumeClaim")
        }
        for container in containers(pod):
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["readOnlyRootFilesystem"] is True
            assert security["runAsNonRoot"] is True
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert security["seccompProfile"] == {"type": "RuntimeDefault"}
            assert "memory" in container["resources"]["limits"]
            assert {"cpu", "memory"} <= set(container["resources"]["requests"])
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                assert container[probe]["httpGet"]["path"].startswith("/")
            assert container["image"] in IMAGES


def test_hooks_leave_time_to_drain_and_to_end() -> None:
    for pod in all_pods():
        grace = pod["terminationGracePeriodSeconds"]
        for sidecar in pod.get("initContainers", []):
            (drain,) = (
                int(each.partition("=")[2])
                for each in sidecar["args"]
                if each.startswith("--drain=")
            )
            (server,) = pod["containers"]
            assert server["lifecycle"]["preStop"]["sleep"]["seconds"] == drain + 2
            assert grace >= drain + 2 + 10
        if not pod.get("initContainers"):
            (facade,) = pod["containers"]
            # The facade's own shutdown takes up to 5 s.
            assert grace >= facade["lifecycle"]["preStop"]["sleep"]["seconds"] + 5 + 10


def test_secrets_are_references_only() -> None:
    documents = rendered(*SETS["everything"])
    assert not of_kind(documents, "Secret")
    for pod in pod_specs(documents):
        credentials = {
            each["name"]: each.get("valueFrom", {}).get("secretKeyRef")
            for container in containers(pod)
            for each in container.get("env", [])
            if each["name"].startswith("MCP_DISCOVERY_STORE_") and "value" not in each
        }
        assert credentials == {"MCP_DISCOVERY_STORE_USER": {"name": "s", "key": "user"}}


def test_what_is_rotated_is_mounted() -> None:
    """Whole folders, in which the kubelet shows a Secret's change; a variable stays as it is."""
    for pod in pod_specs(rendered(*SETS["everything"])):
        volumes = {each["name"]: each.get("secret") for each in pod["volumes"]}
        assert volumes["store-secret"] == {"secretName": "s"}
        used = [each for each in containers(pod) if each.get("env")]
        for container in used:
            files = {each["name"]: each.get("value", "") for each in container["env"]}
            password = files["MCP_DISCOVERY_STORE_PASSWORD_FILE"]
            (mount,) = (
                each for each in container["volumeMounts"] if each["name"] == "store-secret"
            )
            assert "subPath" not in mount
            assert password == f"{mount['mountPath']}/password"


def test_facades_reach_the_store_and_dns_and_nothing_else() -> None:
    policy = one(rendered(*setting(store__url=ETCD)), "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    dns, store = policy["egress"]
    assert {each["port"] for each in dns["ports"]} == {53}
    assert [each["port"] for each in store["ports"]] == [2379, 23790]
    clients, prometheus = policy["ingress"]
    assert [each["port"] for each in clients["ports"]] == ["http"]
    assert [each["port"] for each in prometheus["ports"]] == ["ops", "http"]
    for ingress in (clients, prometheus):
        assert all(peer for peer in ingress["from"])  # an empty peer would be everybody
    wide = one(rendered(*setting(store__url=ETCD, facade__gateway=True)), "NetworkPolicy")["spec"]
    assert wide["egress"][2] == {"to": [{"namespaceSelector": {}}]}
    named = one(
        rendered(
            *setting(store__url="consul://c:8500"),
            *("--set", "networkPolicy.servers[0].namespaceSelector.matchLabels.team=shop"),
            *("--set", "networkPolicy.store[0].ipBlock.cidr=10.0.0.0/8"),
        ),
        "NetworkPolicy",
    )["spec"]
    assert named["egress"][1:] == [
        {"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": 8500, "protocol": "TCP"}]},
        {"to": [{"namespaceSelector": {"matchLabels": {"team": "shop"}}}]},
    ]


@pytest.mark.parametrize(
    ("url", "ports"),
    [
        ("consul://$(HOST_IP):8501/mcp?dc=east", [8501]),
        ("consul+https://consul.example", [8500]),
        ("etcd://[2001:db8::1]:1234,[2001:db8::2]:1234", [1234]),
        ("https://facade.example/x:1", [443]),
        ("http://facade.example", [80]),
    ],
)
def test_the_stores_port_is_read_from_its_url(url: str, ports: list[int]) -> None:
    policy = one(rendered(*setting(store__url=url)), "NetworkPolicy")["spec"]
    assert [each["port"] for each in policy["egress"][1]["ports"]] == ports


def _let_in(policy: Any, port: str) -> list[Any]:
    return [
        peer
        for each in policy["ingress"]
        if {"port": port, "protocol": "TCP"} in each["ports"]
        for peer in each["from"]
    ]


def test_others_than_registrants_get_in_where_they_can_only_read() -> None:
    others = {"namespaceSelector": {"matchLabels": {"mcp-discovery/clients": "true"}}}
    own: dict[str, Any] = {"podSelector": {}}
    outside = {
        "open": setting(store__url="embedded:"),
        "open by choice": setting(store__url=ETCD, facade__openWrites=True),
    }
    for options in outside.values():
        documents = rendered(*options)
        assert (
            "--open-writes"
            in one(documents, "Deployment")["spec"]["template"]["spec"]["containers"][0]["args"]
        )
        assert _let_in(one(documents, "NetworkPolicy")["spec"], "http") == [own]
    inside = {
        "a store of its own": setting(store__url=ETCD),
        "callers are known": setting(store__url="embedded:", facade__auth__secretName="rules"),
        "read only": setting(store__url="embedded:", facade__readOnly=True),
    }
    for options in inside.values():
        documents = rendered(*options)
        assert (
            "--open-writes"
            not in one(documents, "Deployment")["spec"]["template"]["spec"]["containers"][0]["args"]
        )
        assert others in _let_in(one(documents, "NetworkPolicy")["spec"], "http")


def test_known_callers_by_a_secret_whose_changes_count() -> None:
    documents = rendered(*setting(facade__auth__secretName="rules", facade__auth__key="who.yaml"))
    pod = one(documents, "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert "--auth=/etc/mcp-discovery/auth/who.yaml" in container["args"]
    assert container["args"].count("--audit=-") == 1  # there is no folder for a database
    (mount,) = [each for each in container["volumeMounts"] if each["name"] == "auth"]
    assert mount["mountPath"] == "/etc/mcp-discovery/auth"
    assert "subPath" not in mount
    (volume,) = [each for each in pod["volumes"] if each["name"] == "auth"]
    assert volume["secret"]["secretName"] == "rules"
    assert pod["automountServiceAccountToken"] is False


def test_own_token_where_the_cluster_is_an_issuer() -> None:
    documents = rendered(
        *setting(facade__auth__secretName="rules", facade__auth__serviceAccountToken=True)
    )
    pod = one(documents, "Deployment")["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is True


def test_replicas_follow_the_store() -> None:
    embedded, shared = rendered(), rendered(*setting(store__url=ETCD))
    assert one(embedded, "Deployment")["spec"]["replicas"] == 1
    assert one(embedded, "Deployment")["spec"]["strategy"] == {"type": "Recreate"}
    assert not of_kind(embedded, "PodDisruptionBudget")  # it would hold up the node for ever
    spec = one(shared, "Deployment")["spec"]
    assert spec["replicas"] == 2
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    budget = one(shared, "PodDisruptionBudget")["spec"]
    labels = spec["template"]["metadata"]["labels"].items()
    assert budget["selector"]["matchLabels"].items() <= labels
    assert one(shared, "Service")["spec"]["selector"].items() <= labels
    assert one(shared, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"].items() <= labels


def test_the_monitors_find_facades_and_sidecars() -> None:
    documents = rendered(*SETS["everything"])
    monitor = one(documents, "ServiceMonitor")
    service = one(documents, "Service")
    labels = service["metadata"]["labels"].items()
    assert monitor["spec"]["selector"]["matchLabels"].items() <= labels
    (facade,) = of_kind(documents, "Deployment")[0]["spec"]["template"]["spec"]["containers"]
    named = {each["name"] for each in facade["ports"]}
    assert monitor["spec"]["endpoints"][0]["targetPort"] in named
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    sidecars = one(documents, "PodMonitor")["spec"]
    template = of_kind(documents, "Deployment")[-1]["spec"]["template"]
    assert sidecars["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    (port,) = template["spec"]["initContainers"][0]["ports"]
    assert sidecars["podMetricsEndpoints"][0]["port"] == port["name"]


def test_the_alerts_are_all_there_and_know_the_jobs() -> None:
    documents = rendered(*SETS["everything"])
    alerts = (ROOT / "deploy/prometheus/rules/mcp-discovery.yml").read_text()
    assert one(documents, "PrometheusRule")["spec"] == yaml.safe_load(alerts)
    for kind, endpoints in (("ServiceMonitor", "endpoints"), ("PodMonitor", "podMetricsEndpoints")):
        (endpoint,) = one(documents, kind)["spec"][endpoints]
        (job,) = (each for each in endpoint["relabelings"] if each["targetLabel"] == "job")
        prometheus = (ROOT / "deploy/prometheus/prometheus.yml").read_text()
        assert f"job_name: {job['replacement']}\n" in prometheus


def test_by_the_name_of_the_ingress_nothing_is_changed() -> None:
    for writes, said in ((False, ["--read-only-host=mcp.example.com"]), (True, [])):
        options = [*SETS["everything"], *setting(ingress__writes=writes)]
        given = [
            each
            for pod in pod_specs(rendered(*options))
            for container in containers(pod)
            for each in container["args"]
            if each.startswith("--read-only-host")
        ]
        assert given == said

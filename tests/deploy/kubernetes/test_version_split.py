"""Two versions of a server, 90 to 10: by weights with real processes; the files for meshes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from httpx2 import URL

from mcp_discovery import Discovery
from tests.deploy.kubernetes.charts import (
    MANIFESTS,
    VALUES,
    one,
    pod_specs,
    read,
    rendered,
    setting,
)
from tests.deploy.kubernetes.kubelet import pod
from tests.programs import AskedFacade, facade
from tests.stores import EtcdServer

#: Five standard deviations of the share in so many draws: one run in two million is beyond.
PICKS = 1000
PICKS_MARGIN = 5 * (PICKS * 0.9 * 0.1) ** 0.5
CALLS = 400
CALLS_MARGIN = 5 * (CALLS * 0.9 * 0.1) ** 0.5


@dataclass
class Split:
    """A facade, and the version that each server's port stands for."""

    facade: AskedFacade
    versions: dict[int, str]


@asynccontextmanager
async def split(etcd: EtcdServer, namespace: str, folder: Path) -> AsyncIterator[Split]:
    """The pods of values/version-split.yaml, one of each version, in another store."""
    store = f"{etcd.store_url}/{namespace}"
    here = setting(
        store__url=store,
        store__secret__name="",
        store__secret__keys="null",
        store__tls__secretName="",
        store__tls__clientCertificate=False,
    )
    async with AsyncExitStack() as stack:
        asked = await stack.enter_async_context(facade(folder, store))
        versions = {}
        for number, spec in enumerate(
            pod_specs(rendered("--values", VALUES / "version-split.yaml", *here)), 1
        ):
            running = await stack.enter_async_context(pod(f"v{number}-pod", spec, folder))
            await running.until_ready(20)
            seen = await asked.until_status(running.name, "healthy", 5)
            versions[running.container("server").port("mcp")] = seen["version"]
        assert sorted(versions.values()) == ["1.4.0", "1.5.0"]
        yield Split(asked, versions)


async def test_the_split_without_a_mesh(
    etcd_server: EtcdServer, namespace: str, tmp_path: Path
) -> None:
    async with split(etcd_server, namespace, tmp_path) as both:
        old, new = await by_picks(both), await by_calls(both)
        assert abs(old["1.4.0"] - 0.9 * PICKS) < PICKS_MARGIN, old
        assert abs(new["1.4.0"] - 0.9 * CALLS) < CALLS_MARGIN, new
        await by_version(both)


async def by_picks(both: Split) -> Counter[str]:
    """Which version the facade offers first, asked again and again."""
    body = {
        "filters": {"name": "product-catalog"},
        "loadBalancing": {"strategy": "weighted", "maxConnections": 1},
    }
    picked: Counter[str] = Counter()
    async with aiohttp.ClientSession(both.facade.url) as http:
        for _ in range(PICKS):
            async with http.post("/connections/discover", json=body) as response:
                (found,) = (await response.json())["connections"]
                picked[both.versions[port_of(found)]] += 1
    return picked


def port_of(connection: dict[str, Any]) -> int:
    """The port in a connection's address."""
    return int(re.findall(r"127\.0\.0\.1:(\d+)", str(connection))[0])


async def by_calls(both: Split) -> Counter[str]:
    """Which version answers calls of the client library."""
    asked: Counter[str] = Counter()

    async def count(url: URL) -> None:
        if (port := url.port) in both.versions:
            asked[both.versions[port]] += 1

    async with Discovery(both.facade.url, strategy="weighted", guard=count) as d:
        await d.connect(name="product-catalog", eager=True)
        before = Counter(asked)
        for _ in range(CALLS):
            assert not (await d.call("get_product", {"sku": "KET-100"})).is_error
        asked.subtract(before)
        # A call is one request, but for a few that keep the list of tools.
        assert CALLS <= asked.total() <= CALLS + 10
    return asked


async def by_version(both: Split) -> None:
    """Agents that want one of the versions, whatever the weights."""
    for wish, version in ((">=1.5", "1.5.0"), ("<1.5", "1.4.0"), ("^1.4", None)):
        found = await both.facade.servers(f"name=product-catalog&version={wish}")
        versions = {each["version"] for each in found.values()}
        assert versions == ({version} if version else {"1.4.0", "1.5.0"})
    used: Counter[str] = Counter()

    async def count(url: URL) -> None:
        if (port := url.port) in both.versions:
            used[both.versions[port]] += 1

    async with Discovery(both.facade.url, strategy="weighted", guard=count) as d:
        await d.connect(name="product-catalog", version=">=1.5")
        for _ in range(20):
            await d.call("get_product", {"sku": "KET-100"})
    assert set(used) == {"1.5.0"}


def ready_pods_and(mesh: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    servers = read((MANIFESTS / mesh / "servers.yaml").read_text())
    return servers, read((MANIFESTS / mesh / "version-split.yaml").read_text())


def test_istio_routes_to_pods_that_there_are() -> None:
    servers, split = ready_pods_and("istio")
    service, rule, route = (
        one(split, kind) for kind in ("Service", "DestinationRule", "VirtualService")
    )
    host = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc.cluster.local"
    assert rule["spec"]["host"] == host
    assert route["spec"]["hosts"] == [host]
    subsets = {each["name"]: each["labels"] for each in rule["spec"]["subsets"]}
    (only,) = route["spec"]["http"]
    weights = {each["destination"]["subset"]: each["weight"] for each in only["route"]}
    assert weights == {"v1": 90, "v2": 10}
    assert all(each["destination"]["host"] == host for each in only["route"])
    labels = [each["spec"]["template"]["metadata"]["labels"] for each in servers]
    for subset in weights:
        wanted = service["spec"]["selector"] | subsets[subset]
        assert [each for each in labels if wanted.items() <= each.items()], subset
    check_advertised(servers, host, service)
    check_port_is_left_out(servers, "traffic.sidecar.istio.io/excludeInboundPorts")


def test_linkerd_routes_to_pods_that_there_are() -> None:
    servers, split = ready_pods_and("linkerd")
    services = {each["metadata"]["name"]: each for each in split if each["kind"] == "Service"}
    route = one(split, "HTTPRoute")["spec"]
    (parent,) = route["parentRefs"]
    parents_port = services[parent["name"]]["spec"]["ports"][0]["port"]
    assert parent["port"] == parents_port
    weights = {each["name"]: each["weight"] for each in route["rules"][0]["backendRefs"]}
    assert weights == {"product-catalog-v1": 90, "product-catalog-v2": 10}
    labels = [each["spec"]["template"]["metadata"]["labels"] for each in servers]
    for name in weights:
        wanted = services[name]["spec"]["selector"].items()
        assert len([each for each in labels if wanted <= each.items()]) == 1
    host = f"{parent['name']}.mcp-discovery.svc.cluster.local"
    check_advertised(servers, host, services[parent["name"]])
    check_port_is_left_out(servers, "config.linkerd.io/skip-inbound-ports")


def check_advertised(servers: list[dict[str, Any]], host: str, service: dict[str, Any]) -> None:
    """Agents are given the Service: a pod's own address is none that a mesh routes."""
    (port,) = service["spec"]["ports"]
    for spec in pod_specs(servers):
        assert (
            f"--advertise-url=http://{host}:{port['port']}/mcp"
            in (spec["initContainers"][0]["args"])
        )
        names = [each["name"] for each in spec["containers"][0]["ports"]]
        assert port["targetPort"] in names


def check_port_is_left_out(servers: list[dict[str, Any]], annotation: str) -> None:
    """The proxy keeps off the sidecar's own port."""
    for document in servers:
        template = document["spec"]["template"]
        (port,) = template["spec"]["initContainers"][0]["ports"]
        assert template["metadata"]["annotations"][annotation] == str(port["containerPort"])

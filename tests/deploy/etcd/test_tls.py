"""``deploy/etcd/etcd.conf.yml`` as it stands: three members, a sidecar and a facade over TLS."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from prometheus_client.parser import text_string_to_metric_families

from mcp_discovery.adapters import open_store
from mcp_discovery.adapters.store import StoreOptions
from mcp_discovery.errors import StoreUnavailableError
from mcp_discovery.health import Status, healthy
from tests.contract.watcher import watching
from tests.deploy.etcd.configured import FILE, ConfiguredEtcd, Papers, configured_cluster
from tests.deploy.etcd.roles import PASSWORD, environment, etcdctl, run, script
from tests.deploy.monitoring.test_operations_page import read
from tests.programs import facade, running
from tests.records import document, record
from tests.servers.process import sdk
from tests.stores import ports
from tests.stores.cluster import StoreCluster
from tests.stores.etcd import EtcdServer
from tests.stores.tls import Tls
from tests.stores.waiting import until


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    """The certificates of the cluster."""
    return Papers(tmp_path_factory.mktemp("papers"))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def cluster(papers: Papers) -> AsyncIterator[StoreCluster[ConfiguredEtcd]]:
    """The cluster of the file, with the roles and three users."""
    async with configured_cluster(papers) as started:
        first = started.members[0]
        await script(first, "roles", SKYDNS="")
        await script(first, "user", "mcp-sidecar", "mcp-sidecar")
        await script(first, "user", "mcp-facade", "mcp-facade,mcp-sweeper,mcp-sidecar")
        yield started


def store_url(cluster: StoreCluster[ConfiguredEtcd]) -> str:
    return "etcd+https://" + ",".join(f"{m.host}:{m.http_port}" for m in cluster.members)


def options(papers: Tls, **other: Any) -> StoreOptions:
    given: dict[str, Any] = {
        "user": "mcp-sidecar",
        "password": PASSWORD,
        "ca": str(papers.ca_file),
        "certificate": str(papers.client.cert_file),
        "key": str(papers.client.key_file),
        "timeout": 4.0,
    }
    return StoreOptions(**(given | other))


def test_every_line_of_the_file_is_an_option_of_etcd() -> None:
    content = yaml.safe_load(FILE.read_text())
    assert content["client-transport-security"]["client-cert-auth"] is True
    assert content["peer-transport-security"]["client-cert-auth"] is True
    for key in ("listen-client-urls", "listen-peer-urls", "advertise-client-urls"):
        assert content[key].startswith("https://")


async def test_the_members_are_one_healthy_cluster(
    cluster: StoreCluster[ConfiguredEtcd],
) -> None:
    said = await run(environment(cluster.members[0]), etcdctl(), "endpoint", "health", "--cluster")
    assert said[0] == 0
    assert said[1].count("is healthy") == 3


async def test_a_registration_outlives_a_member_and_tokens(
    cluster: StoreCluster[ConfiguredEtcd], papers: Papers
) -> None:
    given = options(papers, user="mcp-facade")
    async with open_store(store_url(cluster), given) as store, watching(store) as seen:
        registration = await store.register(record(), document("a"), ttl=30, reap_after=60)
        await seen.until_status("catalog-1", Status.HEALTHY, 5)
        await cluster.members[0].restart()  # its tokens of before are still good: they are signed
        await registration.heartbeat(healthy())
        await registration.drain()
        await seen.until_status("catalog-1", Status.DRAINING, 10)
        await registration.deregister()
        await seen.until_status("catalog-1", None, 5)


async def test_tokens_that_expire_are_renewed(papers: Papers) -> None:
    short = ConfiguredEtcd(1, papers, "s3cr3t-of-root", more=[("ttl=10m", "ttl=1s")])
    root = options(papers, user="root", password="s3cr3t-of-root")
    async with short as server, open_store(server.store_url, root) as store:
        registration = await store.register(record(), document("a"), ttl=30, reap_after=60)
        tokens: set[str | None] = set()
        while len(tokens) < 3:
            await registration.heartbeat(healthy())
            tokens.add(store._gateway._token)  # type: ignore[attr-defined]
            registration._heartbeats._verified -= 60  # type: ignore[attr-defined]


async def test_a_sidecar_and_a_facade_as_they_are_started(
    cluster: StoreCluster[ConfiguredEtcd], papers: Papers, tmp_path: Path
) -> None:
    client = papers.lasting(3600)
    port = ports.draw()
    settings = {
        "MCP_DISCOVERY_STORE": store_url(cluster),
        "MCP_DISCOVERY_STORE_CA": str(papers.ca_file),
        "MCP_DISCOVERY_STORE_CERT": str(client.cert_file),
        "MCP_DISCOVERY_STORE_KEY": str(client.key_file),
        "MCP_DISCOVERY_STORE_PASSWORD": PASSWORD,
    }
    async with (
        sdk() as server,
        running(
            tmp_path,
            *("sidecar", "--url", server.url, "--id", "over-tls-1", "--ttl", "5s"),
            *("--health-port", str(port.number)),
            MCP_DISCOVERY_STORE_USER="mcp-sidecar",
            **settings,
        ) as sidecar,
        facade(
            tmp_path, store_url(cluster), MCP_DISCOVERY_STORE_USER="mcp-facade", **settings
        ) as asked,
    ):
        entry = await asked.until_status("over-tls-1", "healthy", 20)
        tools = await asked.get(f"/servers/{entry['id']}")
        assert tools["id"] == "over-tls-1"
        renewed = papers.lasting(20 * 86400)
        client.cert_file.write_bytes(renewed.cert_file.read_bytes())
        client.key_file.write_bytes(renewed.key_file.read_bytes())
        for role, url in (("facade", asked.url), ("sidecar", f"http://127.0.0.1:{port.number}")):

            async def moved(role: str = role, url: str = url) -> bool:
                figures = await read(f"{url}/metrics")
                found = {
                    labels["purpose"]: (sample.value - time.time()) / 86400
                    for family in text_string_to_metric_families(figures)
                    for sample in family.samples
                    if sample.name == "mcp_discovery_certificate_expiry_seconds"
                    and (labels := sample.labels)["role"] == role
                }
                assert set(found) == {"store-ca", "store-cert"}
                return 19 < found["store-cert"] < 20

            await until(moved, timeout=20, what=f"the {role}'s using the renewed certificate")
        assert await sidecar.stop() == 0
        await asked.until_status("over-tls-1", None, 10)
    port.release()


async def test_wrong_papers_are_told_in_one_sentence(
    cluster: StoreCluster[ConfiguredEtcd], papers: Papers, tmp_path: Path
) -> None:
    stranger = Tls(tmp_path)
    late = papers.expired("late", "client.invalid")
    for wrong, expected in (
        ({"ca": str(stranger.ca_file)}, "a CA that is not trusted here"),
        ({"ca": None, "certificate": None, "key": None}, "a CA that is not trusted here"),
        ({"certificate": None, "key": None}, "asks for a client certificate|asks for one"),
        (
            {"certificate": str(late.cert_file), "key": str(late.key_file)},
            r"the client certificate expired at .*; renew /",
        ),
        (
            {
                "certificate": str(stranger.client.cert_file),
                "key": str(stranger.client.key_file),
            },
            "the CA of the client certificate|refuses the client",
        ),
    ):
        async with open_store(store_url(cluster), options(papers, **wrong)) as store:
            with pytest.raises(StoreUnavailableError, match=expected) as caught:
                await store.register(record(), document("a"), ttl=30, reap_after=60)
        assert len(str(caught.value).splitlines()) == 1


async def test_a_server_whose_certificate_has_expired(tmp_path: Path) -> None:
    tls = Papers(tmp_path)
    tls.server = tls.expired("old", "127.0.0.1")
    # Ready is what its users find it to be, and nobody trusts it: look at plain TCP.
    server = _Expired(tls=tls)
    async with server, open_store(server.store_url, options(tls, user=None)) as store:
        with pytest.raises(StoreUnavailableError, match="has expired"):
            await store.document("0" * 64)


class _Expired(EtcdServer):
    """A server that a client which checks certificates never finds ready."""

    async def _check_ready(self) -> bool:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        assert self.tls is not None
        context.load_cert_chain(self.tls.client.cert_file, self.tls.client.key_file)
        _, writer = await asyncio.open_connection(self.host, self.http_port, ssl=context)
        writer.close()
        return True


async def test_a_certificate_with_a_name_is_refused_beside_users(
    cluster: StoreCluster[ConfiguredEtcd], papers: Papers
) -> None:
    named = papers.named("mcp-sidecar")
    given = options(papers, certificate=str(named.cert_file), key=str(named.key_file))
    async with open_store(store_url(cluster), given) as store:
        with pytest.raises(StoreUnavailableError, match="with a common name; give one without"):
            await store.register(record(), document("a"), ttl=30, reap_after=60)

"""Agents are given a URL that works where they are; loopback only when the store is local."""

from __future__ import annotations

import asyncio
import ipaddress
import socket

import pytest

from mcp_discovery.adapters import open_store
from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.errors import InvalidInputError
from mcp_discovery.health import Status
from mcp_discovery.sidecar import advertise
from mcp_discovery.sidecar.settings import SidecarSettings
from tests.servers.process import McpServer
from tests.sidecar.harness import Seen, sidecar
from tests.stores import ConsulServer
from tests.stores.waiting import bounded

LOCAL = "http://127.0.0.1:8000/mcp"
#: An address for documentation (RFC 5737): a remote store that nothing is ever sent to.
REMOTE = "consul://192.0.2.77:8500"


async def advertised(
    url: str, store: str, environ: dict[str, str] | None = None, option: str | None = None
) -> str:
    """What is advertised for ``url``."""
    chosen = await advertise.choose(
        SidecarSettings(url=url, advertise_url=option), store, environ or {}
    )
    return chosen.url(url)


async def test_the_option_goes_before_all() -> None:
    option = "https://catalog.example/mcp"
    assert await advertised(LOCAL, REMOTE, {"POD_IP": "10.1.2.3"}, option) == option


@pytest.mark.parametrize(("store", "warned"), [(REMOTE, True), ("consul://127.0.0.1:8500", False)])
async def test_loopback_that_is_given_for_a_remote_store_is_warned_of(
    store: str, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    assert await advertised(LOCAL, store, option=LOCAL) == LOCAL
    assert ("means nothing on other machines" in caplog.text) is warned


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "[::1]", "[::]"])
@pytest.mark.parametrize("store", [REMOTE, "consul://127.0.0.1:8500", "embedded:"])
async def test_the_environment_names_the_address(host: str, store: str) -> None:
    url = f"http://{host}:8000/mcp?x=1"
    environ = {"HOST_IP": "10.9.9.9", "POD_IP": "10.1.2.3"}
    assert await advertised(url, store, environ) == "http://10.1.2.3:8000/mcp?x=1"
    environ["MCP_DISCOVERY_ADVERTISE_HOST"] = "catalog.internal"
    assert await advertised(url, store, environ) == "http://catalog.internal:8000/mcp?x=1"


async def test_an_address_of_version_6_is_bracketed() -> None:
    environ = {"POD_IP": "fd00::7"}
    assert await advertised(LOCAL, REMOTE, environ) == "http://[fd00::7]:8000/mcp"


@pytest.mark.parametrize("value", ["", "http://10.0.0.1", "a b", "10.0.0.1:8000", "127.0.0.1"])
async def test_what_is_no_address_is_ignored(value: str) -> None:
    environ = {"MCP_DISCOVERY_ADVERTISE_HOST": value, "POD_IP": "10.1.2.3"}
    assert await advertised(LOCAL, REMOTE, environ) == "http://10.1.2.3:8000/mcp"


@pytest.mark.parametrize("url", ["http://10.0.0.9:8000/mcp", "https://mcp.example/mcp"])
async def test_a_host_that_means_something_elsewhere_stays(url: str) -> None:
    assert await advertised(url, REMOTE, {"POD_IP": "10.1.2.3"}) == url


@pytest.mark.parametrize(
    "store",
    [
        "embedded:",
        "embedded:///var/lib/mcp.db",
        "http://127.0.0.1:4000",
        "http://localhost:4000",
        "consul://[::1]:8500",
        "etcd://127.0.0.1:2379,127.0.0.2:2379/mcp",
    ],
)
async def test_loopback_for_a_local_store(store: str) -> None:
    assert await advertised(LOCAL, store) == LOCAL
    assert await advertised("http://0.0.0.0:8000/mcp", store) == LOCAL
    assert await advertised("http://[::]:8000/mcp", store) == "http://[::1]:8000/mcp"


@pytest.mark.parametrize(
    "store", [REMOTE, "etcd://127.0.0.1:2379,192.0.2.77:2379", "consul://no-such-host.invalid:1"]
)
async def test_the_route_to_a_remote_store(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own = "198.51.100.5"  # A machine without a route would otherwise decide this test.

    def routed(family: int, *_: object) -> str | None:
        return own if family == socket.AF_INET else None

    monkeypatch.setattr(advertise, "_source_address", routed)
    assert await advertised(LOCAL, store) == f"http://{own}:8000/mcp"


async def test_a_machine_without_a_route_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(advertise, "_source_address", lambda *_: None)
    with pytest.raises(InvalidInputError, match="give --advertise-url"):
        await advertised(LOCAL, REMOTE)


def test_the_kernel_is_asked_for_the_route() -> None:
    address = advertise._source_address(socket.AF_INET, socket.SOCK_DGRAM, 0, ("127.0.0.9", 9))
    assert address is not None
    assert ipaddress.ip_address(address).is_loopback


@pytest.mark.parametrize(
    ("option", "health_url", "expected"),
    [
        (None, "http://127.0.0.1:8000/health", "http://10.1.2.3:8000/health"),
        (None, "http://elsewhere:1/health", "http://elsewhere:1/health"),
        ("https://a.example/mcp", "http://127.0.0.1:8000/health", None),
        ("https://a.example/mcp", "http://elsewhere:1/health", "http://elsewhere:1/health"),
        (None, None, None),
    ],
)
async def test_the_health_url_moves_along(
    option: str | None, health_url: str | None, expected: str | None
) -> None:
    settings = SidecarSettings(url=LOCAL, advertise_url=option)
    chosen = await advertise.choose(settings, REMOTE, {"POD_IP": "10.1.2.3"})
    assert chosen.health_url(health_url) == expected


async def test_the_record_says_it_and_a_closed_door_is_the_reason(
    store: EmbeddedStore, seen: Seen, server: McpServer, caplog: pytest.LogCaptureFixture
) -> None:
    environ = {"POD_IP": "127.0.0.2"}  # The server listens at 127.0.0.1 only.
    async with sidecar(store, server.url, environ=environ):
        one = await seen.until(lambda _: True, within=3.0, what="being registered")
        assert one.record.endpoint.url == f"http://127.0.0.2:{server.port}/mcp"
        assert f"advertising {one.record.endpoint.url} (from POD_IP)" in caplog.text
        assert one.health.status is Status.DEGRADED
        assert one.health.reason.endswith("not at its advertised address: connection refused")


async def test_beside_a_consul_agent_on_loopback_its_address_in_the_cluster_is_taken() -> None:
    config = {"advertise_addr": "192.0.2.7"}  # for documentation: nobody is there, nobody is asked
    settings = SidecarSettings(url=LOCAL)
    async with ConsulServer(config=config) as server, open_store(server.store_url) as store:
        chosen = await advertise.choose(settings, store.url, {})
        assert chosen.host == "127.0.0.1"
        known = await advertise.as_known_to(store, chosen)
        assert known.url(LOCAL) == LOCAL.replace("127.0.0.1", "192.0.2.7")
        given = await advertise.choose(settings, store.url, {"POD_IP": "127.0.0.2"})
        assert await advertise.as_known_to(store, given) == given


async def test_an_agent_that_is_away_is_asked_until_it_answers() -> None:
    async with ConsulServer() as server, open_store(server.store_url) as store:
        await server.stop()
        chosen = await advertise.choose(SidecarSettings(url=LOCAL), store.url, {})
        asking = asyncio.create_task(advertise.as_known_to(store, chosen))
        await server.start()
        assert await bounded(asking, 10) == chosen  # known by loopback: it stays

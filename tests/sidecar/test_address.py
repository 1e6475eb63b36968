"""The advertised address is tried: what answers otherwise there makes the server degraded."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.health import ANSWERS, Status
from mcp_discovery.record import Auth
from mcp_discovery.sidecar import address
from tests.servers.odd import Options
from tests.servers.process import sdk
from tests.servers.recording import RecordingServer, recording
from tests.sidecar.harness import Seen, sidecar, watching
from tests.stores.waiting import until


@pytest.fixture
async def server() -> AsyncIterator[RecordingServer]:
    """The server that the sidecar keeps registered."""
    async with recording() as running:
        yield running


def url_of(server: RecordingServer, host: str = "127.0.0.1", path: str = "/mcp") -> str:
    """Where the server answers."""
    return f"http://{host}:{server.port}{path}"


async def found_at(
    store: EmbeddedStore, seen: Seen, server: RecordingServer, advertised: str, **more: Any
) -> tuple[str, str]:
    """Status and reason with which a server that is advertised so is registered at first."""
    async with sidecar(store, url_of(server), advertise_url=advertised, name="x", **more):
        one = await seen.until(lambda one: one, within=20, what="being registered")
        return one.health.status.value, one.health.reason


async def test_another_way_to_the_same_server_is_fine(
    store: EmbeddedStore, seen: Seen, server: RecordingServer
) -> None:
    at = url_of(server, "localhost", "/public?sig=%2F")
    assert await found_at(store, seen, server, at) == ("healthy", ANSWERS)
    assert "POST /public?sig=%2F" in server.targets


async def test_what_does_not_lead_to_it(
    store: EmbeddedStore, seen: Seen, server: RecordingServer
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        status, reason = await found_at(
            store, seen, server, f"http://127.0.0.1:{free.getsockname()[1]}/mcp"
        )
    assert status == "degraded"
    assert reason == f"{ANSWERS}, but not at its advertised address: connection refused"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"fail": 404}, "HTTP 404 from the MCP endpoint"),
        ({"fail": 502}, "HTTP 502 from the MCP endpoint"),
        ({"fail": 401}, "HTTP 401 from the MCP endpoint: it wants credentials"),
        ({"garbage": True}, "answered, but not MCP"),
        ({"close": True}, "the server closed the connection without an answer"),
    ],
)
async def test_a_wrong_answer_there(
    store: EmbeddedStore,
    seen: Seen,
    server: RecordingServer,
    options: dict[str, Any],
    says: str,
) -> None:
    async with recording(**options) as other:
        status, reason = await found_at(store, seen, server, url_of(other))
    assert status == "degraded"
    assert reason.startswith(f"{ANSWERS}, but not at its advertised address: {says}")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (421, b""),
        (403, b"Invalid Host: x"),
        (400, b"Invalid host header"),
        (403, b"invalid_host"),
        (403, b"Access is only allowed at localhost:8931"),
    ],
)
async def test_a_host_name_that_the_server_does_not_accept(
    store: EmbeddedStore, seen: Seen, server: RecordingServer, status: int, body: bytes
) -> None:
    async def refuse(_: web.BaseRequest) -> web.Response:
        return web.Response(status=status, body=body)

    runner = web.ServerRunner(web.Server(refuse))
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        at = f"http://127.0.0.1:{runner.addresses[0][1]}/mcp"
        found = await found_at(store, seen, server, at, auth=Auth(type="bearer"))
    finally:
        await runner.cleanup()
    assert found[0] == "degraded"
    assert found[1].endswith(
        f"HTTP {status} from the MCP endpoint: it does not accept the host name that it was asked "
        "by"
    )


async def test_the_sdks_own_protection_against_dns_rebinding(
    store: EmbeddedStore, seen: Seen
) -> None:
    async with sdk() as real:
        named = real.url.replace("127.0.0.1", socket.gethostname())
        async with sidecar(store, real.url, advertise_url=named):
            one = await seen.until(lambda one: one, within=20, what="being registered")
            assert one.health.status is Status.DEGRADED
            assert "its advertised address: HTTP 421" in one.health.reason


async def test_another_server_there(
    store: EmbeddedStore, seen: Seen, server: RecordingServer
) -> None:
    async with sdk() as other:
        status, reason = await found_at(store, seen, server, other.url)
    assert status == "degraded"
    assert "but its advertised address leads to another server, '" in reason


async def test_what_cannot_be_tried_from_here_is_said_and_no_more(
    store: EmbeddedStore, seen: Seen, server: RecordingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(address, "_TIMEOUT", 1.0)
    told = f"{ANSWERS}; its advertised address cannot be tried from here: "
    found = await found_at(store, seen, server, "http://nothing.invalid/mcp")
    assert found == ("healthy", f"{told}the host name does not resolve")
    async with (
        recording(hang=True) as silent,
        EmbeddedStore() as other,
        watching(other) as there,
        sidecar(other, url_of(server), advertise_url=url_of(silent), name="x"),
    ):
        one = await there.until(
            lambda one: one.health.reason != ANSWERS, within=20, what="being told"
        )
        assert one.health.status is Status.HEALTHY
        assert one.health.reason == f"{told}no answer within 1 s"


async def test_a_trial_that_takes_long_does_not_hold_up_the_registration(
    store: EmbeddedStore, seen: Seen, server: RecordingServer
) -> None:
    async with recording(hang=True) as other:
        began = time.monotonic()
        assert await found_at(store, seen, server, url_of(other)) == ("healthy", ANSWERS)
        assert time.monotonic() - began < address._HOLD + 5


async def test_no_credential_goes_to_the_advertised_address(
    store: EmbeddedStore, seen: Seen
) -> None:
    async with recording(token="sesame") as server, recording(token="sesame") as other:
        found = await found_at(store, seen, server, url_of(other), server_token="sesame")
        assert found == ("healthy", ANSWERS)  # as its record says, it asks for credentials there
        assert other.targets
        assert all("Authorization" not in each for each in other.headers)


async def test_it_can_be_turned_off(
    store: EmbeddedStore, seen: Seen, server: RecordingServer
) -> None:
    async with recording(fail=404) as other:
        found = await found_at(store, seen, server, url_of(other), try_advertised=False)
        assert found == ("healthy", ANSWERS)
        assert other.targets == []


async def test_the_probed_address_itself_is_not_tried(
    store: EmbeddedStore, seen: Seen, server: RecordingServer
) -> None:
    asked = len(server.targets)
    assert await found_at(store, seen, server, url_of(server)) == ("healthy", ANSWERS)
    assert server.counts["server/discover"] <= 3, server.targets[asked:]


@pytest.mark.parametrize(
    ("host", "knows_ca", "status", "says"),
    [
        ("localhost", True, "healthy", ANSWERS),
        ("127.0.0.1", True, "degraded", "its certificate is for localhost, not for 127.0.0.1"),
        ("localhost", False, "healthy", "cannot be tried from here: its certificate is signed by"),
    ],
)
async def test_a_certificate_there_is_verified_as_agents_do(
    store: EmbeddedStore,
    seen: Seen,
    server: RecordingServer,
    tmp_path: Path,
    host: str,
    knows_ca: bool,
    status: str,
    says: str,
) -> None:
    authority, file = trustme.CA(), str(tmp_path / "ca.pem")
    authority.cert_pem.write_to_path(file)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(serving)
    async with recording(tls=serving) as other:
        at = url_of(other, host).replace("http:", "https:")
        found = await found_at(store, seen, server, at, server_ca=file if knows_ca else None)
    assert found[0] == status
    assert says in found[1]


async def test_it_is_tried_again_and_recovers(
    store: EmbeddedStore, seen: Seen, server: RecordingServer
) -> None:
    async with (
        recording(fail=502) as other,
        sidecar(store, url_of(server), advertise_url=url_of(other), name="x"),
    ):
        await seen.until_status(Status.DEGRADED, within=20)
        other.options = Options()
        await seen.until_status(Status.HEALTHY, within=20)


async def test_an_address_that_turns_bad_is_found_and_costs_little(
    store: EmbeddedStore, seen: Seen, server: RecordingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(address, "_EVERY", 1.0)
    async with (
        recording() as other,
        sidecar(store, url_of(server), advertise_url=url_of(other), name="x"),
    ):
        await seen.until_status(Status.HEALTHY, within=20)
        other.targets.clear()

        async def tried() -> bool:
            return len(other.targets) >= 2

        await until(tried, timeout=20, what="two more trials")
        other.options = Options(fail=500)
        await seen.until_status(Status.DEGRADED, within=20)


@pytest.mark.parametrize("era", ["legacy", "both"])
async def test_no_session_is_left_behind(store: EmbeddedStore, seen: Seen, era: str) -> None:
    async with recording(era=era) as server:
        at = url_of(server, path="/elsewhere")
        async with sidecar(store, url_of(server), advertise_url=at, name="x"):
            await seen.until_status(Status.HEALTHY, within=20)
            assert len(server.sessions) <= 1
            there = [each for each in server.targets if each.endswith("/elsewhere")]
            assert len(there) <= 4, there

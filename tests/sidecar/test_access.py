"""Credentials and certificates: where they are sent, and what is said where they are missing."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.errors import InvalidInputError
from mcp_discovery.health import ANSWERS, Status
from mcp_discovery.probe.verdict import HEALTH_URL_ASKS
from mcp_discovery.sidecar.settings import SidecarSettings
from tests.servers.recording import RecordingServer, recording
from tests.sidecar.harness import Seen, sidecar
from tests.stores.waiting import until

pytestmark = pytest.mark.slow  # what is tested takes its seconds


def signed(server: RecordingServer, path: str) -> set[str | None]:
    """The Authorization of every request to ``path``."""
    asked = zip(server.targets, server.headers, strict=True)
    return {
        headers.get("Authorization") for target, headers in asked if target.endswith(f" {path}")
    }


async def asked(server: RecordingServer, target: str) -> None:
    """Waits until the server is asked for ``target`` from now on."""
    server.targets.clear()
    server.headers.clear()

    async def there() -> bool:
        return target in server.targets

    await until(there, timeout=20, what=f"{target} being asked for")


async def test_a_health_url_of_the_same_origin_gets_the_servers_token(
    store: EmbeddedStore, seen: Seen
) -> None:
    async with recording() as server:
        at = f"http://127.0.0.1:{server.port}"
        async with sidecar(store, f"{at}/mcp", health_url=f"{at}/health", server_token="sesame"):
            await seen.until_status(Status.HEALTHY, within=20)
            await asked(server, "GET /health")
            assert signed(server, "/health") == {"Bearer sesame"}


@pytest.mark.parametrize("status", [200, 302, 307, 401])
async def test_another_origin_gets_nothing(store: EmbeddedStore, seen: Seen, status: int) -> None:
    async with recording() as server, recording(health=status) as other:
        other.health_location = f"http://127.0.0.1:{server.port}/health"
        health_url = f"http://127.0.0.1:{other.port}/health"
        url = f"http://127.0.0.1:{server.port}/mcp"
        async with sidecar(store, url, health_url=health_url, server_token="sesame"):
            await seen.until(lambda one: one, within=20, what="being registered")
            await asked(other, "GET /health")
            assert signed(other, "/health") == {None}
            assert signed(server, "/health") == set()


@pytest.mark.parametrize("status", [401, 403, 407])
async def test_a_health_url_that_asks_for_credentials_is_no_sickness(
    store: EmbeddedStore, seen: Seen, status: int
) -> None:
    async with recording(health=status) as server:
        at = f"http://127.0.0.1:{server.port}"
        async with sidecar(store, f"{at}/mcp", health_url=f"{at}/health"):
            one = await seen.until_status(Status.HEALTHY, within=20)
            assert one.health.reason == f"{ANSWERS}; {HEALTH_URL_ASKS}"


async def test_a_token_for_the_health_url_is_followed_and_goes_there_alone(
    store: EmbeddedStore, seen: Seen, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    async with recording() as server, recording(token="second") as other:
        given: dict[str, Any] = {
            "health_url": f"http://127.0.0.1:{other.port}/health",
            "health_token_file": str(file),
            "server_token": "sesame",
        }
        async with sidecar(store, f"http://127.0.0.1:{server.port}/mcp", **given):
            await asked(other, "GET /health")
            assert signed(other, "/health") == {"Bearer first"}
            file.write_text("second\n")

            async def rotated() -> bool:
                return "Bearer second" in signed(other, "/health")

            await until(rotated, timeout=20, what="the new token")
            assert signed(server, "/mcp") == {"Bearer sesame"}


async def test_a_refused_token_is_told_as_that(store: EmbeddedStore, seen: Seen) -> None:
    async with recording(health=401) as server:
        at = f"http://127.0.0.1:{server.port}"
        async with sidecar(store, f"{at}/mcp", health_url=f"{at}/health", health_token="s3cr3t"):
            one = await seen.until_status(Status.DEGRADED, within=20)
            assert one.health.reason == "the health endpoint refuses the credentials with HTTP 401"


@pytest.mark.parametrize("transport", ["streamable-http", "websocket", "sse"])
async def test_a_private_ca_that_is_rotated_and_another_name(
    store: EmbeddedStore, seen: Seen, tmp_path: Path, transport: str
) -> None:
    old, new = trustme.CA(), trustme.CA()
    file = tmp_path / "ca.pem"
    old.cert_pem.write_to_path(str(file))
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    old.issue_cert("server.internal").configure_cert(serving)
    era = "sse" if transport == "sse" else "both"
    async with recording(tls=serving, era=era) as server:
        scheme = "wss" if transport == "websocket" else "https"
        url = f"{scheme}://127.0.0.1:{server.port}/mcp"
        given: dict[str, Any] = {
            "transport": transport,
            "health_url": f"https://127.0.0.1:{server.port}/health",
            "server_ca": str(file),
            "server_name": "server.internal",
            "name": "private",
        }
        async with sidecar(store, url, **given):
            await seen.until_status(Status.HEALTHY, within=20)
            new.issue_cert("server.internal").configure_cert(serving)
            server.drop_connections()
            told = await seen.until(
                lambda one: "CA that is not trusted" in one.health.reason,
                within=20,
                what="another CA being told",
            )
            assert told.health.status is not Status.HEALTHY
            new.cert_pem.write_to_path(str(file))
            await seen.until_status(Status.HEALTHY, within=20)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"server_name": "a b"}, "no name in a certificate"),
        ({"server_name": "https://a"}, "no name in a certificate"),
        ({"server_name": "a", "url": "http://h/"}, "--server-name is for a URL"),
        ({"server_ca": "/ca.pem", "url": "http://h/"}, "--server-ca is for https://"),
        ({"health_token": "x"}, "give --health-url"),
        ({"health_token": "a\nb", "health_url": "http://h/"}, "no HTTP header carries"),
    ],
)
def test_what_does_not_fit_together(given: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        SidecarSettings(**{"url": "https://h/mcp", **given})


async def test_a_file_that_cannot_be_read_ends_it(store: EmbeddedStore, tmp_path: Path) -> None:
    for file in (tmp_path, tmp_path / "none"):
        async with sidecar(store, "https://127.0.0.1:9/mcp", server_ca=str(file)) as running:
            assert await running.code(20) == 2

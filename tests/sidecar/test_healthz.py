"""The sidecar tells its supervisor whether it lives and whether its server is listed."""

from __future__ import annotations

import errno
import socket
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.health import Status
from mcp_discovery.sidecar import healthz
from tests.servers.process import McpServer
from tests.sidecar.harness import Seen, sidecar
from tests.stores import ports
from tests.stores.waiting import until


async def asked(port: int, path: str) -> tuple[int, dict[str, Any]]:
    """What the sidecar answers at ``path``."""
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"http://127.0.0.1:{port}{path}") as response,
    ):
        assert response.headers["Server"] == "mcp-discovery"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        return response.status, await response.json()


async def test_ready_when_registered(store: EmbeddedStore, seen: Seen, tmp_path: Path) -> None:
    port = ports.draw()
    server = McpServer(("-m", "tests.servers.odd"), tmp_path)
    async with sidecar(
        store, server.url, health_port=port.number, ttl=1.0, probe_interval=0.5
    ) as running:
        try:

            async def up() -> bool:
                return (await asked(port.number, "/healthz"))[0] == 200

            await until(up, timeout=3.0, what="answering /healthz")
            waiting = {"status": "not ready", "reason": "waiting for the MCP server"}
            assert await asked(port.number, "/readyz") == (503, waiting)
            await server.start()
            await seen.until_status(Status.HEALTHY, within=2.0)
            assert await asked(port.number, "/readyz") == (200, {"status": "ready"})
            assert await asked(port.number, "/healthz") == (200, {"status": "live"})
            await store.close()

            async def unready() -> bool:
                return (await asked(port.number, "/readyz"))[0] == 503

            await until(unready, timeout=3.0, what="TTL without a heartbeat")
            _, body = await asked(port.number, "/readyz")
            assert body["reason"] == "embedded:: this store object is closed"
            assert not running.task.done()
        finally:
            await server.close()
            port.release()


async def test_a_port_in_use_is_one_sentence(
    store: EmbeddedStore, server: McpServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with sidecar(store, server.url, health_port=server.port) as running:
        assert await running.code(2.0) == 6
    assert f"cannot listen on 127.0.0.1:{server.port} for health checks (Address" in caplog.text
    assert "--health-port" in caplog.text


async def test_nothing_is_registered_before_the_port_is_had(
    store: EmbeddedStore, server: McpServer, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sidecar that cannot have its port must not leave an entry behind, however late it knows."""

    def taken(host: str, port: int) -> list[socket.socket]:
        raise OSError(errno.EADDRINUSE, "in use")

    monkeypatch.setattr(healthz, "listeners", taken)
    async with sidecar(store, server.url, health_port=1) as running:
        assert await running.code(5.0) == 6
    assert not seen.history

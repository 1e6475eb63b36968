"""The compose file as Compose runs it. Needs it and a Docker daemon: -m docker."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import pytest

from tests.deploy.compose import service_processes
from tests.deploy.compose.project import FILE, STORES
from tests.deploy.image import daemon
from tests.programs import AskedFacade
from tests.stores import ports
from tests.stores.container import daemon_answers
from tests.stores.waiting import until

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image of deploy/docker, by the daemon."""
    assert daemon_answers(), "no Docker daemon answers: start one, or set DOCKER_HOST"
    return daemon.build(tmp_path_factory.mktemp("daemon"))


@pytest.mark.parametrize("store", list(STORES))
async def test_up_a_crash_and_down(store: str, built: str, tmp_path: Path) -> None:
    profile, url = STORES[store]
    facade_port = ports.draw()
    environment = {
        "COMPOSE_PROJECT_NAME": f"test-{uuid.uuid4().hex[:8]}",
        "MCP_DISCOVERY_IMAGE": built,
        "FACADE_PORT": str(facade_port.number),
        "CONSUL_PORT": str(ports.draw().number),
        "DRAIN": "1s",
    }
    if profile:
        service_processes.store_image(profile, tmp_path / "root")  # type: ignore[arg-type]
        local = await asyncio.to_thread(daemon.store, profile, tmp_path / "root")
        environment |= {
            "COMPOSE_PROFILES": profile,
            "STORE": str(url),
            f"{profile.upper()}_IMAGE": local,
        }

    async def compose(*words: str) -> str:
        done = await asyncio.to_thread(
            daemon.compose, "--file", str(FILE), *words, environment=environment
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    try:
        await compose("up", "--detach", "--wait", "--no-build", "--quiet-pull")
        asked = AskedFacade(f"http://127.0.0.1:{facade_port.number}", None)  # type: ignore[arg-type]

        async def statuses() -> dict[str, str]:
            return {each["name"]: each["status"] for each in (await asked.servers()).values()}

        async def listed() -> bool:
            return await statuses() == {"analytics": "healthy", "product-catalog": "healthy"}

        await until(listed, timeout=30, what="both servers being listed")
        await compose("kill", "analytics")

        async def down() -> bool:
            return (await statuses())["analytics"] == "down"

        await until(down, timeout=20, what="the crash being seen")
        await compose("start", "analytics")
        await until(listed, timeout=30, what="the server being listed again")
        await compose("stop", "analytics-sidecar")
        assert set(await statuses()) == {"product-catalog"}
    finally:
        said = await compose("down", "--volumes")
        for name in ("analytics", "product-catalog"):
            ends = [line for line in said.splitlines() if line.rstrip().endswith("Stopped")]
            order = " ".join(ends)
            assert order.find(f"{name}-sidecar") < order.find(f"{name}-1")

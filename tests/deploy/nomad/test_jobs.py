"""The Nomad jobs: Nomad's own parser reads them, and their tasks run and stop in Nomad's order."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from mcp_discovery.cli import options
from tests.deploy.image.building import Image
from tests.deploy.image.running import ended, running
from tests.deploy.nomad import jobs
from tests.programs import AskedFacade
from tests.stores import ConsulServer, ports
from tests.stores.waiting import until

pytestmark = pytest.mark.xdist_group("image")
_SECOND = 10**9


def _told(value: Any, known: dict[str, str]) -> Any:
    """``value`` with Nomad's run-time variables put in; a variable that is not known raises."""
    if isinstance(value, list):
        return [_told(each, known) for each in value]
    return re.sub(r"\$\{(\w+)\}", lambda found: known[found[1]], value)


@pytest.mark.parametrize("path", [jobs.SERVER, jobs.FACADE], ids=lambda path: path.name)
def test_nomad_reads_it(path: Path) -> None:
    job = jobs.job(path, image="mcp-discovery:9", count="3")
    (group,) = job["TaskGroups"]
    assert group["Count"] == 3
    labels = {port["Label"] for network in group["Networks"] for kind in
              ("DynamicPorts", "ReservedPorts") for port in network[kind] or []}  # fmt: skip
    assert set(re.findall(r"NOMAD_(?:PORT|ADDR|IP)_(\w+)", json.dumps(job))) <= labels
    for task in group["Tasks"]:
        assert task["Config"]["image"] == "mcp-discovery:9"
        assert task["Config"]["readonly_rootfs"] and task["Config"]["cap_drop"] == ["all"]


def test_nomad_would_complain(tmp_path: Path) -> None:
    broken = tmp_path / "broken.nomad.hcl"
    broken.write_text(jobs.SERVER.read_text().replace("kill_timeout =", "kil_timeout ="))
    with pytest.raises(ValueError, match="kil_timeout"):
        jobs.job(broken)


def test_the_sidecar_is_stopped_first_and_given_the_time() -> None:
    tasks = jobs.tasks(jobs.job(jobs.SERVER))
    # Nomad stops the leader and waits for it, then the others; tasks of hooks come last.
    assert {name for name, task in tasks.items() if task["Leader"]} == {"sidecar"}
    assert all(task["Lifecycle"] is None for task in tasks.values())
    arguments = tasks["sidecar"]["Config"]["args"]
    drain = options.seconds(arguments[arguments.index("--drain") + 1])
    assert tasks["sidecar"]["KillTimeout"] >= (drain + 10) * _SECOND


async def test_they_run_and_stop_in_order(
    image: Image, consul_server: ConsulServer, namespace: str, tmp_path: Path
) -> None:
    store = f"{consul_server.store_url}/{namespace}"
    mcp, health, http = (ports.draw() for _ in range(3))
    known = {
        "NOMAD_IP_http": "127.0.0.1",
        "NOMAD_PORT_http": str(http.number),
        "NOMAD_PORT_mcp": str(mcp.number),
        "NOMAD_ADDR_mcp": f"127.0.0.1:{mcp.number}",
        "NOMAD_PORT_health": str(health.number),
    }
    facade_task = jobs.tasks(jobs.job(jobs.FACADE, store=store))["facade"]
    tasks = jobs.tasks(jobs.job(jobs.SERVER, store=store))
    sidecar_task, server_task = tasks["sidecar"]["Config"], tasks["server"]["Config"]
    environment = {name: _told(value, known) for name, value in facade_task["Env"].items()}
    # What the docker driver makes of a task: its command and arguments behind the entrypoint.
    async with (
        running(
            image,
            *(tmp_path / "facade", facade_task["Config"]["command"]),
            *_told(facade_task["Config"]["args"], known),
            environment=environment,
        ) as facade,
        running(
            image,
            *(tmp_path / "sidecar", sidecar_task["command"], *_told(sidecar_task["args"], known)),
        ) as sidecar,
        running(
            image,
            *(tmp_path / "server", *_told(server_task["args"], known)),
            entrypoint=server_task["entrypoint"],
        ) as server,
    ):
        asked = AskedFacade(f"http://127.0.0.1:{http.number}", None)  # type: ignore[arg-type]

        async def urls() -> list[str]:
            return [entry["url"] for entry in (await asked.servers("tags=products")).values()]

        async def listed() -> bool:
            return await urls() == [f"http://127.0.0.1:{mcp.number}/mcp"]

        await until(listed, timeout=40, what="the server being listed at its advertised address")
        nobody = {"MCP_DISCOVERY_HEALTH_PORT": str(ports.draw().number)}
        assert (await ended(image, image.health, **nobody, **environment)).code == 0
        assert await sidecar.stop(_patience(tasks)) == 0
        assert await asked.servers() == {}
        assert server.process.returncode is None
        assert await server.stop() == 0
        assert await facade.stop() == 0


def _patience(tasks: dict[str, dict[str, Any]]) -> float:
    """How long Nomad gives the sidecar to end, in seconds."""
    return float(tasks["sidecar"]["KillTimeout"] / _SECOND)

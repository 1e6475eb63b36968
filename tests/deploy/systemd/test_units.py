"""The units: systemd accepts them, rates them, and what they start runs in their sandbox."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mcp_discovery.cli import options
from tests.deploy.systemd import unit
from tests.programs import DEBUGGING, ENVIRONMENT, ROOT, AskedFacade, command
from tests.servers.process import example
from tests.stores import ports
from tests.stores.waiting import until

FACADE, SIDECAR = "mcp-discovery-facade.service", "mcp-discovery-sidecar@.service"
_DROP_INS = "store-token.conf", "store-tls.conf"
#: systemd's own scale, 0 to 10, of what a service might do to the machine.
_EXPOSURE = 1.3


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine on which the files were installed as their first lines say."""
    here = tmp_path / "machine"
    units = here / "etc/systemd/system"
    units.mkdir(parents=True)
    for name in (FACADE, SIDECAR):
        shutil.copy(unit.FOLDER / name, units)
        drop_in = units / f"{name}.d"
        drop_in.mkdir()
        for conf in _DROP_INS:
            shutil.copy(unit.FOLDER / conf, drop_in)
    system = here / "usr/lib/systemd/system"
    system.mkdir(parents=True)
    for each in Path("/lib/systemd/system").glob("*"):
        if each.suffix in (".target", ".slice", ".mount") and each.is_file():
            shutil.copy(each, system)
    for name in ("opt/mcp-discovery/bin/mcp-discovery", "bin/kill"):
        program = here / name
        program.parent.mkdir(parents=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    return here


def _analyze(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *words, f"--root={root}"], capture_output=True, text=True
    )


@pytest.mark.parametrize("name", [FACADE, SIDECAR.replace("@", "@products")])
def test_systemd_accepts_it(root: Path, name: str) -> None:
    done = _analyze(root, "verify", "--man=no", name)
    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_would_complain(root: Path) -> None:
    path = root / "etc/systemd/system" / FACADE
    path.write_text(path.read_text().replace("DynamicUser=yes", "DynamicUsers=yes"))
    done = _analyze(root, "verify", "--man=no", FACADE)
    assert "DynamicUsers" in done.stderr


@pytest.mark.parametrize("name", [FACADE, SIDECAR.replace("@", "@products")])
def test_it_is_hardly_exposed(root: Path, name: str) -> None:
    done = _analyze(root, "security", "--offline=true", "--no-pager", name)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found is not None, done.stderr
    assert float(found[1]) <= _EXPOSURE


async def test_a_sidecar_has_time_to_drain() -> None:
    told = unit.environment_file("sidecar.env")
    given = options.seconds(unit.read(SIDECAR).one("TimeoutStopSec"))
    assert given >= options.seconds(told["MCP_DISCOVERY_DRAIN"]) + 10


@pytest.mark.parametrize(
    ("name", "role"),
    [("facade.env", "facade"), ("sidecar.env", "sidecar")],
)
async def test_the_sample_files_name_options_that_there_are(name: str, role: str) -> None:
    told = await command(role, "--help", COLUMNS="300")
    every = "".join((unit.FOLDER / each).read_text() for each in (name, *_DROP_INS))
    for variable in re.findall(r"\b(MCP_DISCOVERY_\w+)=", every):
        assert variable in told.out, variable


@asynccontextmanager
async def _service(
    name: str, folder: Path, environment: dict[str, str], *bound: tuple[Path, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """What the unit starts, with its environment and in its sandbox, by this run's own Python."""
    one = unit.read(name)
    installed, *arguments = one.command()
    assert installed == "/opt/mcp-discovery/bin/mcp-discovery"
    words, descriptor = unit.sandbox(one, folder / f"{name}.bpf", *bound)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = min(hard, int((one.all("LimitNOFILE") or ["1024"])[-1]))
    with (folder / f"{name}.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *("prlimit", f"--nofile={files}:{files}", *words),
            *(sys.executable, "-m", "mcp_discovery.cli", *arguments),
            cwd=ROOT,
            env=ENVIRONMENT | {"PYTHONDONTWRITEBYTECODE": "1", **DEBUGGING} | environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(descriptor,),
        )
    os.close(descriptor)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_both_run_in_their_sandbox(tmp_path: Path) -> None:
    port, health = ports.draw(), ports.draw()
    state = tmp_path / "state"
    state.mkdir()
    place = "/var/lib/mcp-discovery"
    facade_told = unit.environment_file("facade.env")
    assert facade_told["MCP_DISCOVERY_STORE"] == f"embedded://{place}/list.db"
    assert unit.read(FACADE).one("StateDirectory") == "mcp-discovery"
    # A folder of this machine stands for the state directory, which only systemd could make.
    facade_told |= {
        "MCP_DISCOVERY_PORT": str(port.number),
        "MCP_DISCOVERY_STORE": "embedded:///tmp/state/list.db",
    }
    async with (
        example("product_catalog") as server,
        _service(FACADE, tmp_path, facade_told, (state, "/tmp/state")),
    ):
        asked = AskedFacade(f"http://127.0.0.1:{port.number}", None)  # type: ignore[arg-type]
        sidecar_told = unit.environment_file("sidecar.env") | {
            "MCP_DISCOVERY_URL": server.url,
            "MCP_DISCOVERY_STORE": asked.url,
            "MCP_DISCOVERY_DRAIN": "1s",
            "MCP_DISCOVERY_ID": "one",
            "MCP_DISCOVERY_HEALTH_PORT": str(health.number),
        }
        async with _service(SIDECAR, tmp_path, sidecar_told) as sidecar:

            async def listed() -> bool:
                return "one" in await asked.servers("tags=products")

            await until(listed, timeout=30, what="the server being listed")
            _tell(sidecar.pid, signal.SIGTERM)

            async def gone() -> bool:
                return await asked.servers() == {}

            await until(gone, timeout=15, what="the server being drained and gone")
    assert (state / "list.db").exists()
    logs = "".join(path.read_text() for path in tmp_path.glob("*.log"))
    assert "cannot be raised" not in logs
    assert "Traceback" not in logs, logs


def _tell(pid: int, number: int) -> None:
    """Signals the program at the end of a chain of processes that each wait for the next."""
    while children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        pid = int(children[0])
    os.kill(pid, number)

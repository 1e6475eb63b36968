"""What the Dockerfile builds runs: both roles, on a read-only root, as nobody in particular."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.deploy.image.building import Image
from tests.deploy.image.built import REVISION
from tests.deploy.image.running import Container, ended, running
from tests.programs import AskedFacade
from tests.stores import ports
from tests.stores.waiting import until

pytestmark = pytest.mark.xdist_group("image")


#: The image above its base: all packages with their bytecode, in bytes on the disk.
_LARGEST = 300 * 2**20


def _asked(url: str, container: Container) -> AskedFacade:
    return AskedFacade(url, container)  # type: ignore[arg-type]  # it is asked over HTTP alone


async def test_a_sidecar_without_its_server_is_well_and_not_ready(
    image: Image, tmp_path: Path
) -> None:
    nobody, health = ports.draw(), ports.draw()
    environment = {"MCP_DISCOVERY_HEALTH_PORT": str(health.number)}
    async with running(
        image,
        *(tmp_path / "log", "sidecar", "--store", f"http://127.0.0.1:{nobody.number}"),
        *("--url", f"http://127.0.0.1:{nobody.number}/mcp"),
        environment=environment,
    ) as sidecar:

        async def well() -> bool:
            return (await ended(image, image.health, **environment)).code == 0

        await until(well, timeout=20, what="the sidecar being well")
        not_ready = await ended(image, [*image.health, "--ready"], **environment)
        assert not_ready.code == 1
        assert "not ready" in not_ready.err
        assert await sidecar.stop() == 0


async def test_an_embedded_file_lives_in_its_volume(image: Image, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    bound = [(volume, "/var/lib/mcp-discovery")]
    port, nobody = ports.draw(), ports.draw()
    environment = {
        "MCP_DISCOVERY_PORT": str(port.number),
        "MCP_DISCOVERY_HEALTH_PORT": str(nobody.number),
    }
    for turn in range(2):
        async with running(
            image,
            tmp_path / f"log-{turn}",
            *("facade", "--store", "embedded:///var/lib/mcp-discovery/list.db"),
            bound=bound,
            environment=environment,
        ) as facade:
            asked = _asked(f"http://127.0.0.1:{port.number}", facade)

            async def ready(asked: AskedFacade = asked) -> bool:
                return bool((await asked.get("/ready"))["status"] == "ready")

            await until(ready, timeout=20, what="the facade answering")
            assert (await ended(image, image.health, **environment)).code == 0
            assert (await ended(image, [*image.health, "--ready"], **environment)).code == 0
            assert await facade.stop() == 0
            assert (await ended(image, image.health, **environment)).code == 3
    assert (volume / "list.db").exists()


async def test_nothing_is_writable_and_nobody_is_root(image: Image) -> None:
    script = (
        "import os\n"
        "assert os.getuid() == os.getgid() == 65532\n"
        "for folder in ('/', '/opt/mcp-discovery', '/tmp', '/var/lib/mcp-discovery'):\n"
        "    try: open(folder + '/x', 'w')\n"
        "    except OSError: continue\n"
        "    raise SystemExit(folder + ' is writable')\n"
    )
    said = await ended(image, ["/opt/mcp-discovery/bin/python", "-c", script])
    assert said.code == 0, said.err


async def test_it_says_its_version_and_teaches_itself(image: Image) -> None:
    assert (
        await ended(image, [*image.entrypoint, "--version"])
    ).out == "mcp-discovery 0.2.0.dev0\n"
    told = await ended(image, [*image.entrypoint, *image.command])
    assert "sidecar" in told.out and "facade" in told.out


async def test_the_examples_are_in_it(image: Image) -> None:
    for name in ("product_catalog", "analytics"):
        words = ["/opt/mcp-discovery/bin/python", "-m", f"mcp_discovery.examples.{name}", "--help"]
        assert "--port" in (await ended(image, words)).out


def test_its_labels(image: Image) -> None:
    labels = {name.removeprefix("org.opencontainers.image."): v for name, v in image.labels.items()}
    assert labels.pop("description")
    assert labels == {
        "title": "mcp-discovery",
        "version": "0.2.0.dev0",
        "revision": REVISION,
        "base.name": "python:3.11-slim-bookworm",
    }


async def test_a_sidecar_in_it_loads_nothing_that_it_does_not_use(image: Image) -> None:
    script = "import mcp_discovery.sidecar.run, sys; print(*sys.modules)"
    told = await ended(image, ["/opt/mcp-discovery/bin/python", "-c", script])
    assert told.code == 0, told.err
    loaded = set(told.out.split())
    assert "mcp_discovery.sidecar.run" in loaded
    assert not {"mcp_discovery.facade", "mcp", "rich", "typer", "httpx2", "uvicorn"} & loaded


async def test_every_command_is_complete_in_it(image: Image) -> None:
    script = "from mcp_discovery import Discovery; import dns.asyncresolver, uvloop"
    told = await ended(image, ["/opt/mcp-discovery/bin/python", "-c", script])
    assert told.code == 0, told.err


def test_nothing_that_installs_builds_or_tests_is_in_it(image: Image) -> None:
    packages = {path.name.partition("-")[0].lower() for path in image.root.rglob("*.dist-info")}
    assert "mcp_discovery" in packages
    assert not packages & {"pip", "setuptools", "wheel", "hatchling", "uv", "pytest"}
    for name in ("pip", "pip3", "pip3.11", "gcc", "sh", "bash"):
        assert not [*image.root.rglob(f"bin/{name}")]
    for left in ("ensurepip", "*.whl", ".cache"):
        assert not [*image.root.rglob(left)], left
    assert not (image.root / "base.py").exists()
    assert not [*(image.root / "tmp").iterdir()]


def test_its_bytecode_is_complete_and_names_no_time(image: Image) -> None:
    everything = [*image.root.rglob("*.py")]
    # The standard library's tests are not run in it, and some of them are no Python on purpose.
    standard = image.root / "usr/lib"
    sources = [
        path
        for path in everything
        if not (path.is_relative_to(standard) and {"tests", "test"} & {*path.parts})
        and path.name != "no_python.py"
    ]
    assert len(everything) > len(sources) > 1000
    for path in sources:
        compiled = Path(importlib.util.cache_from_source(str(path)))
        # PEP 552: flags 1 is "by hash", and not compared with the source at run time.
        assert compiled.read_bytes()[4:8] == b"\x01\0\0\0", path


def test_it_is_small(image: Image) -> None:
    folder = image.root / "opt/mcp-discovery"
    size = sum(path.lstat().st_size for path in folder.rglob("*"))
    print(f"/opt/mcp-discovery: {size / 2**20:.0f} MiB above the base image")
    assert size < _LARGEST

"""The image as a daemon builds and runs it, beside real stores: -m docker."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from testcontainers.core.container import DockerContainer
from testcontainers.core.docker_client import DockerClient
from testcontainers.core.network import Network

from tests.deploy.compose import service_processes
from tests.deploy.compose.project import of_store
from tests.deploy.image import daemon
from tests.programs import AskedFacade
from tests.stores.container import daemon_answers
from tests.stores.waiting import until

pytestmark = pytest.mark.docker
_SECOND = 10**9


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image's name; without a daemon these tests fail, they are not skipped."""
    assert daemon_answers(), "no Docker daemon answers: start one, or set DOCKER_HOST"
    return daemon.build(tmp_path_factory.mktemp("daemon"))


@pytest.fixture
def network() -> Iterator[Network]:
    """A network of its own for the containers of one test."""
    with Network() as made:
        yield made


@asynccontextmanager
async def _running(
    image: str,
    name: str,
    network: Network,
    *words: str,
    tmpfs: Sequence[str] = (),
    **settings: Any,
) -> AsyncIterator[DockerContainer]:
    """A confined container that others reach as ``name``."""
    container = (
        DockerContainer(
            image,
            read_only=True,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges:true"],
            **settings,
        )
        .with_command(list(words))
        .with_network(network)
        .with_network_aliases(name)
    )
    for each in tmpfs:
        path, _, options = each.partition(":")
        container.with_tmpfs_mount(path, options)
    await asyncio.to_thread(container.start)
    try:
        yield container
    finally:
        await asyncio.to_thread(container.stop, force=True)


async def _healthy(container: DockerContainer) -> None:
    """Waits until the daemon calls it healthy by the image's own check."""
    wrapped = container.get_wrapped_container()

    async def well() -> bool:
        await asyncio.to_thread(wrapped.reload)
        return bool(wrapped.health == "healthy")

    await until(well, timeout=60, what=f"{wrapped.name} being healthy: {wrapped.logs()!r}")


def test_what_the_image_says_of_itself(image: str) -> None:
    found = DockerClient().client.images.get(image)
    config = found.attrs["Config"]
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["mcp-discovery"]
    assert (config["WorkingDir"], config["StopSignal"]) == ("/", "SIGTERM")
    assert "PYTHONPATH=" in config["Env"]
    assert config["Healthcheck"]["Test"] == ["CMD", "mcp-discovery", "health"]
    assert found.labels["org.opencontainers.image.revision"] == "abc123"
    print(f"{image}: {found.attrs['Size'] / 10**6:.0f} MB, base included")


def test_a_new_volume_belongs_to_the_user(image: str) -> None:
    script = "import pathlib; pathlib.Path('/var/lib/mcp-discovery/x').write_text('')"
    volume = f"test-{uuid.uuid4().hex}"
    client = DockerClient().client
    client.containers.run(
        image,
        ["-c", script],
        entrypoint=["/opt/mcp-discovery/bin/python"],
        read_only=True,
        volumes={volume: {"bind": "/var/lib/mcp-discovery", "mode": "rw"}},
        remove=True,
    )
    client.volumes.get(volume).remove()


@pytest.mark.parametrize("kind", ["consul", "etcd"])
async def test_both_roles_beside_a_real_store(
    kind: str, image: str, network: Network, tmp_path: Path
) -> None:
    service = of_store(kind)["services"][kind]
    service_processes.store_image(kind, tmp_path / "root")  # type: ignore[arg-type]
    store_image = await asyncio.to_thread(daemon.store, kind, tmp_path / "root")
    url = {"consul": "consul://consul:8500", "etcd": "etcd://etcd:2379"}[kind]
    often: dict[str, Any] = {"healthcheck": {"interval": _SECOND}}
    python = ["/opt/mcp-discovery/bin/python", "-m", "mcp_discovery.examples.product_catalog"]
    served: dict[str, Any] = {"entrypoint": python, "healthcheck": {"test": ["NONE"]}}
    more = ("--store", url)
    async with (
        _running(
            *(store_image, kind, network, *service["command"]),
            entrypoint=service["entrypoint"],
            user=service["user"],
            tmpfs=service["tmpfs"],
        ),
        _running(
            image, "server", network, "--host", "0.0.0.0", "--port", "8001", **served
        ) as server,
        _running(image, "facade", network, "facade", *more, **often) as facade,
        _running(
            *(image, "sidecar", network, "sidecar", *more, "--drain", "1"),
            *("--url", "http://server:8001/mcp", "--tag", "products"),
            **often,
        ) as sidecar,
    ):
        await _healthy(facade)
        await _healthy(sidecar)
        wrapped = facade.get_wrapped_container()
        wrapped.reload()
        (attached,) = wrapped.attrs["NetworkSettings"]["Networks"].values()
        asked = AskedFacade(f"http://{attached['IPAddress']}:4000", None)  # type: ignore[arg-type]

        async def listed() -> bool:
            return [each["url"] for each in (await asked.servers("tags=products")).values()] == [
                "http://server:8001/mcp"
            ]

        await until(listed, timeout=40, what="the server being listed")
        leaving = sidecar.get_wrapped_container()
        await asyncio.to_thread(leaving.stop, timeout=20)
        assert leaving.wait()["StatusCode"] == 0
        assert await asked.servers() == {}
        assert server.get_wrapped_container().status in ("created", "running")
        await asyncio.to_thread(wrapped.stop, timeout=20)
        assert wrapped.wait()["StatusCode"] == 0

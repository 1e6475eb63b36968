"""Runs one server in a container through testcontainers, with the faces of a local process.

The container shares the host's network and the server's folder at its own path, so ports,
addresses and files are the same as for a local process, for clusters as well. That needs a Docker
daemon on this machine (or in this network namespace). Where testcontainers runs its reaper, a
container ends with a killed test run; under `TESTCONTAINERS_RYUK_DISABLED` it does not.
"""

import asyncio
import functools
import os
from collections.abc import Sequence
from pathlib import Path

import docker.errors
from docker.models.containers import Container
from testcontainers.core.container import DockerContainer
from testcontainers.core.docker_client import DockerClient


@functools.cache
def daemon_answers() -> bool:
    """Whether a Docker daemon answers, where the Docker environment variables say it is."""
    try:
        return bool(DockerClient(timeout=5).client.ping())
    except docker.errors.DockerException:
        return False


def output(image: str, command: str, *arguments: str) -> str:
    """What `command` prints in a container of `image`."""
    printed: bytes = DockerClient().client.containers.run(
        image, list(arguments), entrypoint=[command], remove=True
    )
    return printed.decode()


class ContainerProcess:
    """One container of an image; see `tests.stores.process.ServerProcess`."""

    def __init__(self, image: str, command: str, folders: Sequence[Path]) -> None:
        """`command` is the program on the image's path; `folders` keep their paths inside."""
        self._image = image
        self._command = command
        self._folders = folders
        self._container: DockerContainer | None = None

    @property
    def running(self) -> bool:
        if self._container is None:
            return False
        wrapped = self._wrapped()
        wrapped.reload()
        return wrapped.status in ("running", "paused")

    async def start(self, arguments: Sequence[str]) -> None:
        await self.close()
        container = DockerContainer(
            self._image,
            network_mode="host",
            entrypoint=[self._command],
            user=f"{os.getuid()}:{os.getgid()}",  # Its files are the tests' to remove.
        ).with_command(list(arguments))
        for folder in self._folders:
            container.with_volume_mapping(str(folder), str(folder), "rw")
        self._container = container
        await asyncio.to_thread(container.start)

    async def kill(self) -> None:
        if self.running:
            await self.resume()  # Docker refuses to kill what is paused.
            await asyncio.to_thread(self._wrapped().kill)
            await asyncio.to_thread(self._wrapped().wait, timeout=10)

    async def terminate(self, timeout: float) -> None:
        if self.running:
            await asyncio.to_thread(self._wrapped().stop, timeout=int(timeout))

    async def pause(self) -> None:
        await asyncio.to_thread(self._wrapped().pause)

    async def resume(self) -> None:
        wrapped = self._wrapped()
        wrapped.reload()
        if wrapped.status == "paused":
            await asyncio.to_thread(wrapped.unpause)

    async def log_tail(self, lines: int) -> str:
        if self._container is None:
            return ""
        printed: bytes = await asyncio.to_thread(self._wrapped().logs, tail=lines)
        return printed.decode(errors="replace")

    async def close(self) -> None:
        if self._container is not None:
            await asyncio.to_thread(self._container.stop, force=True)
            self._container = None

    def _wrapped(self) -> Container:
        if self._container is None:
            raise RuntimeError(f"a container of {self._image} was not started")
        return self._container.get_wrapped_container()

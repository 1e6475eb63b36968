"""The services of the compose file as processes in one network of their own, without a daemon.

Each runs its own command with its own environment in the root of its own image, read-only and
without capabilities; their names lead to 127.0.0.1. Instead of pulled images there are the one that
deploy/docker builds and roots that hold this machine's Consul and etcd.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.deploy.compose.project import in_order
from tests.deploy.image.base import copy_libraries
from tests.deploy.image.building import Image
from tests.deploy.image.running import within
from tests.programs import Ended
from tests.stores import binaries
from tests.stores.waiting import bounded, until

#: Seconds for a service to become healthy on a busy machine.
_PATIENCE = 40.0
#: In containers each sidecar has its own loopback; here they share one, so ports count up.
_FIRST_HEALTH_PORT = 4001


def store_image(store: binaries.StoreName, root: Path) -> Image:
    """A root with nothing but ``store``'s programs in it."""
    found = binaries.find(store)
    assert isinstance(found, binaries.Binary), "these tests want Consul and etcd as programs"
    for each in ("dev", "proc", "tmp", "etc", "bin", "usr/lib"):
        (root / each).mkdir(parents=True)
    beside = Path(found.path).resolve().parent
    wanted = [path for path in (beside / store, beside / f"{store}ctl") if path.exists()]
    for path in wanted:
        shutil.copy2(path, root / "bin")
    copy_libraries(wanted, root, also=("libpthread.so.0",))
    (root / "etc/hosts").touch()
    return Image(root, (), (), {"PATH": "/bin"}, {}, "100:1000", ())


class ServiceProcesses:
    """The services of a project; ``await start()`` them, ask them, stop them."""

    def __init__(
        self, services: dict[str, Any], images: dict[str, Image], folder: Path, network: int
    ) -> None:
        self._services = services
        self._images = images
        self._folder = folder
        self._network = network
        self._hosts = folder / "hosts"
        self._hosts.write_text("127.0.0.1 localhost " + " ".join(services) + "\n")
        self._processes: dict[str, tuple[asyncio.subprocess.Process, int]] = {}

    async def start(self, undo: AsyncExitStack) -> None:
        """Starts all in the order of their dependencies, each when its conditions hold."""
        for name in in_order(self._services):
            for before, how in self._services[name].get("depends_on", {}).items():
                if before in self._services and how["condition"] == "service_healthy":
                    await self.healthy(before)
                else:
                    assert before in self._processes or not how["required"]
            await self._start(name, undo)

    async def healthy(self, name: str) -> None:
        """Waits until the health check of ``name`` says yes; raises TimeoutError."""

        async def well() -> bool:
            return (await self.check(name)).code == 0

        try:
            await until(well, timeout=_PATIENCE, what=f"{name} being healthy")
        except TimeoutError as error:
            raise AssertionError(f"{error}; {await self.check(name)}\n{self.log(name)}") from error

    async def check(self, name: str) -> Ended:
        """Runs the health check of ``name`` beside it."""
        service = self._services[name]
        kind, *words = service["healthcheck"]["test"]
        assert kind == "CMD", "a check that wants a shell"
        return await self.run(name, *words)

    async def run(self, name: str, *words: str) -> Ended:
        """Runs ``words`` to its end in the image and with the environment of ``name``."""
        process = await asyncio.create_subprocess_exec(
            *self._prefix(name),
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await bounded(process.communicate(), _PATIENCE)
        return Ended(process.returncode or 0, out.decode(), err.decode())

    async def servers(self) -> dict[str, str]:
        """Status by name, as the facade lists them."""
        said = await self.run("facade", "mcp-discovery", "servers", "--json", "--status", "all")
        assert said.code in (0, 3), said
        entries = [json.loads(line) for line in said.out.splitlines()]
        return {entry["name"]: entry["status"] for entry in entries}

    async def stop(self, name: str) -> int:
        """Stops it as Docker does, SIGTERM to process 1, in the time that it is given."""
        process, pid = self._processes[name]
        os.kill(pid, signal.SIGTERM)
        return await bounded(process.wait(), _PATIENCE)

    def kill(self, name: str) -> None:
        """Kills process 1."""
        os.kill(self._processes[name][1], signal.SIGKILL)

    async def start_again(self, name: str, undo: AsyncExitStack) -> None:
        """Starts one that was killed."""
        await self._processes[name][0].wait()
        await self._start(name, undo)

    def log(self, name: str) -> str:
        """What it has said."""
        return (self._folder / f"{name}.log").read_text(errors="replace")

    def _prefix(self, name: str, *more: str) -> list[str]:
        service = self._services[name]
        assert service["read_only"] and service["cap_drop"] == ["ALL"]
        image = self._images[service["image"]]
        if user := service.get("user"):
            image = replace(image, user=user)
        writable = [each.partition(":")[0] for each in service.get("tmpfs") or []]
        writable += [
            each["target"] for each in service.get("volumes") or [] if each["type"] == "volume"
        ]
        bound = []
        for place in writable:
            folder = self._folder / f"{name}{place.replace('/', '-')}"
            folder.mkdir(exist_ok=True)
            (image.root / place.lstrip("/")).mkdir(parents=True, exist_ok=True)
            bound.append((folder, place))
        number = _FIRST_HEALTH_PORT + sorted(self._services).index(name)
        environment = {
            **(service.get("environment") or {}),
            "MCP_DISCOVERY_HEALTH_PORT": str(number),
        }
        bubble, *rest = within(image, environment, bound, [(self._hosts, "/etc/hosts")])
        enter = ("nsenter", "--target", str(self._network), "--user", "--net")
        return [*enter, "--preserve-credentials", bubble, *more, *rest]

    async def _start(self, name: str, undo: AsyncExitStack) -> None:
        service = self._services[name]
        entrypoint = service.get("entrypoint") or self._images[service["image"]].entrypoint
        read, write = os.pipe()
        with (self._folder / f"{name}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *self._prefix(name, "--info-fd", str(write)),
                *entrypoint,
                *(service.get("command") or []),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(write,),
            )
        os.close(write)
        undo.push_async_callback(_ended, process)
        with os.fdopen(read) as told:
            pid = json.loads(await asyncio.to_thread(told.read))["child-pid"]
        self._processes[name] = (process, pid)


async def _ended(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()


@asynccontextmanager
async def running(
    services: dict[str, Any], images: dict[str, Image], folder: Path
) -> AsyncIterator[tuple[ServiceProcesses, AsyncExitStack]]:
    """Starts ``services``; what is left at the end of the block is killed."""
    async with AsyncExitStack() as undo:
        network = subprocess.Popen(
            ["unshare", "--user", "--map-root-user", "--net", "sh", "-c",
             "ip link set lo up && echo up && exec sleep infinity"],
            stdout=subprocess.PIPE,
        )  # fmt: skip
        undo.callback(network.wait)
        undo.callback(network.kill)
        assert network.stdout is not None
        assert await asyncio.to_thread(network.stdout.readline) == b"up\n"
        undo.callback(network.stdout.close)
        started = ServiceProcesses(services, images, folder, network.pid)
        await started.start(undo)
        yield started, undo

"""Runs a pod's containers as processes, as a kubelet does: what no cluster is needed for.

It keeps to the order that Kubernetes documents (KEP-753 and the pod's life): a native sidecar is
started before the containers, which wait for its startup probe. At the end all preStop hooks begin
at once, sidecars' included; a container is sent SIGTERM after its own hook, a sidecar not before
the last container has ended; whoever still runs when the grace period is over is killed.

Images, namespaces and security contexts are not there. All of a pod is on 127.0.0.1, so that each
port it names is another one here, wherever it is named; and so are the folders of its volumes.
"""

from __future__ import annotations

import asyncio
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.deploy.kubernetes.charts import Document, containers
from tests.programs import ENVIRONMENT, ROOT
from tests.stores import ports
from tests.stores.waiting import NotYet, bounded, until

#: What the image sets (deploy/docker/Dockerfile).
_IMAGE = {
    "MCP_DISCOVERY_HOST": "0.0.0.0",
    "MCP_DISCOVERY_PORT": "4000",
    "MCP_DISCOVERY_HEALTH_PORT": "4001",
}
#: What a Service mcp-discovery puts into pods that want service links.
_SERVICE_LINKS = {"MCP_DISCOVERY_PORT": "tcp://10.0.0.1:4000"}


class FakeContainer:
    """A container's process."""

    def __init__(self, pod: FakePod, spec: Document) -> None:
        self.name: str = spec["name"]
        self.spec = spec
        self._pod = pod
        self._log = pod.folder / f"{pod.name}-{self.name}.log"
        self._environment = pod.environment(spec)
        self._process: asyncio.subprocess.Process | None = None

    @property
    def log(self) -> str:
        """All that it wrote."""
        return self._log.read_text(errors="replace")

    @property
    def exit_code(self) -> int | None:
        """``None`` while it runs."""
        assert self._process is not None
        return self._process.returncode

    def port(self, named: str | int) -> int:
        """A port here, by name or by number."""
        if isinstance(named, int):
            return named
        numbers = {each["name"]: each["containerPort"] for each in self.spec["ports"]}
        return int(numbers[named])

    async def start(self) -> None:
        """Starts the process and waits for its startup probe."""
        with self._log.open("wb") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self._command([*self.spec["command"], *self.spec.get("args", [])]),
                cwd=ROOT,
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self._pod.note(self.name, "started")
        probe = self.spec["startupProbe"]
        await self.until_probe("startupProbe", probe["periodSeconds"] * probe["failureThreshold"])

    async def probe(self, kind: str) -> int:
        """The status that a probe is answered with."""
        return await self._get(self.spec[kind]["httpGet"], self.spec[kind].get("timeoutSeconds", 1))

    async def until_probe(self, kind: str, timeout: float, *, good: bool = True) -> None:
        """Waits until a probe is good, or is not."""

        async def answered() -> bool:
            if self.exit_code is not None:
                raise AssertionError(f"{self.name} ended with {self.exit_code}: {self.log}")
            status = await self.probe(kind)
            if (200 <= status < 400) is not good:
                raise NotYet(f"HTTP {status}")
            return True

        await until(answered, timeout=timeout, what=f"{self.name}'s {kind} being {good}")

    async def hook(self) -> None:
        """Runs the preStop hook."""
        hook = self.spec.get("lifecycle", {}).get("preStop")
        if hook is None:
            return
        self._pod.note(self.name, "preStop")
        (kind,) = hook
        if kind == "sleep":
            await asyncio.sleep(hook["sleep"]["seconds"])
        elif kind == "httpGet":
            assert await self._get(hook["httpGet"], 60) < 400
        else:
            ended = await asyncio.create_subprocess_exec(
                *self._command(hook["exec"]["command"]), cwd=ROOT, env=self._environment
            )
            assert await ended.wait() == 0, f"the preStop hook of {self.name} failed"
        self._pod.note(self.name, "preStop done")

    async def stop(self, within: float) -> None:
        """SIGTERM, and SIGKILL after ``within`` seconds."""
        assert self._process is not None
        if self._process.returncode is None:
            self._pod.note(self.name, "SIGTERM")
            self._process.send_signal(signal.SIGTERM)
            try:
                await bounded(self._process.wait(), within)
            except TimeoutError:
                self._pod.note(self.name, "SIGKILL")
                await self.kill()
        self._pod.note(self.name, "ended")

    async def kill(self) -> None:
        """SIGKILL, if it runs at all."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def _get(self, action: Document, timeout: float) -> int:
        url = f"http://127.0.0.1:{self.port(action['port'])}{action['path']}"
        limit = aiohttp.ClientTimeout(total=timeout)
        async with aiohttp.ClientSession(timeout=limit) as http, http.get(url) as response:
            return response.status

    def _command(self, given: list[str]) -> list[str]:
        given = [self._expanded(each) for each in given]
        if given[0] == "mcp-discovery":
            return [sys.executable, "-m", "mcp_discovery.cli", *given[1:]]
        assert given[0] == "python", f"the image has no {given[0]}"
        # The wheel has the examples inside of the package.
        return [sys.executable, *(each.replace("mcp_discovery.ex", "ex") for each in given[1:])]

    def _expanded(self, text: str) -> str:
        """Kubernetes puts variables of the container, and no others, for $(NAME)."""
        own = {each["name"] for each in self.spec.get("env", [])}

        def value(found: re.Match[str]) -> str:
            return self._environment[found[1]] if found[1] in own else found[0]

        return re.sub(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)", value, text)


class FakePod:
    """A pod; see the first lines of this file."""

    def __init__(
        self,
        name: str,
        spec: Document,
        folder: Path,
        secrets: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self.name = name
        self.folder = folder
        self._secrets = secrets or {}
        named = sorted(
            {port["containerPort"] for each in containers(spec) for port in each.get("ports", [])}
        )
        self._drawn = {number: ports.draw() for number in named}
        self._mounts = self._mounted(spec)
        self.spec: Document = self._here(spec)
        self.sidecars = [FakeContainer(self, each) for each in self.spec.get("initContainers", [])]
        self.containers = [FakeContainer(self, each) for each in self.spec["containers"]]
        self.events: list[tuple[float, str, str]] = []
        for each in self.spec.get("initContainers", []):
            assert each["restartPolicy"] == "Always"

    @property
    def all(self) -> list[FakeContainer]:
        """Sidecars and containers."""
        return [*self.sidecars, *self.containers]

    def container(self, name: str) -> FakeContainer:
        """One of them."""
        return next(each for each in self.all if each.name == name)

    def note(self, container: str, what: str) -> None:
        """Something happened."""
        self.events.append((time.monotonic(), container, what))

    def when(self, container: str, what: str) -> float:
        """When it happened."""
        return next(at for at, *event in self.events if event == [container, what])

    async def start(self) -> None:
        """Starts all, in order."""
        for sidecar in self.sidecars:
            await sidecar.start()
        await asyncio.gather(*(each.start() for each in self.containers))

    async def until_ready(self, timeout: float) -> None:
        """Waits until every readiness probe is good."""
        await asyncio.gather(*(each.until_probe("readinessProbe", timeout) for each in self.all))

    async def delete(self) -> None:
        """Ends it as ``kubectl delete pod`` does."""
        end = time.monotonic() + self.spec["terminationGracePeriodSeconds"]
        self.note("pod", "deleted")
        ends: list[asyncio.Task[None]] = []
        for each in self.containers:
            ends.append(asyncio.create_task(self._end(each, end, [])))
        for each in reversed(self.sidecars):
            ends.append(asyncio.create_task(self._end(each, end, list(ends))))
        await asyncio.gather(*ends)

    async def _end(
        self, container: FakeContainer, end: float, after: list[asyncio.Task[None]]
    ) -> None:
        try:
            async with asyncio.timeout(end - time.monotonic()):
                await container.hook()
                if after:
                    await asyncio.wait(after)
        except TimeoutError:
            self.note(container.name, "out of time")
        await container.stop(max(2.0, end - time.monotonic()))

    async def close(self) -> None:
        """Kills what is left, and gives the ports back."""
        for each in self.all:
            await each.kill()
        for port in self._drawn.values():
            port.release()

    def environment(self, spec: Document) -> dict[str, str]:
        """The environment of a container."""
        made = ENVIRONMENT | _IMAGE | {"PYTHONUNBUFFERED": "1"}
        if self.spec.get("enableServiceLinks", True):
            made |= _SERVICE_LINKS
        known = {
            "status.podIP": "127.0.0.1",
            "status.hostIP": "127.0.0.1",
            "metadata.name": self.name,
        }
        for each in spec.get("env", []):
            if "value" in each:
                made[each["name"]] = each["value"]
            elif "fieldRef" in each["valueFrom"]:
                made[each["name"]] = known[each["valueFrom"]["fieldRef"]["fieldPath"]]
            else:
                secret = each["valueFrom"]["secretKeyRef"]
                made[each["name"]] = self._secrets[secret["name"]][secret["key"]]
        return made

    def _mounted(self, spec: Document) -> dict[str, str]:
        """Where Secrets are mounted, and the folder here that stands for it."""
        volumes = {each["name"]: each["secret"]["secretName"] for each in spec.get("volumes", [])}
        mounts = {}
        for container in containers(spec):
            for mount in container.get("volumeMounts", []):
                folder = self.folder / f"{self.name}-{mount['name']}"
                folder.mkdir(exist_ok=True)
                for key, text in self._secrets[volumes[mount["name"]]].items():
                    (folder / key).write_text(text)
                mounts[mount["mountPath"]] = str(folder)
        return mounts

    def _here(self, value: Any) -> Any:
        """``value`` with the ports and folders of this machine for the pod's, on 127.0.0.1."""
        if isinstance(value, dict):
            return {key: self._here(each) for key, each in value.items()}
        if isinstance(value, list):
            return [self._here(each) for each in value]
        if isinstance(value, str):
            for number, drawn in self._drawn.items():
                value = re.sub(rf"(?<=[:=]){number}\b", str(drawn.number), value)
            for place, folder in self._mounts.items():
                value = value.replace(place, folder)
            return value.replace("0.0.0.0", "127.0.0.1")
        if isinstance(value, int) and not isinstance(value, bool) and value in self._drawn:
            return self._drawn[value].number
        return value


@asynccontextmanager
async def pod(
    name: str,
    spec: Document,
    folder: Path,
    secrets: Mapping[str, Mapping[str, str]] | None = None,
) -> AsyncIterator[FakePod]:
    """A pod that is started, and killed at the end."""
    made = FakePod(name, spec, folder, secrets)
    try:
        await made.start()
        yield made
    finally:
        await made.close()

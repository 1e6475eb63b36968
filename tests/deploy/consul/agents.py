"""Real Consul agents that run from the files of `deploy/consul/`, on ports of their own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp

from tests.stores import binaries, ports
from tests.stores.binaries import Binary
from tests.stores.process import LocalProcess
from tests.stores.waiting import NotYet, bounded, until

DEPLOY = Path(__file__).parents[3] / "deploy"
CONSUL = DEPLOY / "consul"
POLICIES = CONSUL / "policies"
_PORTS = ("http", "https", "dns", "serf_lan", "serf_wan", "server")


def consul_program() -> str:
    """The path of the Consul that this run uses."""
    program = binaries.find("consul")
    if not isinstance(program, Binary):
        raise binaries.StoreNotFound("these tests need a Consul program: run `make stores`")
    return program.path


async def consul(
    *arguments: str, folder: Path | None = None, environment: Mapping[str, str] | None = None
) -> str:
    """What a `consul` command prints. Raises `AssertionError` with its words when it fails."""
    process = await asyncio.create_subprocess_exec(
        *(consul_program(), *arguments),
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        said, _ = await bounded(process.communicate(), 20)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, f"consul {' '.join(arguments)}: {said.decode()}"
    return said.decode()


class Agent:
    """One agent; it keeps its ports and its data while it is stopped and started again."""

    def __init__(self, folder: Path, *arguments: str, **settings: Any) -> None:
        """`arguments` go to `consul agent`; `settings` are put over them, as JSON."""
        self._ports = {name: ports.draw() for name in _PORTS}
        self.name = folder.name
        """The node's name."""
        self._folder = folder
        folder.mkdir(parents=True)
        self._process = LocalProcess(consul_program(), folder / "log")
        self._arguments = arguments
        self._settings = settings
        self.token: str | None = None
        """The token that `api` and `environment` use."""

    def port(self, name: str) -> int:
        """The port for http, https, dns, serf_lan, serf_wan or server."""
        return self._ports[name].number

    @property
    def http(self) -> str:
        """The base of its plain HTTP API."""
        return f"http://127.0.0.1:{self.port('http')}"

    @property
    def store_url(self) -> str:
        """The agent as a store, by plain HTTP."""
        return f"consul://127.0.0.1:{self.port('http')}"

    @property
    def secure_store_url(self) -> str:
        """The agent as a store, by HTTPS."""
        return f"consul+https://127.0.0.1:{self.port('https')}"

    @property
    def environment(self) -> dict[str, str]:
        """What makes `consul` commands speak to this agent."""
        token = {"CONSUL_HTTP_TOKEN": self.token} if self.token else {}
        return {"CONSUL_HTTP_ADDR": self.http} | token

    def command(self) -> Sequence[str]:
        """The arguments by which it is started."""
        given = {name: port.number for name, port in self._ports.items()}
        if binaries.version(Binary(consul_program())) >= (1, 14):
            given["grpc_tls"] = -1  # on by default from then on, and unknown before
        settings = {
            "data_dir": str(self._folder / "data"),
            "node_name": self.name,
            "ports": given,
            "retry_interval": "1s",
            "disable_host_node_id": True,
        } | self._settings
        return [
            "agent",
            *self._arguments,
            *("-bind=127.0.0.1", "-hcl", json.dumps(settings)),
        ]

    async def start(self) -> None:
        """Starts it and waits until its HTTP API answers at all."""
        await self._process.start(self.command())

        async def answers() -> bool:
            if not self._process.running:
                raise RuntimeError(f"it ended: {await self.log()}")
            async with aiohttp.ClientSession() as http, http.get(self.http + "/v1/status/leader"):
                return True

        await until(answers, timeout=20, what="the agent's answer")

    async def until_leader(self) -> None:
        """Waits until the agent knows a leader."""

        async def known() -> bool:
            return bool(await self.api("GET", "/v1/status/leader"))

        await until(known, timeout=20, what="a leader")

    async def terminate(self) -> None:
        """Sends SIGTERM and waits for the end."""
        await self._process.terminate(15)

    async def kill(self) -> None:
        """Ends it at once."""
        await self._process.kill()

    async def pause(self) -> None:
        """Freezes it: connections stay open and nobody answers."""
        await self._process.pause()

    async def resume(self) -> None:
        """Lets it go on."""
        await self._process.resume()

    async def log(self) -> str:
        """The end of its log."""
        return await self._process.log_tail(20)

    async def api(self, method: str, path: str, body: Any = None, token: str | None = None) -> Any:
        """The answer as JSON. Raises `Refused` from status 400 on."""
        token = token or self.token
        headers = {"X-Consul-Token": token} if token else {}
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as http,
            http.request(method, self.http + path, json=body, headers=headers) as response,
        ):
            text = await response.text()
            if response.status >= 400:
                raise Refused(response.status, text)
            return json.loads(text) if text.strip() else None

    async def close(self) -> None:
        """Kills it if it runs and frees its ports."""
        await self._process.close()
        for port in self._ports.values():
            port.release()


class Refused(NotYet):
    """Consul refused a request. Carries `status`."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status


@contextlib.asynccontextmanager
async def running(*agents: Agent) -> AsyncIterator[None]:
    """Starts agents in this order and ends them all."""
    async with contextlib.AsyncExitStack() as stack:
        for agent in agents:
            stack.push_async_callback(agent.close)
            await agent.start()
        yield


async def until_alive(agent: Agent, nodes: Sequence[str]) -> None:
    """Waits until each of `nodes` is in the catalog and passes, as `agent` sees it."""

    async def alive() -> bool:
        for node in nodes:
            checks = await agent.api("GET", f"/v1/health/node/{node}?consistent")
            if not any(c["CheckID"] == "serfHealth" and c["Status"] == "passing" for c in checks):
                raise NotYet(f"{node}: {checks}")
        return True

    await until(alive, timeout=20, what=f"{list(nodes)} being alive")

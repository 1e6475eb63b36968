"""A2A agents on the SDKs of others: listed while they answer, whatever is done to them."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.health import ANSWERS_A2A, Status
from tests.facade.harness import served
from tests.foreign.programs import A2A, NODE, NPM
from tests.servers.process import until_answering
from tests.sidecar.harness import sidecar, watching
from tests.stores import ports
from tests.stores.process import LocalProcess

HERE = Path(__file__).parent
#: What the sidecars of these tests promise, in seconds: a refusal shows within an interval, and
#: silence after the slow-after time more; another second for a machine that has much to do.
INTERVAL, SOON = 1.0, 2.5


@dataclass(frozen=True)
class ForeignAgent:
    """How one of them is started: ``command`` gets the port. ``skill`` is its only one, ``then``
    what that is called after a change of its card."""

    name: str
    command: tuple[str | Path, ...]
    binding: str
    version: str
    skill: str
    then: str


def python(binding: str, version: str) -> ForeignAgent:
    command = (A2A, HERE / "traveller.py", "{port}", binding, version)
    skills = "Plan a journey", "Long journey"
    return ForeignAgent(f"python-{binding}-{version}", command, binding, version, *skills)


def javascript(binding: str) -> ForeignAgent:
    script = HERE / "forecaster.cjs"
    command = ("/usr/bin/env", f"NODE_PATH={NPM}", NODE, script, "{port}", binding)
    skills = "Forecast", "Long forecast"
    return ForeignAgent(f"javascript-{binding}", command, binding, "1.0", *skills)


AGENTS = (
    python("JSONRPC", "1.0"),
    python("HTTP+JSON", "1.0"),
    python("JSONRPC", "0.3"),
    python("HTTP+JSON", "0.3"),
    javascript("JSONRPC"),
    javascript("HTTP+JSON"),
)
each_agent = pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.name)


class RunningAgent:
    """One that runs."""

    def __init__(self, agent: ForeignAgent, folder: Path) -> None:
        self._port = ports.draw()
        program, *rest = agent.command
        self._arguments = [str(each).replace("{port}", str(self._port.number)) for each in rest]
        self._process = LocalProcess(str(program), folder / "agent.log")
        self.url = f"http://127.0.0.1:{self._port.number}"

    async def start(self) -> None:
        await self._process.start(self._arguments)
        card = f"{self.url}/.well-known/agent-card.json"
        await until_answering(self._process, card, 60.0, "the agent")

    def signal(self, number: signal.Signals) -> None:
        os.kill(self._process.pid, number)

    async def kill(self) -> None:
        await self._process.kill()

    async def close(self) -> None:
        await self._process.kill()
        await self._process.close()
        self._port.release()


@asynccontextmanager
async def running(agent: ForeignAgent, folder: Path) -> AsyncIterator[RunningAgent]:
    found = RunningAgent(agent, folder)
    await found.start()
    try:
        yield found
    finally:
        await found.close()


@each_agent
async def test_what_is_listed_follows_the_agent(agent: ForeignAgent, tmp_path: Path) -> None:
    async with (
        EmbeddedStore() as store,
        watching(store) as seen,
        running(agent, tmp_path) as process,
        sidecar(store, process.url, kind="agent", probe_interval=INTERVAL) as beside,
    ):
        one = await seen.until_status(Status.HEALTHY, within=5.0)
        assert one.health.reason == ANSWERS_A2A
        record = one.record
        assert (record.kind, record.endpoint.url) == ("agent", process.url)
        assert record.capabilities.skills == (agent.skill,)
        assert record.protocol.bindings == (agent.binding,)
        assert record.protocol.versions == (agent.version,)
        assert record.example_queries
        document = await store.document(str(record.capabilities.digest))
        card = document.agent_card()
        assert card is not None and card["name"] == record.title

        process.signal(signal.SIGUSR2)
        changed = await seen.until(
            lambda one: one.record.version == "2.0.0", within=SOON, what="its new card"
        )
        assert changed.record.capabilities.skills == (agent.then,)

        process.signal(signal.SIGSTOP)
        await seen.until(
            lambda one: one.health.status is not Status.HEALTHY, within=SOON, what="its silence"
        )
        await seen.until_status(Status.DOWN, within=2 * SOON)
        process.signal(signal.SIGCONT)
        await seen.until_status(Status.HEALTHY, within=SOON)

        await process.kill()
        await seen.until_status(Status.DOWN, within=SOON)
        await process.start()
        back = await seen.until_status(Status.HEALTHY, within=SOON)
        again = await seen.until(
            lambda one: one.record.version == "1.0.0", within=SOON, what="its first card"
        )
        assert again.record.id == back.record.id == record.id

        beside.stop()
        await seen.until_gone(within=SOON)
        assert await beside.code(5.0) == 0
    assert "draining" in seen.statuses()


@each_agent
async def test_a_posted_one_as_well(agent: ForeignAgent, tmp_path: Path) -> None:
    async with served() as ask, running(agent, tmp_path) as process:
        body = {"id": "a-1", "name": "a", "kind": "agent", "url": process.url}
        assert (await ask("POST", "/servers", body)).status == 201
        await ask.until_status("a-1", "healthy")
        assert (await ask("GET", f"/servers?kind=agent&capability={agent.skill}")).ids == ["a-1"]
        await process.kill()
        await ask.until_status("a-1", "down", timeout=5.0)
        await process.start()
        await ask.until_status("a-1", "healthy", timeout=5.0)

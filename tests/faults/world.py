"""The things that are broken: a cluster, MCP servers with their sidecars, facades with readers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.faults.history import History
from tests.faults.programs import Program, ready
from tests.faults.proxy import Link, Mode, link
from tests.faults.readers import reading
from tests.servers.process import McpServer
from tests.stores import ConsulAgent, ConsulCluster, EtcdCluster, ports
from tests.stores.waiting import until

StoreKind = Literal["consul", "etcd"]
Cluster = ConsulCluster | EtcdCluster
#: Gossip as quick as Consul allows on one machine, so that a dead node is noticed within seconds.
_GOSSIP = {"gossip_lan": {"probe_interval": "500ms", "probe_timeout": "250ms"}}


@dataclass
class Way:
    """All that leads from one program to the store."""

    url: str
    links: Sequence[Link]

    async def become(self, mode: Mode, seconds: float = 0.2) -> None:
        """Does ``mode`` to every link."""
        for each in self.links:
            await each.become(mode, seconds)


@dataclass
class Seat:
    """One instance: its MCP server and its sidecar, which takes its own way to the store."""

    id: str
    server: McpServer
    sidecar: Program
    way: Way


@dataclass
class Desk:
    """One facade, with its own way to the store."""

    name: str
    url: str
    program: Program
    way: Way


class World:
    """A cluster with what uses it. Build it with :func:`world`."""

    def __init__(self, kind: StoreKind, cluster: Cluster, history: History, folder: Path) -> None:
        self.kind = kind
        self.cluster = cluster
        self.history = history
        self.folder = folder
        self.agents: list[ConsulAgent] = []
        self.seats: list[Seat] = []
        self.desks: list[Desk] = []
        self._stack = AsyncExitStack()

    async def close(self) -> None:
        """Ends everything but the cluster."""
        await self._stack.aclose()

    async def way(self, number: int) -> Way:
        """A new way to the store: for Consul to one of the agents, for etcd to every member."""
        targets = [self.agents[number % len(self.agents)]] if self.agents else self.cluster.members
        links = [
            await self._stack.enter_async_context(link(ports.LOOPBACK, each.http_port))
            for each in targets
        ]
        return Way(f"{self.kind}://{','.join(each.address for each in links)}", links)

    async def sit(self, id: str, *, options: Sequence[str] = ()) -> Seat:
        """Starts one more instance: an MCP server, and a sidecar for it."""
        way = await self.way(len(self.seats))
        server = McpServer(("-m", "tests.servers.odd"), self.folder)
        self._stack.push_async_callback(server.close)
        await server.start()
        terms = self.history.terms
        given = ("--url", server.url, "--id", id, "--name", "thing", "--tag", "things")
        times = ("--ttl", f"{terms.ttl:g}", "--reap-after", "600", "--drain", "0.5")
        arguments = ("sidecar", "--store", way.url, *given, *times, *options)
        sidecar = Program(self.folder, f"sidecar-{id}", arguments)
        self._stack.push_async_callback(sidecar.close)
        seat = Seat(id, server, sidecar, way)
        self.seats.append(seat)
        self.history.note("serves", id)
        await sidecar.start()
        self.history.note("watched", id)
        return seat

    async def open_desk(self, name: str) -> Desk:
        """Starts one more facade, and reads it from now on."""
        way = await self.way(len(self.desks))
        port = ports.draw()
        self._stack.callback(port.release)
        url = f"http://{ports.LOOPBACK}:{port.number}"
        arguments = ("facade", "--store", way.url, "--port", str(port.number))
        program = Program(self.folder, name, arguments)
        self._stack.push_async_callback(program.close)
        await program.start()
        await ready(url)
        desk = Desk(name, url, program, way)
        self.desks.append(desk)
        await self._stack.enter_async_context(reading(self.history, name, url))
        return desk

    async def store_answers(self, timeout: float = 60) -> None:
        """Waits until the store takes writes, by the way that programs use."""

        async def written() -> bool:
            if self.agents:
                await self.agents[0].put("faults/written", "1")
            else:
                members = self.cluster.answering
                await members[0].put("/faults/written", "1")
            return True

        await until(written, timeout=timeout, what=f"{self.kind} taking writes")

    async def settled(self, timeout: float = 30) -> None:
        """Waits until every facade offers just those that live; what stays untrue the checker
        tells."""
        import aiohttp

        lives = {seat.id for seat in self.seats if seat.server.running and seat.sidecar.running}

        async def all_true() -> bool:
            async with aiohttp.ClientSession() as http:
                for desk in self.desks:
                    async with http.get(f"{desk.url}/servers?status=healthy,degraded") as response:
                        shown = {each["id"] for each in (await response.json())["servers"]}
                        if shown != lives:
                            return False
            return True

        try:
            await until(all_true, timeout=timeout, what="every facade showing what is true")
        except TimeoutError:
            self.history.note("note", "driver", text="did not settle")


@asynccontextmanager
async def world(
    kind: StoreKind, folder: Path, history: History, *, seats: int = 4, facades: int = 2
) -> AsyncGenerator[World, None]:
    """A three-member cluster (with two client agents where it is Consul), ``seats`` instances that
    are listed, and ``facades`` that are read."""
    async with AsyncExitStack() as stack:
        cluster: Cluster = ConsulCluster(config=_GOSSIP) if kind == "consul" else EtcdCluster()
        await stack.enter_async_context(cluster)
        made = World(kind, cluster, history, folder)
        if isinstance(cluster, ConsulCluster):
            for number in range(2):
                agent = ConsulAgent(cluster, f"agent-{number}", config=_GOSSIP)
                made.agents.append(await stack.enter_async_context(agent))
        stack.push_async_callback(made.close)
        await asyncio.gather(*(made.sit(f"thing-{number}") for number in range(seats)))
        for number in range(facades):
            await made.open_desk(f"facade-{number}")
        await made.settled()
        yield made

"""The things that are broken: a cluster, MCP servers with their sidecars, facades with readers."""

from __future__ import annotations

import asyncio
import copy
import uuid
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Literal

import psutil

from tests.faults.access import Password, Tokens
from tests.faults.faulty_clock import Clock
from tests.faults.history import History
from tests.faults.namespaces import Host, network
from tests.faults.observations import Reader
from tests.faults.observer import Observer
from tests.faults.programs import Program, ready
from tests.faults.proxy import Link, Mode, link
from tests.faults.readers import reading
from tests.foreign.programs import GO
from tests.servers.process import McpServer
from tests.stores import (
    ConsulAgent,
    ConsulCluster,
    ConsulServer,
    EtcdCluster,
    binaries,
    ports,
)
from tests.stores.binaries import Release
from tests.stores.server import StoreServer
from tests.stores.waiting import until

StoreKind = Literal["consul", "etcd"]
Cluster = ConsulCluster | EtcdCluster
#: Gossip as quick as Consul allows on one machine, so that a dead node is noticed within seconds;
#: tokens that are looked up anew each second, but not while a heartbeat waits for it: an agent that
#: has to ask a frozen server who is beating lets every TTL behind it lapse. Autopilot takes no vote
#: from a server that died, or every fault would have to wait until it has given that back. Sessions
#: may be as short as a TTL of some seconds needs them.
_CONSUL = {
    "gossip_lan": {"probe_interval": "500ms", "probe_timeout": "250ms"},
    "autopilot": {"cleanup_dead_servers": False},
    "acl": {"token_ttl": "1s", "policy_ttl": "1s", "down_policy": "async-cache"},
    "session_ttl_min": "1s",
}


@dataclass
class StoreRoute:
    """All that leads from one program to the store."""

    url: str
    links: Sequence[Link]

    async def become(self, mode: Mode, seconds: float = 0.2) -> None:
        """Does ``mode`` to every link."""
        for each in self.links:
            await each.become(mode, seconds)


@dataclass
class InstanceProcesses:
    """One instance: its MCP server and its sidecar, which takes its own way to the store."""

    id: str
    server: McpServer
    sidecar: Program
    route: StoreRoute
    agent: ConsulAgent | None
    clock: Clock


@dataclass
class BridgedProcesses:
    """One instance whose MCP server speaks stdio: its sidecar starts that and bridges to it."""

    id: str
    sidecar: Program
    agent: ConsulAgent | None

    def children(self) -> list[psutil.Process]:
        """The processes of the server, zombies aside."""
        found = psutil.Process(self.sidecar.pid).children()
        return [each for each in found if each.status() != psutil.STATUS_ZOMBIE]

    async def serves(self, but: int | None = None) -> psutil.Process:
        """Waits until the server runs, as another process than ``but``; returns that."""

        async def other() -> psutil.Process | None:
            return next((each for each in self.children() if each.pid != but), None)

        found = await until(other, timeout=30, what=f"the server of {self.id} being there")
        assert found is not None
        return found


@dataclass
class FacadeProcess:
    """One facade, with its own way to the store."""

    name: str
    url: str
    program: Program
    route: StoreRoute
    agent: ConsulAgent | None
    clock: Clock


class Environment:
    """A cluster with what uses it. Build it with :func:`environment`."""

    def __init__(self, kind: StoreKind, cluster: Cluster, history: History, folder: Path) -> None:
        self.kind = kind
        self.cluster = cluster
        self.history = history
        self.observer = Observer(history)
        self.folder = folder
        self.agents: list[ConsulAgent] = []
        self.instances: list[InstanceProcesses] = []
        self.bridged: list[BridgedProcesses] = []
        #: Many are started at the same time, and each draws the number of its way to the store.
        self._numbers = count()
        self.facades: list[FacadeProcess] = []
        #: Where its members are, when each has a network of its own.
        self.hosts: Sequence[Host] = ()
        #: The members that are cut off from the others.
        self.apart: list[StoreServer] = []
        #: Those that faults may take.
        self.own_instances: Sequence[InstanceProcesses] = self.instances
        self.own_facades: Sequence[FacadeProcess] = self.facades
        #: The instances and facades that some fault has for itself.
        self.taken: set[str] = set()
        self._access: Tokens | Password
        if isinstance(cluster, ConsulCluster):
            self._access = Tokens(cluster, self.agents, self.apart, folder)
        else:
            self._access = Password(cluster, self.apart, folder)
        self._stack = AsyncExitStack()

    async def close(self) -> None:
        """Ends everything but the cluster."""
        await self._stack.aclose()

    @property
    def tokens(self) -> Tokens:
        """The tokens of the programs, where the store is Consul."""
        assert isinstance(self._access, Tokens)
        return self._access

    @property
    def password(self) -> Password:
        """The password of the programs, where the store is etcd."""
        assert isinstance(self._access, Password)
        return self._access

    async def let_in(self) -> None:
        """Makes a store that is new, or has lost its data, let the programs in."""
        await self._access.give()

    # -- building it ---------------------------------------------------------------------------

    async def route(self, number: int) -> StoreRoute:
        """A new way to the store: for Consul to one of the agents, for etcd to every member."""
        targets = [self.agents[number % len(self.agents)]] if self.agents else self.cluster.members
        links = [
            await self._stack.enter_async_context(link(each.host, each.http_port))
            for each in targets
        ]
        return StoreRoute(f"{self.kind}://{','.join(each.address for each in links)}", links)

    def agent_of(self, number: int) -> ConsulAgent | None:
        """The agent that the program with this number uses."""
        return self.agents[number % len(self.agents)] if self.agents else None

    async def _credentials(self, program: str, *policies: str) -> Sequence[str]:
        """The options that let a program into the store: in Consul with the rights of these
        policies, in etcd with all."""
        if isinstance(self._access, Password):
            file = str(self._access.file)
            return "--store-user", Password.USER, "--store-password-file", file
        return "--store-token-file", str(await self._access.issue(program, *policies))

    async def start_instance(self, id: str, *, options: Sequence[str] = ()) -> InstanceProcesses:
        """Starts one more instance: an MCP server, and a sidecar for it."""
        number = next(self._numbers)
        route = await self.route(number)
        server = McpServer(("-m", "tests.servers.odd"), self.folder)
        self._stack.push_async_callback(server.close)
        clock = Clock(self.folder / f"clock-{id}")
        # In a network of its own, a Consul agent knows an address on which the server is not.
        place = ("--url", server.url, "--advertise-url", server.url)
        sidecar = await self._sidecar(id, route, clock, (*place, *options))
        agent = self.agent_of(number)
        instance = InstanceProcesses(id, server, sidecar, route, agent, clock)
        self.instances.append(instance)
        await server.start()
        self.history.note("serves", id)
        await instance.sidecar.start()
        self.history.note("watched", id)
        return instance

    async def move(self, instance: InstanceProcesses) -> None:
        """Gives the instance another MCP server, on another port, and a sidecar that is told so."""
        await instance.server.close()
        instance.server = McpServer(("-m", "tests.servers.odd"), self.folder)
        self._stack.push_async_callback(instance.server.close)
        await instance.server.start()
        url = instance.server.url
        place = ("--url", url, "--advertise-url", url)
        instance.sidecar = await self._sidecar(instance.id, instance.route, instance.clock, place)

    async def start_bridged(self, id: str) -> BridgedProcesses:
        """Starts one more instance: a sidecar that bridges to an MCP server over stdio."""
        number = next(self._numbers)
        route = await self.route(number)
        listens = ("--listen", f"{ports.LOOPBACK}:0", "--", str(GO / "go-sdk-memory"))
        sidecar = await self._sidecar(id, route, Clock(self.folder / f"clock-{id}"), listens)
        bridged = BridgedProcesses(id, sidecar, self.agent_of(number))
        self.bridged.append(bridged)
        await sidecar.start()
        await bridged.serves()
        self.history.note("serves", id)
        self.history.note("watched", id)
        return bridged

    async def _sidecar(
        self, id: str, route: StoreRoute, clock: Clock, place: Sequence[str]
    ) -> Program:
        """``place`` is what says where its server is, at the end of the command line."""
        given = ("--id", id, "--name", "thing", "--tag", "things")
        terms = self.history.terms
        times = ("--ttl", f"{terms.ttl:g}", "--probe-interval", f"{terms.probe_interval:g}")
        more = ("--reap-after", "600", "--drain", "0.5", *place)
        credentials = await self._credentials(f"sidecar-{id}", "sidecar")
        arguments = ("sidecar", *credentials, "--store", route.url, *given, *times, *more)
        sidecar = Program(self.folder, f"sidecar-{id}", arguments, clock)
        self._stack.push_async_callback(sidecar.close)
        return sidecar

    async def start_facade(self, name: str) -> FacadeProcess:
        """Starts one more facade, and reads it from now on."""
        number = len(self.facades)
        route = await self.route(number)
        port = ports.draw()
        self._stack.callback(port.release)
        url = f"http://{ports.LOOPBACK}:{port.number}"
        sweeps = () if number else ("sweeper",)  # as docs/consul.md wants it of one or two
        credentials = await self._credentials(name, "facade", *sweeps)
        given = ("--store", route.url, "--port", str(port.number), "--semantic", "none")
        arguments = ("facade", *given, *credentials)
        clock = Clock(self.folder / f"clock-{name}")
        program = Program(self.folder, name, arguments, clock)
        self._stack.push_async_callback(program.close)
        await program.start()
        await ready(url)
        facade = FacadeProcess(name, url, program, route, self.agent_of(number), clock)
        self.facades.append(facade)
        await self._stack.enter_async_context(reading(self.history, name, url))
        return facade

    def part(
        self, instances: Sequence[InstanceProcesses], facades: Sequence[FacadeProcess]
    ) -> Environment:
        """The same environment, in which faults take none but these instances and facades."""
        part = copy.copy(self)
        part.own_instances, part.own_facades = instances, facades
        return part

    @contextmanager
    def taking(self, name: str) -> Iterator[None]:
        """One instance or facade is a fault's own meanwhile."""
        self.taken.add(name)
        try:
            yield
        finally:
            self.taken.discard(name)

    # -- waiting for it ------------------------------------------------------------------------

    async def store_answers(self, timeout: float = 150) -> None:
        """Waits until the store takes writes and gives reads, by every way that programs use.

        A Consul agent may cling to a server that hangs for more than a minute.
        """

        async def passed() -> bool:
            key = f"faults/{uuid.uuid4().hex}"
            members = [each for each in self.cluster.answering if each not in self.apart]
            nodes = self.agents or members
            for node in nodes:
                await node.put(key, "1")
                if await node.get(key) != "1":
                    return False
            return all([await self.passes_on(agent) for agent in self.agents])

        await until(passed, timeout=timeout, what=f"{self.kind} taking writes")

    async def whole(self) -> None:
        """Waits until every member has a vote.

        Consul gives one that came back without its data no vote for 10 to 20 s: one more fault
        within these leaves two voters, or one, and no leader.
        """

        async def all_vote() -> bool:
            member = self.cluster.answering[0]
            if not isinstance(member, ConsulServer):
                return True
            raft = (await member.api("GET", "/v1/operator/raft/configuration")).json()
            voters = [each for each in raft["Servers"] if each["Voter"]]
            return len(voters) == len(raft["Servers"]) == len(self.cluster.members)

        await until(all_vote, timeout=60, what="every member having a vote")

    async def passes_on(self, agent: ConsulAgent) -> bool:
        """Whether ``agent`` tells the servers what it is told. When a full comparison with them
        failed, which it does every minute or two, it tells nothing for 15 to 30 s."""
        name, tag = "canary", uuid.uuid4().hex
        body = {"Name": name, "ID": f"{name}-{agent.name}", "Tags": [tag]}
        await agent.api("PUT", "/v1/agent/service/register", body=body)
        path = f"/v1/catalog/service/{name}?tag={tag}&consistent"

        async def listed() -> bool:
            return bool((await agent.api("GET", path)).json())

        try:
            return await until(listed, timeout=1, what="a canary at the servers")
        except TimeoutError:
            return False

    async def settled(self, timeout: float = 30) -> None:
        """Waits until every reader is shown just those that live, and nothing as stale.

        What stays untrue is the checker's to tell.
        """
        names = [each.name for each in self.facades]
        await self.seen(lambda: self.observer.settled(names), timeout)

    async def shows(
        self,
        ids: Iterable[str],
        status: str,
        *,
        timeout: float = 30,
        facades: Sequence[FacadeProcess] | None = None,
    ) -> None:
        """Waits until every facade, or these ``facades``, shows ``ids`` with ``status``."""
        wanted = list(ids)
        await self.seen(
            lambda: all(
                each.shown.get(id) == status for each in self._readers(facades) for id in wanted
            ),
            timeout,
        )

    async def says_stale(self, *facades: FacadeProcess, timeout: float = 40) -> None:
        """Waits until these facades, or all, say that their store is away, or that they have no
        list."""
        readers = self._readers(facades or None)
        await self.seen(lambda: all(each.stale or each.away for each in readers), timeout)

    async def gives_no_list(self, facade: FacadeProcess) -> None:
        """Waits until the readers of ``facade`` have noticed that it is gone."""
        await self.seen(lambda: all(each.away for each in self._readers([facade])), 30)

    async def seen(self, holds: Callable[[], bool], timeout: float) -> None:
        """Waits until ``holds``; after ``timeout`` seconds that is noted, and the
        test goes on."""

        async def condition() -> bool:
            return holds()

        try:
            await until(condition, timeout=timeout, what="what is awaited")
        except TimeoutError as error:
            self.history.note("note", "driver", text=f"in vain: {error}")

    def _readers(self, facades: Sequence[FacadeProcess] | None) -> list[Reader]:
        # What happens to a facade that a fault has for itself is that fault's business.
        free = [each for each in self.facades if each.name not in self.taken]
        return self.observer.of([each.name for each in (free if facades is None else facades)])


@asynccontextmanager
async def environment(
    kind: StoreKind,
    folder: Path,
    history: History,
    *,
    instances: int = 5,
    facades: int = 2,
    apart: bool = False,
    release: Release = "debian",
) -> AsyncGenerator[Environment, None]:
    """A three-member cluster of a ``release`` (with two client agents where it is Consul), as many
    listed ``instances`` and a bridged one, and as many ``facades`` with readers. With ``apart``
    each member is in a network namespace of its own."""
    async with AsyncExitStack() as stack:
        cluster: Cluster
        program = binaries.find(kind, release)
        if kind == "consul":
            cluster = ConsulCluster(acl=True, config=_CONSUL, program=program)
        else:
            cluster = EtcdCluster(auth=True, program=program)
        made = Environment(kind, cluster, history, folder)
        here = ports.LOOPBACK
        if apart:
            net = await stack.enter_async_context(network(len(cluster.members)))
            made.hosts, here = net.hosts, net.address
            for member, host in zip(cluster.members, net.hosts, strict=True):
                member.host, member.within = host.address, host.within
        await stack.enter_async_context(cluster)
        if isinstance(cluster, ConsulCluster):
            for number in range(2):
                agent = ConsulAgent(cluster, f"agent-{number}", config=_CONSUL)
                agent.host = here
                made.agents.append(await stack.enter_async_context(agent))
        await made.let_in()
        stack.push_async_callback(made.close)
        await asyncio.gather(
            *(made.start_instance(f"thing-{number}") for number in range(instances)),
            made.start_bridged("bridged-0"),
        )
        for number in range(facades):
            await made.start_facade(f"facade-{number}")
        await made.settled()
        yield made

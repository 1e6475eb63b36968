"""What a sidecar costs between HTTP and a server that speaks stdio, beside other bridges."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack

import psutil

from benchmarks.bridges import (
    MCP_PROXY,
    OURS,
    SERVER,
    SUPERGATEWAY,
    Bridge,
    Caller,
    Direct,
    added,
    bridge,
    open_files,
    processes_of,
    rate,
)
from benchmarks.harness import Contender, Contest, Goal, Scale, row
from benchmarks.sidecar_processes import BARE, Beside, python
from tests.foreign.programs import GO

_CLIENTS = 20
#: Sessions that are open at once while many are opened and dropped.
_AT_ONCE = 20
#: Looks at what is left, and the seconds between two.
_LOOKS, _LOOK = 30, 0.2
#: A server that starts within milliseconds, for a process in each session.
_QUICK_SERVER = (str(GO / "go-sdk-memory"),)


@row(
    15,
    "bridge-call",
    "tools/call through a bridge to a server over stdio: what is added to the p50 straight, beside "
    "the better of supergateway and mcp-proxy",
    unit="ms",
    goals=(Goal(0.5, figure="added"), Goal(1.0, figure="added", absolute=True)),
)
async def call(scale: Scale) -> AsyncGenerator[Contest, None]:
    """In turns with the same server that is spoken to straight, over one connection each."""
    turns, calls = scale.of(10, 2), scale.of(50, 10)
    facts: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        direct = await stack.enter_async_context(Direct.opened())
        callers = await _callers(stack)

        async def adds(name: str) -> float:
            through, straight = await added(callers[name], direct, turns, calls)
            facts[name] = f"p50 {through:.2f} ms, straight {straight:.2f} ms (last round)"
            return through - straight

        for name in callers:  # all warm
            await adds(name)

        async def ours() -> dict[str, float]:
            return {"added": await adds(OURS)}

        async def better() -> dict[str, float]:
            return {"added": min(await adds(SUPERGATEWAY), await adds(MCP_PROXY))}

        contest = Contest([Contender(OURS, ours)], Contender("the better", better), facts=facts)
        yield contest


@row(
    15,
    "bridge-rate",
    f"tools/call by {_CLIENTS} clients through a bridge to a server over stdio, beside the better "
    "of supergateway and mcp-proxy",
    unit="calls/s",
    goals=(Goal(2.0, at_least=True),),
)
async def calls_a_second(scale: Scale) -> AsyncGenerator[Contest, None]:
    """Each client has a session and a connection of its own."""
    facts: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        clients: dict[str, list[Caller]] = {}
        for name, first in (await _callers(stack)).items():
            clients[name] = [first]
            for _ in range(_CLIENTS - 1):
                opened = Caller.opened(first.url)
                clients[name].append(await stack.enter_async_context(opened))

        async def of(name: str) -> float:
            found = await rate(clients[name], scale.of(4, 1))
            facts[name] = f"{found:,.0f} calls/s (last round)"
            return found

        async def ours() -> float:
            return await of(OURS)

        async def better() -> float:
            return max(await of(SUPERGATEWAY), await of(MCP_PROXY))

        yield Contest([Contender(OURS, ours)], Contender("the better", better), facts=facts)


async def _callers(stack: AsyncExitStack) -> dict[str, Caller]:
    """Each bridge over a server of its own, with a client."""
    found = {}
    for name in (OURS, SUPERGATEWAY, MCP_PROXY):
        made = await stack.enter_async_context(bridge(name))
        found[name] = await stack.enter_async_context(Caller.opened(made.url))
    return found


@row(
    15,
    "bridge-memory",
    "a sidecar that bridges to a server over stdio, registered, after some calls: resident memory "
    "beside a bare aiohttp server after as many",
    unit="MB",
    goals=(Goal(1.6),),
)
async def memory(scale: Scale) -> AsyncGenerator[Contest, None]:
    """The bridge alone: the server's memory is its own. New processes in every round."""
    facts: dict[str, str] = {}

    async def resident(url: str, process: Beside) -> float:
        async with Caller.opened(url) as caller:
            for _ in range(scale.of(500, 20)):
                await caller.call()
            return await process.settled_memory()

    async def ours() -> float:
        async with bridge(OURS) as made:
            return await resident(made.url, Beside(made.running.process))

    async def bare() -> float:
        async with python("benchmarks/bare_mcp.py") as it:
            return await resident((await it.says("http://")).strip(), it)

    for name in (SUPERGATEWAY, MCP_PROXY):
        async with bridge(name) as made:
            others = await resident(made.url, Beside(made.running.process))
            facts[name] = f"{others:.0f} MB"
    async with python("-c", BARE) as it:
        await it.says("here")
        facts["`import aiohttp` alone"] = f"{await it.settled_memory():.1f} MB"
    yield Contest([Contender(OURS, ours)], Contender("bare aiohttp", bare), facts=facts)


@row(
    15,
    "bridge-sessions",
    "sessions opened, used and dropped through a bridge: what is left of them",
    unit="",
    goals=(
        Goal(0, figure="processes", absolute=True, unit="processes"),
        Goal(0, figure="descriptors", absolute=True, unit="descriptors"),
        Goal(1.0, figure="memory", absolute=True, unit="MB"),
        Goal(0, figure="each: processes", absolute=True, unit="processes"),
        Goal(0, figure="each: descriptors", absolute=True, unit="descriptors"),
        Goal(1.0, figure="each: memory", absolute=True, unit="MB"),
    ),
)
async def sessions(scale: Scale) -> AsyncGenerator[Contest, None]:
    """Some at once: all of them before it counts, and then again. With a process for all, and with
    one in each session; the others do a fiftieth of it."""
    count, each, few = scale.of(10_000, 400), scale.of(1_000, 200), scale.of(200, 200)
    facts = {"sessions": f"{count:,} that share a process, {each:,} with a process each"}

    async def ours() -> dict[str, float]:
        shared = await _left(OURS, count, ("--sessions", "shared"))
        own = await _left(OURS, each, ("--sessions", "each"), _QUICK_SERVER)
        return shared | {f"each: {name}": value for name, value in own.items()}

    for name in (SUPERGATEWAY, MCP_PROXY):
        found = await _left(name, few)
        facts[name] = (
            f"after {few:,} sessions {found['processes']:g} processes and "
            f"{found['descriptors']:g} descriptors more, {found['memory']:.1f} MB"
        )
    yield Contest([Contender(OURS, ours)], rounds=1, facts=facts)


async def _left(
    name: str, count: int, options: tuple[str, ...] = (), server: tuple[str, ...] = SERVER
) -> dict[str, float]:
    """What a bridge has more of after twice ``count`` sessions than after ``count``."""
    async with bridge(name, server, *options) as made:
        await _opened_and_dropped(made.url, count)
        before = await _settled(made)
        await _opened_and_dropped(made.url, count)
        after = await _settled(made)
    names = ("processes", "descriptors", "memory")
    return {name: now - then for name, now, then in zip(names, after, before, strict=True)}


async def _opened_and_dropped(url: str, count: int) -> None:
    """Opens ``count`` sessions, lists the tools in each, and ends it."""

    async def some() -> None:
        async with Caller.opened(url) as caller:
            for left in reversed(range(count // _AT_ONCE)):
                await caller.list()
                if left:  # it drops the last one at its end
                    await caller.drop()
                    await caller.open()

    async with asyncio.TaskGroup() as group:
        for _ in range(_AT_ONCE):
            group.create_task(some())


async def _settled(made: Bridge) -> tuple[int, int, float]:
    """The least of processes, descriptors and MB within some seconds: it probes, and has requests
    of its own under way."""
    seen: list[tuple[int, int, float]] = []
    for _ in range(_LOOKS):
        memory = psutil.Process(made.pid).memory_info().rss / 2**20
        seen.append((processes_of(made), open_files(made), memory))
        await asyncio.sleep(_LOOK)
    processes, files, sizes = zip(*seen, strict=True)
    return min(processes), min(files), min(sizes)

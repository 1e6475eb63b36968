"""Servers on eight SDKs, beside sidecars and posted: listed as what they are, and left in peace."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from mcp import Client
from mcp.client.sse import sse_client

from tests.facade.access.tokens import knowing_sidecars
from tests.foreign.recorder import Recorder, recorded
from tests.foreign.servers import SERVERS, ForeignProcess
from tests.foreign.servers import running as foreign
from tests.programs import AskedFacade, Running, facade, running
from tests.stores.waiting import NotYet, until

#: Seconds between two probes, of sidecars and of the facade; and how many of these are counted.
INTERVAL = 5.0
INTERVALS = 12
#: Requests beyond one for each interval: one may fall upon either end of the time that is counted.
_AT_THE_ENDS = 1
#: What a server is asked ahead of time, and made up for later, when it ended the stream on which it
#: would have told of a change: that one, and what it may have missed.
_ANEW = 3
#: A facade shakes hands with the servers of sidecars as well, once when it first sees them.
_NO_TRIALS = {"MCP_DISCOVERY_TRY_ADVERTISED": "false"}
#: An answer after more than a second is late, and some of these start a process first.
_WELL = ("healthy: ", "degraded: slower than")


@dataclass
class Watched:
    """One server that is watched: by a sidecar, or by the facade to which it was posted."""

    id: str
    process: ForeignProcess
    url: str
    recorder: Recorder
    sidecar: Running | None = None
    statuses: set[str] = field(default_factory=set)


@dataclass
class Fleet:
    """A facade and everything that it lists."""

    facade: AskedFacade
    watched: Mapping[str, Watched]


@pytest.fixture(scope="module")
async def fleet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    """Every foreign server twice, all of them healthy."""
    folder = tmp_path_factory.mktemp("fleet")
    async with AsyncExitStack() as stack:
        starting = (stack.enter_async_context(foreign(server, folder)) for server in SERVERS)
        processes = await asyncio.gather(*starting)
        # Claims of sidecars that it does not know would be tried in any case.
        given, token = knowing_sidecars(folder)
        given |= _NO_TRIALS | {"MCP_DISCOVERY_PROBE_INTERVAL": str(INTERVAL)}
        asked = await stack.enter_async_context(facade(folder, "embedded:", **given))
        watched = {}
        for process in processes:
            for by in ("sidecar", "facade"):
                url, recorder = await stack.enter_async_context(recorded(process.url))
                each = Watched(f"{process.server.name}-{by}", process, url, recorder)
                watched[each.id] = each
                if by == "sidecar":
                    await _beside(stack, folder, asked, each, token)
                else:
                    await _posted(asked, each)

        async def read() -> bool:
            entries = await asked.servers()
            missing = {id for id in watched if not _is_well(entries.get(id, {}))}
            if missing:
                raise NotYet({id: _health(entries.get(id, {})) for id in missing})
            return True

        await until(read, timeout=90, what="every server being read")
        yield Fleet(asked, watched)


def _health(entry: Mapping[str, Any]) -> str:
    return f"{entry.get('status')}: {entry.get('reason')}"


def _is_well(entry: Mapping[str, Any]) -> bool:
    return _health(entry).startswith(_WELL) and bool(entry["capabilities"]["tools"])


async def _beside(
    stack: AsyncExitStack,
    folder: Path,
    asked: AskedFacade,
    it: Watched,
    token: Mapping[str, str],
) -> None:
    """Starts a sidecar."""
    options = {
        "url": it.url,
        "transport": it.process.server.transport,
        "id": it.id,
        "name": it.id,
        "store": asked.url,
        "ttl": str(3 * INTERVAL),
        "probe-interval": str(INTERVAL),
        "slow-after": "2.5",  # a process for each request takes its time
        "drain": "0",
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    it.sidecar = await stack.enter_async_context(running(folder, "sidecar", *arguments, **token))


async def _posted(asked: AskedFacade, it: Watched) -> None:
    """Posts it to the facade."""
    endpoint = {"transport": it.process.server.transport, "url": it.url}
    async with (
        aiohttp.ClientSession() as http,
        http.post(
            f"{asked.url}/servers", json={"id": it.id, "name": it.id, "endpoint": endpoint}
        ) as answer,
    ):
        assert answer.status == 201, await answer.text()


async def test_left_in_peace(fleet: Fleet) -> None:
    """Healthy all the time, with at most one request for each interval, over one session."""
    began = time.monotonic()
    for each in fleet.watched.values():
        each.recorder.most_under_way = 0
    streams = {id: each.recorder.streams for id, each in fleet.watched.items()}
    while time.monotonic() < began + INTERVALS * INTERVAL:
        for id, entry in (await fleet.facade.servers()).items():
            fleet.watched[id].statuses.add(_health(entry))
        await asyncio.sleep(INTERVAL / 4)  # the time in which requests are counted
    faults: dict[str, Any] = {}
    for id, each in fleet.watched.items():
        asked = each.recorder.methods(began)
        anew = max(asked["subscriptions/listen"], each.recorder.streams - streams[id])
        most = INTERVALS + _AT_THE_ENDS + anew * _ANEW
        found = {
            "asked too often": asked.total() > most and dict(asked),
            "shook hands again": asked["initialize"],
            "sessions": each.recorder.open_sessions > 1 and each.recorder.open_sessions,
            "at once": each.recorder.most_under_way > 2 and each.recorder.most_under_way,
            "streams": (each.recorder.streams - streams[id]) > 2
            and each.recorder.streams - streams[id],
            "not healthy": [s for s in each.statuses if not s.startswith(_WELL)],
        }
        if wrong := {what: value for what, value in found.items() if value}:
            faults[id] = wrong
    assert not faults


async def test_what_is_listed_is_what_is_there(fleet: Fleet) -> None:
    """The index of each entry names what the SDK's own client reads."""
    for id, entry in (await fleet.facade.servers()).items():
        process = fleet.watched[id].process
        transport = process.server.transport
        if transport == "websocket":  # which the SDK 2 has no client for
            continue
        tools: list[str] = []
        with suppress(BaseExceptionGroup):  # the SDK's client over HTTP+SSE may break at its end
            async with Client(
                sse_client(process.url) if transport == "sse" else process.url
            ) as client:
                tools = [tool.name for tool in (await client.list_tools()).tools]
        assert entry["capabilities"]["tools"] == tools, id


async def test_every_session_is_closed(fleet: Fleet) -> None:
    """When sidecar and facade have left, no server has a session of ours."""
    for each in fleet.watched.values():
        if each.sidecar is not None:
            assert await each.sidecar.stop() == 0, each.sidecar.log
    await fleet.facade.process.stop()

    async def closed() -> bool:
        return not any(each.recorder.open_sessions for each in fleet.watched.values())

    await until(closed, timeout=5, what="the end of every session")

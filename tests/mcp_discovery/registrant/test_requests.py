"""At most one request in each probe interval, whatever kind of server is registered."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
from aiohttp import web

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.health import Status
from tests.servers.odd import OddServer, Options
from tests.sidecar.harness import Seen, sidecar
from tests.stores.waiting import until

pytestmark = pytest.mark.slow  # what is tested takes its seconds

INTERVAL = 1.0
INTERVALS = 60
#: What connecting leaves: a stream of notifications that is opened, a probe that was due.
TO_CONNECT = 4
#: Notifications that a server sends, at most one in so many intervals.
TOLD_EVERY = 6

LEGACY = Options(era="legacy")
KINDS: dict[str, tuple[str, Options]] = {
    "modern": ("streamable-http", Options(era="modern")),
    "modern-without-streams": ("streamable-http", Options(era="modern", streams=False)),
    "both": ("streamable-http", Options()),
    "stateful": ("streamable-http", LEGACY),
    "stateful-events": ("streamable-http", replace(LEGACY, body="sse")),
    "stateful-without-streams": ("streamable-http", replace(LEGACY, streams=False)),
    "stateless": ("streamable-http", replace(LEGACY, stateful=False)),
    "stateless-events": ("streamable-http", replace(LEGACY, stateful=False, body="sse")),
    "stateless-without-streams": (
        "streamable-http",
        replace(LEGACY, stateful=False, streams=False),
    ),
    "without-lists": ("streamable-http", replace(LEGACY, stateful=False, capabilities="logging")),
    "only-tools": ("streamable-http", replace(LEGACY, capabilities="tools")),
    "without-ping": ("streamable-http", replace(LEGACY, stateful=False, ping=False)),
    "pages": ("streamable-http", replace(LEGACY, tools=35, page=10)),
    "churn": ("streamable-http", replace(LEGACY, stateful=False, churn=True)),
    "churn-pages": ("streamable-http", replace(LEGACY, churn=True, tools=25, page=10)),
    "unreadable": ("streamable-http", replace(LEGACY, error=-32603, delay_method="tools/list")),
    "slow-list": ("streamable-http", replace(LEGACY, delay=0.3, delay_method="prompts/list")),
    "sse": ("sse", Options()),
    "websocket": ("websocket", Options()),
}
#: Kinds that are not registered before one of their lists can be read are asked, all the same.
TOLD = ("both", "stateful", "sse", "websocket")


class OddKind(NamedTuple):
    server: OddServer
    url: str
    transport: str


@asynccontextmanager
async def kept(transport: str, options: Options) -> AsyncIterator[OddKind]:
    server = OddServer(options)
    runner = web.AppRunner(
        server.app(), access_log=None, handler_cancellation=True, shutdown_timeout=0.1
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        scheme = "ws" if transport == "websocket" else "http"
        yield OddKind(server, f"{scheme}://127.0.0.1:{runner.addresses[0][1]}", transport)
    finally:
        await runner.cleanup()


async def test_no_kind_of_server_is_asked_more_than_once_an_interval(
    store: EmbeddedStore, seen: Seen
) -> None:
    async with AsyncExitStack() as stack:
        servers: dict[str, OddKind] = {}
        for kind, (transport, options) in KINDS.items():
            servers[kind] = await stack.enter_async_context(kept(transport, options))
            more: dict[str, Any] = {"ttl": 4.0, "probe_interval": INTERVAL, "id": kind}
            if kind == "stateless":
                more["health_url"] = servers[kind].url + "/health"
            one = servers[kind]
            await stack.enter_async_context(sidecar(store, one.url, transport=transport, **more))

        async def registered() -> bool:
            return set(seen.instances) >= set(KINDS) - {"unreadable"}

        await until(registered, timeout=15.0, what="all but one being registered")
        await asyncio.sleep(2 * INTERVAL)  # what belongs to connecting
        began = time.monotonic()
        before = {kind: Counter(one.server.counts) for kind, one in servers.items()}
        for number in range(INTERVALS):
            await asyncio.sleep(INTERVAL)
            if number % TOLD_EVERY == 0:
                for kind in TOLD:
                    await servers[kind].server.notify("tools")
        found = {kind: one.server.counts - before[kind] for kind, one in servers.items()}
        intervals = (time.monotonic() - began) / INTERVAL
    requests = {kind: of["requests"] for kind, of in found.items()}
    too_many = {
        kind: (number, dict(found[kind]))
        for kind, number in requests.items()
        if number > intervals + TO_CONNECT
    }
    assert not too_many, requests
    # On a machine that is too busy to answer a probe it may have to connect again.
    failed = {id for _, id, one in seen.history if one and one.health.status is Status.DOWN}
    again = {kind for kind, of in found.items() if of["initialize"]}
    # Without a session only other lists hint at another server: who it is, is asked once a minute.
    assert again <= {*failed, "churn"}, requests
    assert found["churn"]["initialize"] <= 1 or "churn" in failed
    assert found["stateless"]["health"] <= intervals + TO_CONNECT
    few = {kind: number for kind, number in requests.items() if number < INTERVALS / 2.5}
    assert not few, "a server is asked at least every other interval"

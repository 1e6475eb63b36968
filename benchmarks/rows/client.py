"""The client library beside the MCP SDK's own client, over the same real server."""

from __future__ import annotations

import statistics
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

from mcp import Client

from benchmarks.harness import Contender, Contest, Goal, Scale, row
from mcp_discovery import Discovery
from tests.mcp_discovery.client.cluster import cluster

#: One call of the server's tool.
_Call: TypeAlias = Callable[[], Awaitable[object]]
#: Calls after the first one that do not count yet.
_WARM_UP = 10


@row(
    11,
    "client",
    "the client library's first call and a warm one, beside the SDK's over the same server",
    unit="ms",
    goals=(Goal(1.3, figure="first call"), Goal(1.05, figure="warm call")),
)
async def calls(scale: Scale) -> AsyncGenerator[Contest, None]:
    """*First*: from a new object to the first result; the library asks a facade for its servers,
    the SDK, which is told the URL, the server for its tools. *Warm*: over a session that is open.

    The server is another process; either client is alone in this one while it is measured. Many
    short rounds: a goal of five percent wants both to meet the same machine.
    """
    warm = scale.of(50, 30)
    with TemporaryDirectory() as folder:
        async with cluster(Path(folder)) as place:
            server = await place.add("a")

            @asynccontextmanager
            async def ours() -> AsyncIterator[_Call]:
                async with Discovery(place.url) as discovery:
                    yield lambda: discovery.call("read", {"key": "x"})

            @asynccontextmanager
            async def theirs() -> AsyncIterator[_Call]:
                async with Client(server.url) as client:
                    await client.list_tools()
                    yield lambda: client.call_tool("read", {"key": "x"})

            yield Contest(
                [Contender("library", _measuring(ours, warm))],
                Contender("SDK", _measuring(theirs, warm)),
                rounds=scale.of(60, 4),
            )


def _measuring(
    opened: Callable[[], AbstractAsyncContextManager[_Call]], warm: int
) -> Callable[[], Awaitable[dict[str, float]]]:
    """Measures the first call of a new object, and then so many others."""

    async def run() -> dict[str, float]:
        took: list[float] = []
        began = time.perf_counter()
        async with opened() as call:
            for _ in range(1 + _WARM_UP + warm):
                await call()
                ended = time.perf_counter()
                took.append((ended - began) * 1000)
                began = ended
        return {
            "first call": took[0],
            "warm call": statistics.median(took[1 + _WARM_UP :]),
        }

    return run

"""No page holds up the event loop, however many replicas a server has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from mcp_discovery.document import CapabilityDocument
from mcp_discovery.health import Health, Status, utcnow
from mcp_discovery.instance import Instance
from tests.facade.large_catalog import LEASE, LargeCatalog, listing
from tests.facade.stalls import collected_as_when_serving, longest_stall, shortest
from tests.records import record

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures(collected_as_when_serving.__name__),
]
_REPLICAS, _TOOLS, _CHANGED, _ROUNDS = 5_000, 300, 200, 5
#: A page of some hundred kilobytes is rendered at a stretch.
_MOST = 0.03
_HTML = {"Accept": "text/html"}
_PATHS = (
    "/",
    "/ui/status",
    "/ui/topology",
    "/ui/tools?q=thing",
    "/ui/tools?limit=500",
    "/ui/servers/many",
    "/ui/servers/none",
    "/ui/tools/many/tool_3",
    "/ui/tools/many/tool_none",
    "/servers/many/history?limit=1000",
    "/servers/many/documents",
)


@pytest.fixture(scope="module")
async def replicas() -> AsyncIterator[LargeCatalog]:
    """A facade with one server of very many replicas, each in a zone of its own."""
    tools = tuple(
        {
            "name": f"tool_{number}",
            "description": "Does a thing. " * 30,
            "inputSchema": {
                "type": "object",
                "properties": {f"p{each}": {"type": "string"} for each in range(20)},
            },
        }
        for number in range(_TOOLS)
    )
    document = CapabilityDocument(tools=tools)
    offers = {"tools": [each["name"] for each in tools], "digest": document.digest}
    now, statuses = utcnow(), (Status.HEALTHY, Status.DEGRADED, Status.DOWN)
    made = [
        Instance(
            record(f"r-{each}", name="many", zone=f"z-{each}", capabilities=offers),
            Health(statuses[each % 3], "because " * 30, now, now),
            LEASE,
        )
        for each in range(_REPLICAS)
    ]
    async with listing(made, {document.digest: document}) as found:
        for number in range(_ROUNDS):
            health = Health(statuses[number % 2], f"round {number}", utcnow(), utcnow())
            for each in range(_CHANGED):
                found.change(Instance(found.instances[f"r-{each}"].record, health, LEASE))
            await asyncio.sleep(0)
        yield found


@pytest.mark.parametrize("path", _PATHS)
async def test_no_page_of_very_many_replicas_holds_up_the_loop(
    replicas: LargeCatalog, path: str
) -> None:
    first = await replicas.ask("GET", path, headers=_HTML)
    assert first.status < 500, first.body

    async def once(_: int) -> float:
        headers = _HTML
        return await longest_stall(replicas.ask, "GET", path, None, headers, wanted=first.status)

    stall = await shortest(once, _MOST)
    assert stall <= _MOST, f"{stall * 1000:.0f} ms"


async def test_the_topology_names_some_of_very_many_zones(replicas: LargeCatalog) -> None:
    page = (await replicas.ask("GET", "/ui/topology")).body
    assert b"and 4800 others" in page
    assert len(page) < 100_000

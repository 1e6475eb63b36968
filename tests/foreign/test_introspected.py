"""Public servers over stdio, started once by the probe: what they offer is what they then do."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_discovery.probe.offer import ServerOffer
from mcp_discovery.probe.stdio import StdioProbe
from mcp_discovery.program import Program
from tests.foreign.stdio_servers import STDIO_SERVERS, StdioServer, furnished

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "server",
    [
        pytest.param(each, id=each.name, marks=() if each.often else pytest.mark.soak)
        for each in STDIO_SERVERS
    ],
)
async def test_what_it_offers_is_read(server: StdioServer, tmp_path: Path) -> None:
    folder = furnished(tmp_path / "own")
    program = Program(command=tuple(server.command(folder, "http://127.0.0.1:9/")))
    probe = StdioProbe(program, server.name)
    try:
        found = await probe.introspect(60)
    finally:
        await probe.close()
    assert found.era == ("modern" if server.modern else "legacy")
    assert server.tool in {each["name"] for each in found.tools}
    assert found.unread == ()
    record, _ = ServerOffer(found).record(
        {"name": "it", "endpoint": {"transport": "stdio", "command": "it"}}
    )
    assert server.tool in record.capabilities.tools

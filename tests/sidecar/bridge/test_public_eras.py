"""What crosses the eras of servers that others wrote: of the TypeScript SDK and of the Python SDK
1.x, which are legacy, and of fastmcp, which has both."""

from __future__ import annotations

from typing import Any

import pytest
from mcp import Client
from mcp.client.client import ConnectMode
from mcp_types import (
    CreateMessageResult,
    ElicitResult,
    ListRootsResult,
    Root,
    TextContent,
)
from pydantic import FileUrl

from tests.foreign.programs import FASTMCP4, NODE, NPM, SDK1
from tests.sidecar.bridge.served import served
from tests.stores.waiting import bounded

pytestmark = pytest.mark.slow

MODES: tuple[ConnectMode, ...] = ("auto", "legacy")
EVERYTHING = (str(NODE), str(NPM / "@modelcontextprotocol/server-everything/dist/index.js"))
#: The same server by the Python SDK 1.x, and by fastmcp.
_TOOLS = """
from pydantic import BaseModel
class Name(BaseModel):
    name: str
server = FastMCP("asking")
@server.tool()
async def ask(ctx: Context) -> str:
    await ctx.info("asking")
    await ctx.report_progress(1, 2)
    {ask}
    return found.action + " " + found.data.name
server.run()
"""
_SDK1 = "from mcp.server.fastmcp import Context, FastMCP" + _TOOLS.format(
    ask='found = await ctx.elicit("Who?", schema=Name)'
)
_FASTMCP = "from fastmcp import Context, FastMCP" + _TOOLS.format(
    ask='found = await ctx.elicit("Who?", response_type=Name)'
)


class Asked:
    """What a client was asked, and what it answers."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    async def elicited(self, context: Any, params: Any) -> ElicitResult:
        self.heard.append("elicitation")
        return ElicitResult(action="accept", content={"name": "Ann"})

    async def sampled(self, context: Any, params: Any) -> CreateMessageResult:
        self.heard.append("sampling")
        content = TextContent(type="text", text="Sampled.")
        return CreateMessageResult(role="assistant", content=content, model="m")

    async def rooted(self, context: Any) -> ListRootsResult:
        self.heard.append("roots")
        return ListRootsResult(roots=[Root(uri=FileUrl("file:///srv"))])

    def client(self, url: str, mode: ConnectMode, **more: Any) -> Client:
        return Client(
            url,
            mode=mode,
            elicitation_callback=self.elicited,
            sampling_callback=self.sampled,
            list_roots_callback=self.rooted,
            **more,
        )


async def text(client: Client, tool: str, **given: Any) -> str:
    found = await bounded(client.call_tool(tool, given), 20)
    return str(found.content[0].text)  # type: ignore[union-attr]


@pytest.mark.parametrize("mode", MODES)
async def test_the_typescript_sdks_server(mode: ConnectMode) -> None:
    asked = Asked()
    async with served(*EVERYTHING) as one, asked.client(one.url, mode) as client:
        assert "file:///srv" in await text(client, "get-roots-list")
        sampled = await text(client, "trigger-sampling-request", prompt="Hi", maxTokens=5)
        assert "Sampled." in sampled
        assert "provided the requested" in await text(client, "trigger-elicitation-request")
        assert asked.heard == ["roots", "sampling", "elicitation"]


# In mid-request fastmcp's asks legacy clients alone, as it says itself.
@pytest.mark.parametrize(
    ("python", "mode"), [("sdk1", "auto"), ("sdk1", "legacy"), ("fastmcp4", "legacy")]
)
async def test_python_servers_that_ask(python: str, mode: ConnectMode) -> None:
    said: list[str] = []
    steps: list[float] = []

    async def logged(params: Any) -> None:
        said.append(str(params.data))

    async def progress(progress: float, total: float | None, message: str | None) -> None:
        steps.append(progress)

    command = (str(SDK1), "-c", _SDK1) if python == "sdk1" else (str(FASTMCP4), "-c", _FASTMCP)
    asked = Asked()
    async with (
        served(*command) as one,
        asked.client(one.url, mode, logging_callback=logged, log_level="info") as client,
    ):
        found = await bounded(client.call_tool("ask", {}, progress_callback=progress), 20)
        assert found.content[0].text == "accept Ann", found  # type: ignore[union-attr]
        assert (asked.heard, steps) == (["elicitation"], [1])
        assert any("asking" in each for each in said)

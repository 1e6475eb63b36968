"""Pings that ask for a page of a list instead, and notice what a server changes without a word."""

from __future__ import annotations

from collections import Counter

import pytest

from mcp_discovery.probe import McpProbe
from tests.mcp_discovery.probe.conftest import MakeProbe
from tests.servers.process import McpServer, odd, sdk

TOOLS = "tools/list"
OTHERS = ("resources/list", "resources/templates/list", "prompts/list")
#: What has its turn between two questions for tools, by era; a legacy answer is a sign of life.
BETWEEN = {"modern": {"server/discover", *OTHERS}, "legacy": set(OTHERS)}
ERAS = pytest.mark.parametrize("era", BETWEEN)


class Noticing:
    """Counts what a probe notices."""

    def __init__(self, probe: McpProbe) -> None:
        self.times = 0
        probe.noticed = self

    def __call__(self) -> None:
        self.times += 1


async def asked(server: McpServer, before: Counter[str] | None = None) -> Counter[str]:
    """What the server was asked, after what it was asked ``before``."""
    return Counter((await server.control())["counts"]) - (before or Counter())


async def pinged(probe: McpProbe, times: int) -> None:
    for _ in range(times):
        await probe.ping(5, along=True)


@ERAS
@pytest.mark.parametrize("stateful", ["--stateful", "--no-stateful"])
async def test_one_question_each_time_and_tools_every_other_time(
    era: str, stateful: str, probe_of: MakeProbe
) -> None:
    async with odd("--era", era, stateful) as server:
        probe = probe_of(server.url)
        await probe.refresh(5)
        noticing, before = Noticing(probe), await asked(server)
        turns = len(BETWEEN[era])
        await pinged(probe, 4 * turns)
        found = await asked(server, before)
        assert found["POST"] == 4 * turns
        assert found[TOOLS] == 2 * turns
        assert {name: found[name] for name in BETWEEN[era]} == dict.fromkeys(BETWEEN[era], 2)
        assert noticing.times == 0


@ERAS
@pytest.mark.parametrize("change", [{"tools": 7}, {"description": "multiplies"}])
async def test_a_change_without_a_word_is_noticed_and_read_with_the_same_request(
    era: str, change: dict[str, object], probe_of: MakeProbe
) -> None:
    async with odd("--era", era) as server:
        probe = probe_of(server.url)
        before = await probe.refresh(5)
        noticing, requests = Noticing(probe), await asked(server)
        await server.control(**change)
        await pinged(probe, 2)
        assert noticing.times == 1
        after = await probe.refresh(5)
        assert after.tools != before.tools
        assert (await asked(server, requests))["POST"] == 2
        await pinged(probe, 2 * len(BETWEEN[era]))
        assert noticing.times == 1
        assert await probe.refresh(5) is after


async def test_a_new_version_of_a_modern_server_is_noticed(probe_of: MakeProbe) -> None:
    async with odd() as server:
        probe = probe_of(server.url)
        await probe.refresh(5)
        noticing = Noticing(probe)
        await server.control(version="9.0.0")
        await pinged(probe, 2 * len(BETWEEN["modern"]))
        assert noticing.times == 1
        assert (await probe.refresh(5)).server_info["version"] == "9.0.0"


@ERAS
@pytest.mark.parametrize("fault", [{"delay": 1.0}, {"error": -32603}, {"error": -32601}])
async def test_a_list_that_is_not_answered_as_before_is_read_beside(
    era: str, fault: dict[str, object], probe_of: MakeProbe
) -> None:
    async with odd("--era", era) as server:
        probe = probe_of(server.url)
        known = await probe.refresh(5)
        noticing = Noticing(probe)
        await server.control(**fault, delay_method=TOOLS)
        # The server lives and answers at once, whatever one of its lists does.
        for _ in range(8):
            assert await probe.ping(5, along=True) < 0.5
        assert noticing.times >= 1
        found = await probe.refresh(5)
        if fault.get("error") == -32603:
            assert [(each.noun, each.reason) for each in found.unread] == [
                ("tools", "answered tools/list with error -32603: odd on demand")
            ]
        gone = fault.get("error") == -32601
        assert found.tools == (() if gone else known.tools)
        await server.control(delay=0, error=0, tools=5)
        probe._lists.want("tools")
        found = await probe.refresh(5)
        assert (len(found.tools), found.unread) == (5, ())
        before = await asked(server)
        await pinged(probe, 4)
        assert (await asked(server, before))["POST"] == 4


@ERAS
async def test_long_lists_are_read_a_page_each_time(era: str, probe_of: MakeProbe) -> None:
    async with odd("--era", era, "--tools", "30", "--page", "10") as server:
        probe = probe_of(server.url)
        known = await probe.refresh(5)
        noticing, before = Noticing(probe), await asked(server)
        await pinged(probe, 12)
        found = await asked(server, before)
        assert (found["POST"], found[TOOLS], noticing.times) == (12, 6, 0)
        assert await probe.refresh(5) is known
        for tools in (31, 29, 20, 5, 45):
            await server.control(tools=tools)
            await pinged(probe, 12)
            assert len((await probe.refresh(5)).tools) == tools
        await server.control(description="weighs")
        await pinged(probe, 10)
        found_last = await probe.refresh(5)
        assert found_last.tools[-1]["description"] == "Tool 44 weighs"


async def test_a_list_that_is_another_one_each_time_costs_no_more(probe_of: MakeProbe) -> None:
    async with odd("--era", "legacy", "--no-stateful", "--churn") as server:
        probe = probe_of(server.url)
        await probe.refresh(5)
        before = await asked(server)
        for _ in range(12):
            await probe.ping(5, along=True)
            await probe.refresh(5)
        found = await asked(server, before)
        assert found["POST"] == 12
        assert not found["initialize"]


@pytest.mark.parametrize("options", [("--era", "legacy"), ("--era", "legacy", "--stateless"), ()])
async def test_a_server_of_the_sdk_answers_alike(
    options: tuple[str, ...], probe_of: MakeProbe
) -> None:
    async with sdk(*options) as server:
        probe = probe_of(server.url)
        await probe.refresh(5)
        noticing = Noticing(probe)
        await pinged(probe, 10)
        assert noticing.times == 0
        await server.offer_tools(9, notify=False)
        await pinged(probe, 2)
        assert noticing.times == 1
        assert len((await probe.refresh(5)).tools) == 9

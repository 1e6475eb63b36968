"""Pings that ask for short lists in turn, and notice what a server changes without a word."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from mcp_discovery.probe import McpProbe
from mcp_discovery.probe.introspection import RequestRotation
from tests.mcp_discovery.probe.conftest import MakeProbe
from tests.servers.process import odd, sdk

#: What is asked in place of a reading, by era; a legacy session is a sign of life by itself.
LISTS = ("tools/list", "resources/list", "resources/templates/list", "prompts/list")
ASKED = {"modern": {"server/discover", *LISTS}, "legacy": set(LISTS)}


class Noticing:
    """Counts what a probe notices."""

    def __init__(self, probe: McpProbe) -> None:
        self.times = 0
        probe.noticed = self

    def __call__(self) -> None:
        self.times += 1


@pytest.mark.parametrize("era", ASKED)
async def test_all_is_asked_in_turn_and_nothing_is_noticed(era: str, probe_of: MakeProbe) -> None:
    async with odd("--era", era) as server:
        probe = probe_of(server.url)
        await probe.introspect(5)
        noticing = Noticing(probe)
        assert probe.glances
        before = Counter((await server.control())["counts"])
        for _ in range(2 * len(ASKED[era])):
            await probe.ping(5, reading_within=60)
        asked = Counter((await server.control())["counts"]) - before
        assert {name: asked[name] for name in asked if name in {*LISTS, "server/discover"}} == (
            dict.fromkeys(ASKED[era], 2)
        )
        assert not asked["ping"]
        assert noticing.times == 0


@pytest.mark.parametrize("era", ASKED)
async def test_all_that_is_due_is_asked(era: str, probe_of: MakeProbe) -> None:
    async with odd("--era", era) as server:
        probe = probe_of(server.url)
        await probe.introspect(5)
        await probe.ping(5, reading_within=0.0)
        before = Counter((await server.control())["counts"])
        for _ in range(3):
            await probe.ping(5, reading_within=0.0)
        asked = Counter((await server.control())["counts"]) - before
        assert {name: asked[name] for name in ASKED[era]} == dict.fromkeys(ASKED[era], 3)


@pytest.mark.parametrize("era", ASKED)
@pytest.mark.parametrize("change", [{"tools": 7}, {"description": "multiplies"}])
async def test_a_change_without_a_word_is_noticed(
    era: str, change: dict[str, object], probe_of: MakeProbe
) -> None:
    async with odd("--era", era) as server:
        probe = probe_of(server.url)
        before = await probe.introspect(5)
        noticing = Noticing(probe)
        await server.control(**change)
        for _ in ASKED[era]:
            await probe.ping(5, reading_within=60)
        assert noticing.times >= 1
        assert await probe.introspect(5) is not before
        noticing.times = 0
        for _ in ASKED[era]:
            await probe.ping(5, reading_within=60)
        assert noticing.times == 0


async def test_a_new_version_of_a_modern_server_is_noticed(probe_of: MakeProbe) -> None:
    async with odd() as server:
        probe = probe_of(server.url)
        await probe.introspect(5)
        noticing = Noticing(probe)
        await server.control(version="9.0.0")
        for _ in ASKED["modern"]:
            await probe.ping(5, reading_within=60)
        assert noticing.times == 1


@pytest.mark.parametrize("fault", [{"delay": 1.0}, {"error": -32603}])
async def test_a_list_that_is_not_answered_as_before_is_left_to_readings(
    fault: dict[str, object], probe_of: MakeProbe
) -> None:
    async with odd() as server:
        probe = probe_of(server.url)
        await probe.introspect(5)
        noticing = Noticing(probe)
        await server.control(**fault, delay_method="tools/list")
        # The server lives and answers at once, whatever one of its lists does.
        assert max([await probe.ping(5, reading_within=60) for _ in ASKED["modern"]]) < 0.5
        assert noticing.times == 1
        assert not probe.glances
        await server.control(delay=0, error=0)
        await probe.introspect(5)  # slow ones are read at the same time, and are quick now
        assert probe.glances


async def test_long_lists_are_left_to_readings(probe_of: MakeProbe) -> None:
    async with odd("--tools", "30", "--page", "10") as server:
        probe = probe_of(server.url)
        await probe.introspect(5)
        assert not probe.glances
        counts = Counter((await server.control())["counts"])
        await probe.ping(5, reading_within=60)
        asked = Counter((await server.control())["counts"]) - counts
        assert asked["server/discover"] == 1
        assert not asked["tools/list"]


async def test_a_server_of_the_sdk_answers_alike(probe_of: MakeProbe) -> None:
    async with sdk() as server:
        probe = probe_of(server.url)
        await probe.introspect(5)
        noticing = Noticing(probe)
        for _ in range(10):
            await probe.ping(5, reading_within=60)
        assert noticing.times == 0
        await server.offer_tools(9, notify=False)
        for _ in range(5):
            await probe.ping(5, reading_within=60)
        assert noticing.times >= 1


@pytest.mark.parametrize("pause", [0.5, 0.8, 1.0, 3.0])
def test_turns_come_in_time(pause: float, monkeypatch: pytest.MonkeyPatch) -> None:
    within, now = 3.33, 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    rotation, requests = RequestRotation(), ["a", "b", "c", "d", "e"]
    asked = dict.fromkeys(requests, 0.0)
    rotation.due(requests, within)
    total = 0
    for _ in itertools.repeat(None, 200):
        now += pause
        found = rotation.due(requests, within)
        assert len(set(found)) == len(found) >= 1
        total += len(found)
        asked |= dict.fromkeys(found, now)
        assert all(now - at < within for at in asked.values())
    # No more often than it takes, but for one in each pause.
    slots = max(1, int(within / pause))
    assert total <= 200 * max(1.0, len(requests) / slots) + len(requests)

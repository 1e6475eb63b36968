"""Skills of a server (SEP-2640): read where it declares them, and again when they change."""

from __future__ import annotations

import pytest

from mcp_discovery.document import CapabilityDocument
from mcp_discovery.probe.offer import ServerOffer
from tests.mcp_discovery.probe.conftest import MakeProbe
from tests.mcp_discovery.probe.test_reading_along import Noticing, asked, pinged
from tests.servers.process import odd

ERAS = pytest.mark.parametrize("era", ["modern", "legacy"])
#: After so many pings each list has had its turn.
ROUND = 12


@ERAS
@pytest.mark.parametrize("count", [0, 1, 40])
async def test_every_page_with_its_digests(era: str, count: int, probe_of: MakeProbe) -> None:
    async with odd("--era", era, "--skills", str(count), "--page", "7") as server:
        found = await probe_of(server.url).introspect(10)
        names = [f"skill-{n}" for n in range(count)]
        document = ServerOffer(found).document
        assert document.names()["skills"] == names
        assert len(document.tools) == 3
        files = [file for each in document.skills for file in each["resources"]]
        assert len({file["digest"] for file in files}) == count
        assert CapabilityDocument.from_json(document.canonical, digest=document.digest) == document
        record, notes = ServerOffer(found).record({"name": "odd", "endpoint": {"url": server.url}})
        assert (list(record.capabilities.skills), notes) == (names, ())


@ERAS
async def test_nobody_is_asked_who_does_not_declare_them(era: str, probe_of: MakeProbe) -> None:
    for options in (("--capabilities", "tools"), ("--omit", "capabilities")):
        async with odd("--era", era, *options) as server:
            assert (await probe_of(server.url).introspect(5)).skills == ()
            assert (await asked(server))["skills/list"] == 0


@ERAS
async def test_a_server_that_has_them_for_who_knows_skills(era: str, probe_of: MakeProbe) -> None:
    async with odd("--era", era, "--skills", "1", "--choosy") as server:
        assert len((await probe_of(server.url).introspect(5)).skills) == 1


@ERAS
@pytest.mark.parametrize("change", [{"skills": 3}, {"description": "differs"}, {"skills": 0}])
async def test_a_change_without_a_word(
    era: str, change: dict[str, object], probe_of: MakeProbe
) -> None:
    async with odd("--era", era, "--skills", "2") as server:
        probe = probe_of(server.url)
        before = await probe.refresh(5)
        noticing = Noticing(probe)
        await server.control(**change)
        await pinged(probe, ROUND)
        assert noticing.times >= 1
        after = await probe.refresh(5)
        assert after.skills != before.skills
        digests = {ServerOffer(each).document.digest for each in (before, after)}
        assert len(digests) == 2


async def test_changed_resources_are_changed_skills(probe_of: MakeProbe) -> None:
    async with odd("--skills", "2") as server:
        probe = probe_of(server.url)
        await probe.refresh(5)
        await server.control(skills=5)
        probe._lists.want("resources")  # as its notification does
        assert len((await probe.refresh(5)).skills) == 5


@ERAS
async def test_skills_that_cannot_be_read_stay_as_they_were(era: str, probe_of: MakeProbe) -> None:
    async with odd("--era", era, "--skills", "2") as server:
        probe = probe_of(server.url)
        known = await probe.refresh(5)
        await server.control(error=-32603, delay_method="skills/list")
        await pinged(probe, ROUND)
        found = await probe.refresh(5)
        assert [each.noun for each in found.unread] == ["skills"]
        assert (found.skills, found.tools) == (known.skills, known.tools)


async def test_one_that_is_declared_and_not_there(probe_of: MakeProbe) -> None:
    options = ("--skills", "2", "--error", "-32601", "--delay_method", "skills/list")
    async with odd(*options) as server:
        found = await probe_of(server.url).introspect(5)
        assert (found.skills, found.unread, len(found.tools)) == ((), (), 3)

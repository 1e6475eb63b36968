"""What a server offers is what the store says, whether the server tells of its changes or not."""

from __future__ import annotations

import pytest

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.health import Status
from tests.servers.process import McpServer, odd, sdk
from tests.sidecar.harness import Seen, sidecar
from tests.stores.waiting import until

INTERVAL = 1.0
MARGIN = 0.4
#: Every other probe asks for the tools; those between ask for one of what else there is.
TOOLS, OTHERS = 2 * INTERVAL + MARGIN, 2 * 4 * INTERVAL + MARGIN


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_a_silent_change_of_tools_is_found_within_two_intervals(
    store: EmbeddedStore, seen: Seen, era: str
) -> None:
    async with odd("--era", era, "--no-streams") as server, sidecar(store, server.url):
        before = await seen.until_status(Status.HEALTHY, within=3.0)
        await server.control(tools=5)
        after = await seen.until(
            lambda one: len(one.record.capabilities.tools) == 5,
            within=TOOLS,
            what="5 tools",
        )
        assert after.health == before.health
        assert after.record.registered_at == before.record.registered_at
        document = await store.document(str(after.record.capabilities.digest))
        assert [tool["name"] for tool in document.tools] == [f"tool-{n}" for n in range(5)]


async def test_a_changed_schema_changes_the_digest(
    store: EmbeddedStore, seen: Seen, server: McpServer
) -> None:
    async with sidecar(store, server.url):
        before = await seen.until_status(Status.HEALTHY, within=3.0)
        await server.control(description="multiplies", version="2.0.0")
        after = await seen.until(
            lambda one: one.record.version == "2.0.0", within=OTHERS, what="a change"
        )
        assert after.record.capabilities.tools == before.record.capabilities.tools
        assert after.record.capabilities.digest != before.record.capabilities.digest
        assert after.record.version == "2.0.0"


async def test_a_changed_file_of_a_skill_is_found_without_a_word(
    store: EmbeddedStore, seen: Seen
) -> None:
    options = ("--skills", "2", "--tools", "0", "--no-streams")
    async with odd(*options) as server, sidecar(store, server.url):
        before = await seen.until_status(Status.HEALTHY, within=3.0)
        assert before.record.capabilities.skills == ("skill-0", "skill-1")
        await server.control(description="differs")
        after = await seen.until(
            lambda one: one.record.capabilities.digest != before.record.capabilities.digest,
            within=OTHERS + 2 * INTERVAL,
            what="another document",
        )
        documents = [
            await store.document(str(one.record.capabilities.digest)) for one in (before, after)
        ]
        files = [each.skills[0]["resources"][0]["digest"] for each in documents]
        assert len({*files}) == 2


@pytest.mark.parametrize("options", [(), ("--era", "legacy")])
async def test_a_change_that_is_told_of_is_found_at_once(
    store: EmbeddedStore, seen: Seen, options: tuple[str, ...]
) -> None:
    # An interval so long that only the notification can be the cause.
    async with odd(*options) as server, sidecar(store, server.url, ttl=60.0, probe_interval=30.0):
        await seen.until_status(Status.HEALTHY, within=3.0)

        async def listening() -> bool:
            return bool((await server.control())["open_streams"])

        await until(listening, timeout=3.0, what="the stream of notifications being open")
        await server.control(tools=7, notify="tools")
        await seen.until(
            lambda one: len(one.record.capabilities.tools) == 7, within=2.0, what="7 tools"
        )


async def test_the_sdk_tells_modern_listeners(store: EmbeddedStore, seen: Seen) -> None:
    async with sdk() as server, sidecar(store, server.url, ttl=60.0, probe_interval=30.0):
        await seen.until_status(Status.HEALTHY, within=5.0)

        async def changed() -> bool:
            # Said again until the listener, which connects in its own time, is there to hear it.
            await server.offer_tools(9, notify=True)
            one = seen.only
            return one is not None and len(one.record.capabilities.tools) == 9

        await until(changed, timeout=5.0, what="9 tools")


async def test_a_server_that_tells_of_changes_all_the_time_is_not_read_all_the_time(
    store: EmbeddedStore, seen: Seen, server: McpServer
) -> None:
    async with sidecar(store, server.url, ttl=60.0, probe_interval=30.0):
        await seen.until_status(Status.HEALTHY, within=3.0)

        async def told_often() -> bool:
            counts = (await server.control(notify="tools"))["counts"]
            return bool(counts["tools/list"] >= 3)

        await until(told_often, timeout=5.0, what="three readings")
        assert (await server.control())["counts"]["tools/list"] == 3
        assert len(seen.history) == 1


@pytest.mark.parametrize(("before", "after"), [("legacy", "modern"), ("modern", "legacy")])
async def test_a_server_that_returns_in_the_other_era_is_read_anew(
    store: EmbeddedStore, seen: Seen, before: str, after: str
) -> None:
    async with odd("--era", before) as server, sidecar(store, server.url):
        await seen.until(lambda one: one.record.protocol.era == before, within=3.0, what=before)
        await server.restart("--era", after, "--version", "3.1.4", "--tools", "1")
        one = await seen.until(
            lambda one: one.record.protocol.era == after and one.health.status is Status.HEALTHY,
            within=2.0,
            what=after,
        )
        assert one.record.version == "3.1.4"
        assert one.record.capabilities.tools == ("tool-0",)


async def test_lists_that_cannot_be_read_keep_the_last_document(
    store: EmbeddedStore, seen: Seen, server: McpServer
) -> None:
    async with sidecar(store, server.url):
        before = await seen.until_status(Status.HEALTHY, within=3.0)
        await server.control(error=-32603, delay_method="tools/list")
        now = await seen.until_status(Status.DEGRADED, within=8.0)
        assert "its tools cannot be read: " in now.health.reason
        counted = (await server.control())["counts"]["tools/list"]

        async def tried_on() -> bool:
            return bool((await server.control())["counts"]["tools/list"] >= counted + 2)

        await until(tried_on, timeout=12.0, what="further attempts")
        assert seen.only is not None
        assert seen.only.record == before.record
        assert seen.statuses() == ["healthy", "degraded"]


async def test_slow_lists_delay_no_probe(store: EmbeddedStore, seen: Seen) -> None:
    async with (
        odd("--delay", "1.5", "--delay_method", "tools/list") as server,
        sidecar(store, server.url),
    ):
        one = await seen.until_status(Status.HEALTHY, within=5.0)
        assert len(one.record.capabilities.tools) == 3
        await server.control(tools=4)
        await seen.until(
            lambda one: len(one.record.capabilities.tools) == 4, within=12.0, what="4 tools"
        )
        assert set(seen.statuses()) == {"healthy"}
        await server.control(fail=503, delay_method="")
        await seen.until_status(Status.DOWN, within=4 * INTERVAL)


async def test_another_server_in_the_same_place_is_another_instance(
    store: EmbeddedStore, seen: Seen
) -> None:
    async with odd() as server, sdk() as other, sidecar(store, server.url):
        await seen.until(lambda one: one.record.name == "odd", within=3.0, what="the first")
        await other.kill()
        await server.kill()
        await other.start("--port", str(server.port), ready=False)
        one = await seen.until(
            lambda one: one.record.name == "sdk-server", within=10.0, what="the other"
        )
        assert one.id.startswith("sdk-server-")
        assert one.health.status is Status.HEALTHY

"""A server is registered when it answers, with all that it offers, and leaves in good order."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.health import ANSWERS, Status
from tests.servers.process import McpServer, odd, sdk
from tests.sidecar.harness import Seen, sidecar
from tests.stores.waiting import until


@pytest.mark.parametrize("era", ["modern", "legacy"])
@pytest.mark.parametrize("tools", [0, 3, 400])
async def test_registers_within_two_seconds_of_answering(
    store: EmbeddedStore, seen: Seen, era: str, tools: int, tmp_path: Path
) -> None:
    server = McpServer(("-m", "tests.servers.odd", "--era", era, "--tools", str(tools)), tmp_path)
    async with sidecar(store, server.url, tags=("odd", "things")) as running:
        try:
            await server.start()
            one = await seen.until(lambda _: True, within=2.0, what="being registered")
            assert one.health.status is Status.HEALTHY
            assert one.health.reason == ANSWERS
            record = one.record
            assert (record.name, record.version, record.tags) == ("odd", "1.0.0", ("odd", "things"))
            assert record.endpoint.url == server.url
            assert record.protocol.era == era
            assert len(record.capabilities.tools) == tools
            assert record.description == "Odd on demand."
            document = await store.document(str(record.capabilities.digest))
            assert len(document.tools) == tools
            assert len(document.resource_templates) == 1
            assert not running.task.done()
        finally:
            await server.close()


@pytest.mark.parametrize(
    ("options", "transport", "path"),
    [
        ((), "streamable-http", "/mcp"),
        (("--era", "legacy"), "streamable-http", "/mcp"),
        (("--transport", "sse"), "sse", "/sse"),
    ],
)
async def test_registers_servers_of_the_sdk(
    store: EmbeddedStore, seen: Seen, options: tuple[str, ...], transport: str, path: str
) -> None:
    async with (
        sdk(*options, path=path) as server,
        sidecar(store, server.url, transport=transport),
    ):
        one = await seen.until(lambda _: True, within=5.0, what="being registered")
        assert one.record.name == "sdk-server"
        assert one.record.version == "1.2.3"
        assert one.record.endpoint.transport == transport
        assert one.record.capabilities.tools == ("add_0", "add_1", "add_2")
        assert one.record.capabilities.prompts == ("explain",)


async def test_finds_the_usual_path(store: EmbeddedStore, seen: Seen, server: McpServer) -> None:
    async with sidecar(store, server.base_url):
        one = await seen.until(lambda _: True, within=2.0, what="being registered")
        assert one.record.endpoint.url == server.url


async def test_registers_a_server_that_is_slow_from_the_start(
    store: EmbeddedStore, seen: Seen
) -> None:
    async with (
        odd("--era", "legacy", "--delay", "1.2") as server,
        sidecar(store, server.url, probe_interval=2.0, ttl=6.0),
    ):
        one = await seen.until(lambda _: True, within=20.0, what="being registered")
        assert one.health.status is Status.DEGRADED
        assert one.health.reason == "slower than 0.5 s"


async def test_the_first_attempt_to_reach_a_slow_server_is_not_given_up(
    store: EmbeddedStore, seen: Seen
) -> None:
    slow = ("--delay_method", "initialize", "--delay", "2")
    async with odd("--era", "legacy", *slow) as server, sidecar(store, server.url):
        await seen.until(lambda _: True, within=2.9, what="being registered")


async def test_presents_the_token_and_keeps_it_to_itself(
    store: EmbeddedStore, seen: Seen, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "swordfish-of-the-server"
    async with (
        odd("--token", secret, "--echo_token") as server,
        sidecar(store, server.url, server_token=secret),
    ):
        one = await seen.until(lambda _: True, within=2.0, what="being registered")
        assert one.record.auth.type == "bearer"
        assert secret not in str(one.record.to_dict())
        await server.control(token="another")
        down = await seen.until_status(Status.DOWN, within=2.0)
        assert secret not in down.health.reason
        assert secret not in caplog.text


async def test_a_rotated_token_is_presented_at_once(
    store: EmbeddedStore, seen: Seen, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("first")
    async with (
        odd("--token", "first") as server,
        sidecar(store, server.url, server_token_file=str(file)),
    ):
        one = await seen.until_status(Status.HEALTHY, within=2.0)
        assert one.record.auth.type == "bearer"
        for token in ("second", "third"):
            file.write_text(token)
            asked = sum((await server.control(token=token))["counts"].values())

            async def probed(asked: int = asked) -> bool:
                return bool(sum((await server.control())["counts"].values()) > asked + 3)

            await until(probed, timeout=5, what="probes with the new token")
        assert seen.statuses() == ["healthy"]


async def test_stop_drains_then_deregisters(
    store: EmbeddedStore, seen: Seen, server: McpServer
) -> None:
    async with sidecar(store, server.url, drain=1.0) as running:
        await seen.until_status(Status.HEALTHY, within=3.0)
        stopped = time.monotonic()
        running.stop()
        await seen.until_status(Status.DRAINING, within=0.5)
        assert await running.code(3.0) == 0
        took = time.monotonic() - stopped
        assert 1.0 <= took < 2.0
        await seen.until_gone(within=0.5)
        assert seen.statuses() == ["healthy", "draining", "gone"]


async def test_draining_for_longer_than_ttl_stays_draining(
    store: EmbeddedStore, seen: Seen, server: McpServer
) -> None:
    async with sidecar(store, server.url, ttl=1.0, probe_interval=0.4, drain=2.5) as running:
        await seen.until_status(Status.HEALTHY, within=3.0)
        running.stop()
        assert await running.code(4.0) == 0
        await seen.until_gone(within=0.5)
        assert seen.statuses() == ["healthy", "draining", "gone"]


async def test_a_second_wish_to_stop_cuts_the_waiting_short(
    store: EmbeddedStore, seen: Seen, server: McpServer
) -> None:
    async with sidecar(store, server.url, drain=60.0) as running:
        await seen.until_status(Status.HEALTHY, within=3.0)
        running.stop()
        await seen.until_status(Status.DRAINING, within=0.5)
        running.stop()
        assert await running.code(1.0) == 0
        await seen.until_gone(within=0.5)


async def test_stop_before_the_server_answered_ends_at_once(
    store: EmbeddedStore, seen: Seen, tmp_path: Path
) -> None:
    server = McpServer(("-m", "tests.servers.odd"), tmp_path)
    async with sidecar(store, server.url, drain=60.0) as running:
        running.stop()
        assert await running.code(1.0) == 0
    assert seen.history == []
    await server.close()


async def test_silence_of_the_sidecar_is_seen_by_ttl(
    store: EmbeddedStore, seen: Seen, server: McpServer
) -> None:
    async with sidecar(store, server.url, ttl=1.0, probe_interval=0.4, reap_after=2.0) as running:
        await seen.until_status(Status.HEALTHY, within=3.0)
        await running.crash()
        down = await seen.until_status(Status.DOWN, within=3.0)
        assert down.health.reason == "no heartbeat for 1 s"
        await seen.until_gone(within=4.0)


async def test_renews_only_after_a_round_trip(
    store: EmbeddedStore, seen: Seen, server: McpServer
) -> None:
    async with sidecar(store, server.url):
        first = await seen.until_status(Status.HEALTHY, within=3.0)

        async def later() -> bool:
            counts = (await server.control())["counts"]
            one = seen.only
            assert one is not None
            return sum(counts.values()) >= 8 and one.health == first.health

        await until(later, timeout=12.0, what="further probes")
        assert seen.statuses() == ["healthy"]
        assert len(seen.history) == 1, "heartbeats that change nothing wake no watcher"

"""What a probe finds is what the store says: refusals in one interval, silence a little later."""

from __future__ import annotations

import time
from typing import Any

import pytest

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.health import ANSWERS, Status
from tests.servers.process import McpServer, odd, sdk
from tests.sidecar.harness import Seen, sidecar
from tests.stores.waiting import until

INTERVAL = 1.0
#: What the test itself, its watcher and a busy machine may add.
MARGIN = 0.2
#: An answer that does not come is late after so long (the default of the slow-after time), and
#: missing after so long.
SLOW, TIMEOUT = INTERVAL / 4, 0.7 * INTERVAL
#: From the end of its answers until a server is `degraded`, and `down`: it is asked once more.
LATE = INTERVAL + SLOW + MARGIN
MISSING = INTERVAL + 2 * TIMEOUT + 0.25 + 2 * MARGIN
#: After more requests than one an interval the pauses are longer for a while.
LONGER = INTERVAL


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"fail": 500}, "HTTP 500 from the MCP endpoint"),
        ({"error": -32603}, "answered server/discover with error -32603: odd on demand"),
        ({"garbage": True}, "answered, but not MCP: the body is not JSON"),
        ({"close": True}, "the server closed the connection without an answer"),
    ],
)
async def test_a_failing_probe_is_down_within_the_interval_and_recovers(
    store: EmbeddedStore,
    seen: Seen,
    server: McpServer,
    fault: dict[str, Any],
    reason: str,
) -> None:
    async with sidecar(store, server.url, probe_interval=INTERVAL):
        await seen.until_status(Status.HEALTHY, within=3.0)
        await server.control(**fault)
        down = await seen.until_status(Status.DOWN, within=INTERVAL + MARGIN)
        assert down.health.reason == reason
        await server.control(**dict.fromkeys(fault, 0))
        up = await seen.until_status(Status.HEALTHY, within=INTERVAL + MARGIN)
        assert up.health.reason == ANSWERS


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"fail": 502}, "HTTP 502 from the MCP endpoint"),
        ({"fail": 503}, "HTTP 503 from the MCP endpoint"),
        ({"hang": True}, "no answer within 0.7 s"),
    ],
)
async def test_what_may_pass_is_degraded_within_the_interval_and_down_when_it_lasts(
    store: EmbeddedStore, seen: Seen, server: McpServer, fault: dict[str, Any], reason: str
) -> None:
    async with sidecar(store, server.url, probe_interval=INTERVAL):
        await seen.until_status(Status.HEALTHY, within=3.0)
        await server.control(**fault)
        await seen.until_status(Status.DEGRADED, within=LATE)
        down = await seen.until_status(Status.DOWN, within=MISSING + LONGER)
        assert down.health.reason == reason
        statuses = [one.health.status for _, _, one in seen.history if one]
        before = statuses.index(Status.DEGRADED)
        assert set(statuses[:before]) == {Status.HEALTHY}
        await server.control(**dict.fromkeys(fault, 0))
        await seen.until_status(Status.HEALTHY, within=INTERVAL + MARGIN)


@pytest.mark.parametrize("options", [(), ("--era", "legacy")])
async def test_a_crash_is_seen_at_once_and_so_is_the_return(
    store: EmbeddedStore, seen: Seen, options: tuple[str, ...]
) -> None:
    # A long interval: it is the end of the stream of notifications that tells.
    async with sdk(*options) as server, sidecar(store, server.url, ttl=30.0, probe_interval=10.0):
        await seen.until_status(Status.HEALTHY, within=5.0)
        await server.kill()
        await seen.until_status(Status.DOWN, within=3.0)
        await seen.until(
            lambda one: one.health.reason == "connection refused", within=3.0, what="the reason"
        )
        await server.start()
        await seen.until_status(Status.HEALTHY, within=2.0)


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_a_frozen_server_is_degraded_after_the_interval_and_down(
    store: EmbeddedStore, seen: Seen, era: str
) -> None:
    async with odd("--era", era) as server, sidecar(store, server.url, probe_interval=INTERVAL):
        await seen.until_status(Status.HEALTHY, within=3.0)
        frozen = time.monotonic()
        await server.pause()
        await seen.until_status(Status.DEGRADED, within=LATE)
        down = await seen.until_status(Status.DOWN, within=MISSING + LONGER)
        assert time.monotonic() - frozen <= MISSING
        assert down.health.reason == "no answer within 0.7 s"
        await server.resume()
        await seen.until_status(Status.HEALTHY, within=2.0)


async def test_down_keeps_its_reason_and_beats_on(
    store: EmbeddedStore, seen: Seen, server: McpServer
) -> None:
    async with sidecar(store, server.url, ttl=1.0, probe_interval=0.4):
        await seen.until_status(Status.HEALTHY, within=3.0)
        await server.control(hang=True)
        down = await seen.until_status(Status.DOWN, within=2.0)
        changes = len(seen.history)
        with pytest.raises(TimeoutError):  # three TTLs: silence would have been seen by now
            await seen.until(
                lambda one: one.health != down.health, within=3.0, what="another health"
            )
        assert len(seen.history) == changes


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_slow_is_degraded_without_a_flicker(
    store: EmbeddedStore, seen: Seen, era: str
) -> None:
    async with odd("--era", era) as server, sidecar(store, server.url, slow_after=0.2):
        await seen.until_status(Status.HEALTHY, within=3.0)
        await server.control(delay=0.4)
        degraded = await seen.until_status(Status.DEGRADED, within=LATE)
        assert degraded.health.reason == "slower than 0.2 s"
        changes = len(seen.history)
        with pytest.raises(TimeoutError):
            await seen.until(
                lambda one: one.health != degraded.health, within=2.5, what="another health"
            )
        assert len(seen.history) == changes
        await server.control(delay=0)
        await seen.until_status(Status.HEALTHY, within=INTERVAL + LONGER + 0.5)


async def test_the_health_url_counts(store: EmbeddedStore, seen: Seen, server: McpServer) -> None:
    health_url = f"{server.base_url}/health"
    async with sidecar(store, server.url, health_url=health_url):
        one = await seen.until_status(Status.HEALTHY, within=3.0)
        assert one.record.health_url == health_url
        await server.control(health=503)
        degraded = await seen.until_status(Status.DEGRADED, within=LATE)
        assert degraded.health.reason == "the health endpoint answered HTTP 503"
        await server.control(health=200)
        await seen.until_status(Status.HEALTHY, within=INTERVAL + MARGIN)


async def test_a_health_url_that_does_not_answer_degrades_a_server_that_does(
    store: EmbeddedStore, seen: Seen, server: McpServer
) -> None:
    async with odd() as other, sidecar(store, server.url, health_url=f"{other.base_url}/health"):
        await seen.until_status(Status.HEALTHY, within=3.0)
        await other.kill()
        degraded = await seen.until_status(Status.DEGRADED, within=LATE)
        assert degraded.health.reason == "answers MCP; its health endpoint: connection refused"
        await other.start()
        await seen.until_status(Status.HEALTHY, within=INTERVAL + MARGIN)


async def test_a_health_url_that_complains_for_long_delays_no_verdict(
    store: EmbeddedStore, seen: Seen, server: McpServer
) -> None:
    async with sidecar(store, server.url, health_url=f"{server.base_url}/health"):
        await seen.until_status(Status.HEALTHY, within=3.0)
        await server.control(health=503)
        await seen.until_status(Status.DEGRADED, within=LATE)
        probed = (await server.control())["counts"]["POST"]

        async def probed_often() -> bool:
            return bool((await server.control())["counts"]["POST"] >= probed + 6)

        await until(probed_often, timeout=10.0, what="six more probes")
        await server.control(hang=True)
        await seen.until_status(Status.DOWN, within=MISSING + LONGER)


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_a_server_that_was_always_slow_is_registered_and_degraded(
    store: EmbeddedStore, seen: Seen, era: str
) -> None:
    """Its answers take longer than a quick server is given, but less than half of TTL."""
    async with (
        odd("--era", era, "--delay", "1.2", "--tools", "3") as server,
        sidecar(store, server.url, ttl=6.0, probe_interval=INTERVAL),
    ):
        slow = await seen.until_status(Status.DEGRADED, within=20.0)
        assert slow.health.reason == "slower than 0.25 s"
        assert len(slow.record.capabilities.tools) == 3
        probe = "server/discover" if era == "modern" else "ping"
        probed = (await server.control())["counts"].get(probe, 0)

        async def probed_again() -> bool:
            counts = (await server.control())["counts"]
            return bool(counts.get(probe, 0) >= probed + 4)

        await until(probed_again, timeout=20, what="four more probes")
        assert {one.health.status for _, _, one in seen.history if one} == {Status.DEGRADED}
        await server.control(delay=0)
        await seen.until_status(Status.HEALTHY, within=5.0)
        await server.control(hang=True)
        await seen.until_status(Status.DOWN, within=MISSING + LONGER)

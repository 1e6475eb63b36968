"""Two sidecars with one id: the second waits while the first lives, and takes over after it."""

from __future__ import annotations

import time

import pytest

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.health import Status
from tests.servers.process import McpServer, odd
from tests.sidecar.harness import Seen, sidecar
from tests.stores.waiting import until


async def test_the_second_is_refused_while_the_first_lives(
    store: EmbeddedStore, seen: Seen, server: McpServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with odd() as other, sidecar(store, server.url, id="the-one", probe_interval=0.5):
        first = await seen.until_status(Status.HEALTHY, within=3.0)
        began = time.monotonic()
        async with sidecar(store, other.url, id="the-one", ttl=1.0, probe_interval=0.5) as second:
            assert await second.code(8.0) == 5
        assert time.monotonic() - began >= 1.0 + 3.0
        assert seen.only is not None
        assert seen.only.lease == first.lease
        assert set(seen.statuses()) == {"healthy"}
    assert caplog.text.count("waiting 4 s for it to fall silent") == 1
    assert f"for {server.url}, which is alive; give this instance another id" in caplog.text


async def test_the_second_takes_over_when_the_first_is_silent(
    store: EmbeddedStore, seen: Seen, server: McpServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        odd() as other,
        sidecar(store, server.url, id="the-one", ttl=2.0, probe_interval=0.6) as first,
    ):
        await seen.until_status(Status.HEALTHY, within=3.0)
        async with sidecar(store, other.url, id="the-one", ttl=2.0, probe_interval=0.6) as second:

            async def refused() -> bool:
                return "already held" in caplog.text

            await until(refused, timeout=3.0, what="a refusal")
            await first.crash()
            taken = await seen.until(
                lambda one: one.record.endpoint.url == other.url, within=2.0 + 1.5, what="another"
            )
            assert taken.health.status is Status.HEALTHY
            assert not second.task.done()


@pytest.mark.parametrize("drain", [0.0, 60.0])
async def test_the_second_takes_over_at_once_when_the_first_leaves(
    store: EmbeddedStore,
    seen: Seen,
    server: McpServer,
    caplog: pytest.LogCaptureFixture,
    drain: float,
) -> None:
    async with (
        odd() as other,
        sidecar(store, server.url, id="the-one", drain=drain) as first,
        sidecar(store, other.url, id="the-one", drain=drain) as second,
    ):

        async def refused() -> bool:
            return "already held" in caplog.text

        await until(refused, timeout=3.0, what="a refusal")
        (leaver, heir) = (first, other.url)
        one = await seen.until_status(Status.HEALTHY, within=1.0)
        if one.record.endpoint.url == other.url:
            leaver, heir = second, server.url
        leaver.stop()
        await seen.until(
            lambda one: one.record.endpoint.url == heir, within=2.0, what="the other one"
        )
        assert await leaver.code(2.0) == 0
        assert seen.only is not None
        assert seen.only.health.status is Status.HEALTHY

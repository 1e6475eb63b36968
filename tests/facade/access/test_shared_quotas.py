"""Several facades count as one in a real Redis, and go on by themselves while it is away."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mcp_discovery.errors import InvalidInputError
from mcp_discovery.facade.access.quota_stores import store_url
from tests.facade.harness import Client, served
from tests.stores.redis import Redis
from tests.stores.tls import Tls
from tests.stores.waiting import until


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[Redis]:
    async with Redis(tmp_path) as server:
        yield server


async def is_shared(ask: Client, shared: bool) -> None:
    async def does() -> bool:
        told = (await ask("GET", "/status")).json["limits"]
        assert ("since" in told) is not told["shared"]
        return bool(told["shared"]) is shared

    await until(does, timeout=20, what=f"shared being {shared}")


async def _good(ask: Client, number: int) -> int:
    return sum([(await ask("GET", "/servers")).status != 429 for _ in range(number)])


async def test_two_facades_count_as_one(redis: Redis) -> None:
    limits: dict[str, Any] = {"limits": ("reads=60/minute",), "limits_store": redis.url}
    async with served(**limits) as one, served(**limits) as two:
        await is_shared(two, True)
        metrics = (await one("GET", "/metrics")).body
        assert b"mcp_discovery_limits_store_away 0.0" in metrics
        good = 0
        for _ in range(40):
            good += await _good(one, 1) + await _good(two, 1)
        assert 40 <= good < 60  # some were used while waiting for them


async def test_while_it_is_away_each_counts_by_itself_and_nobody_waits(
    redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    limits: dict[str, Any] = {"limits": ("reads=100000/minute",), "limits_store": redis.url}
    async with served(**limits) as ask:
        await is_shared(ask, True)
        statuses: list[int] = []
        longest = 0.0
        stop = asyncio.Event()

        async def load() -> None:
            nonlocal longest
            while not stop.is_set():
                began = time.monotonic()
                statuses.append((await ask("GET", "/servers")).status)
                longest = max(longest, time.monotonic() - began)

        readers = [asyncio.create_task(load()) for _ in range(4)]
        try:
            await redis.kill()
            await is_shared(ask, False)
            assert b"mcp_discovery_limits_store_away 1.0" in (await ask("GET", "/metrics")).body
            await redis.start()
            await is_shared(ask, True)
            await redis.pause()
            await is_shared(ask, False)
            await redis.resume()
            await is_shared(ask, True)
        finally:
            stop.set()
            await asyncio.gather(*readers)
        assert set(statuses) == {200}
        assert longest < 2
    told = [each.message for each in caplog.records if "counts by itself" in each.message]
    assert len(told) == 2
    assert len([each for each in caplog.records if "count together again" in each.message]) == 2


async def test_a_facade_starts_without_it(tmp_path: Path) -> None:
    async with Redis(tmp_path) as server:
        url = server.url
    async with served(limits=("reads=10/minute",), limits_store=url) as ask:
        await is_shared(ask, False)
        assert await _good(ask, 20) < 10


async def test_password_and_tls(tmp_path: Path) -> None:
    tls, secret = Tls(tmp_path), tmp_path / "secret"
    secret.write_text("s3cret-of-redis\n")
    async with Redis(tmp_path, password="s3cret-of-redis", tls=tls) as server:
        limits: dict[str, Any] = {"limits": ("reads=1000/minute",), "limits_store": server.url}
        own: dict[str, Any] = {"limits_store_ca": str(tls.ca_file)}
        async with served(**limits, **own, limits_store_password_file=str(secret)) as ask:
            await is_shared(ask, True)
            assert (await ask("GET", "/servers")).status == 200
            await is_shared(ask, True)
        async with served(**limits, **own, limits_store_password="another") as ask:
            await is_shared(ask, False)
        async with served(**limits, limits_store_password_file=str(secret)) as ask:
            await is_shared(ask, False)


def test_urls() -> None:
    assert store_url("rediss://cache.example:6380/2") == "rediss://cache.example:6380/2"
    for wrong in ("memory://", "redis://", "http://a", "redis://:secret@a", "redis://a:b"):
        with pytest.raises(InvalidInputError) as refused:
            store_url(wrong)
        assert "secret" not in str(refused.value)

"""The client keeps in step: changes, upgrades in place, breakers, figures."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import aiohttp
import pytest

from mcp_discovery import Change, Discovery
from mcp_discovery.client.attempt import FAILURES, CircuitBreaker
from tests.mcp_discovery.client.cluster import cluster
from tests.programs import AskedFacade, facade, running
from tests.servers.process import McpServer
from tests.stores import ports
from tests.stores.waiting import until


class Watched:
    """What one watch told, in order."""

    def __init__(self, discovery: Discovery) -> None:
        self.changes: list[Change] = []
        self._task = asyncio.create_task(self._follow(discovery))

    async def _follow(self, discovery: Discovery) -> None:
        async for change in discovery.watch():
            self.changes.append(change)

    async def told(self, kind: str, status: str | None = None) -> Change:
        """Waits for a change of that kind, of an instance that is then ``status``."""

        def fits(change: Change) -> bool:
            shown = change.instance.health.status if change.instance else None
            return change.kind == kind and status in (None, shown)

        async def found() -> Change | None:
            return next(filter(fits, self.changes), None)

        change = await until(found, timeout=30, what=f"{kind} {status}")
        assert change is not None
        return change

    async def close(self) -> None:
        """Ends the watch."""
        self._task.cancel()
        await asyncio.wait([self._task])


async def test_a_watch_misses_nothing_over_a_facade_that_is_started_anew(tmp_path: Path) -> None:
    port = ports.draw()
    url = f"http://127.0.0.1:{port.number}"
    store = f"embedded://{tmp_path}/list.db"
    arguments = ("facade", "--port", str(port.number), "--store", store)
    server = McpServer(("-m", "tests.servers.counting"), tmp_path)
    sidecar = ("sidecar", "--store", url, "--url", server.url, "--id", "a", "--name", "counting")
    try:
        await server.start()
        async with running(tmp_path, *arguments) as first:
            asked = AskedFacade(url, first)
            async with (
                running(tmp_path, *sidecar, "--ttl", "6", "--drain", "0.1") as kept,
                Discovery(url, hold=0) as discovery,
            ):
                await asked.until_status("a", "healthy", 20)
                watched = Watched(discovery)
                assert (await watched.told("added")).id == "a"
                await server.kill()
                changed = await watched.told("changed", "down")
                assert changed.before is not None
                assert changed.before.health.status == "healthy"
                await first.stop(9)
                stale = await watched.told("stale")
                assert stale.since is not None
                assert "cannot be reached" in stale.problem or "broke" in stale.problem
                await server.start()
                async with running(tmp_path, *arguments):
                    await watched.told("fresh")
                    await watched.told("changed", "healthy")
                    await kept.stop()
                    assert (await watched.told("removed")).before is not None
                await watched.close()
    finally:
        await server.close()
        port.release()


async def test_an_upgrade_in_place_is_read_again(tmp_path: Path) -> None:
    async with cluster(tmp_path) as place:
        server = await place.add("a")
        async with Discovery(place.url) as discovery:
            assert not (await discovery.call("read", {"key": "x"})).is_error
            before = {tool.name: tool for tool in await discovery.tools()}["read"]
            await server.restart("--schema", "2")

            async def upgraded() -> bool:
                now = {tool.name: tool for tool in await discovery.tools()}.get("read")
                return now is not None and now.digest != before.digest

            await until(upgraded, timeout=20, what="the new tools")
            result = await discovery.call("read", {"key": "x", "exactly": True})
            assert result.structured_content is not None
            assert result.structured_content["schema"] == 2


def test_a_breaker() -> None:
    now = 0.0
    breaker = CircuitBreaker(lambda: now)
    for _ in range(FAILURES - 1):
        breaker.failed("once")
        assert breaker.closed
    breaker.failed("thrice")
    assert not breaker.closed
    assert 0.25 <= breaker.wait <= 0.5
    now = 1.0
    assert breaker.wait == 0
    assert not breaker.closed, "only a trial closes it"
    breaker.failed("again")
    assert 0.5 <= breaker.wait <= 1.0
    breaker.succeeded()
    assert breaker.closed
    breaker.failed("refused", at_once=True)
    assert not breaker.closed
    assert breaker.reason == "refused"


async def test_a_server_that_is_back_is_called_again_before_anybody_says_so(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path) as place:
        for id in ("a", "b"):
            await place.add(id)
        # Without their sidecars nobody tells that one is down, or up again.
        for sidecar in place.sidecars.values():
            sidecar.send(19)
        async with Discovery(place.url, strategy="round-robin") as discovery:
            await discovery.connect()
            await place.servers["a"].kill()
            for number in range(4):
                result = await discovery.call("write", {"key": f"k{number}"})
                assert not result.is_error
            await place.servers["a"].start()

            async def both() -> bool:
                pids: Counter[int] = Counter()
                for _ in range(4):
                    result = await discovery.call("read", {"key": "again"})
                    assert result.structured_content is not None
                    pids[result.structured_content["pid"]] += 1
                return len(pids) == 2

            await until(both, timeout=5, what="both being called")
        for sidecar in place.sidecars.values():
            sidecar.send(18)


@pytest.mark.parametrize(
    "strategy", ["least-loaded", "power-of-two", "weighted", "consistent-hash"]
)
async def test_each_strategy_chooses(strategy: str, tmp_path: Path) -> None:
    async with cluster(tmp_path) as place:
        # The facade knows nobody: what came later weighs no more than all before it together.
        await place.add("heavy", sidecar=("--weight", "9"))
        await place.add("light", sidecar=("--weight", "1"))
        pids = {(await place.counts(id))["pid"]: id for id in ("light", "heavy")}
        async with Discovery(place.url, strategy=strategy) as discovery:  # type: ignore[arg-type]

            async def one(number: int) -> str:
                key = f"key-{number}" if strategy == "consistent-hash" else None
                result = await discovery.call("read", {"key": str(number)}, key=key)
                assert result.structured_content is not None
                return pids[result.structured_content["pid"]]

            found = Counter(await asyncio.gather(*(one(number) for number in range(100))))
            if strategy == "consistent-hash":
                again = Counter(await asyncio.gather(*(one(number) for number in range(100))))
                assert found == again
        if strategy == "power-of-two":
            assert set(found) == {"light", "heavy"}
        else:
            assert found["heavy"] > found["light"], found


async def test_many_outcomes_at_once(tmp_path: Path) -> None:
    async with facade(tmp_path, "embedded:") as asked, aiohttp.ClientSession() as http:
        entry = {"id": "a", "name": "a", "url": "http://127.0.0.1:9/mcp", "lease": {"ttl": 60}}
        entry["capabilities"] = {"tools": ["look"]}
        async with http.post(f"{asked.url}/servers", json=entry) as response:
            assert response.status == 201
        told = [
            {"id": "a", "success": True, "latency": 5, "capability": "look"},
            {"id": "gone", "success": True},
            {"success": True},
            {"id": "a", "success": "yes"},
            {"id": "a", "success": False, "error": "it broke"},
        ]
        async with http.post(f"{asked.url}/outcomes", json={"outcomes": told}) as response:
            assert response.status == 200
            answer = await response.json()
        assert answer["counted"] == 2
        assert [each["index"] for each in answer["refused"]] == [1, 2, 3]
        assert "gone" in answer["refused"][0]["detail"]
        async with http.post(f"{asked.url}/outcomes", json={"outcomes": told * 300}) as response:
            assert response.status == 422

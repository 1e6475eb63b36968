"""Health checks on request."""

from __future__ import annotations

import asyncio
import time

from tests.facade.connections.bodies import files, register
from tests.facade.harness import Client, leased, served
from tests.servers.process import odd, sdk

NOWHERE = "http://127.0.0.1:9"


async def test_it_probes_now_and_the_list_knows() -> None:
    async with sdk() as server, served(probe_interval=3600.0) as ask:
        id = await register(ask, {"name": "adder", "endpoint": server.url})
        before = (await ask("GET", f"/connections/{id}")).json["health"]
        await server.kill()
        checked = (await ask("POST", f"/connections/{id}/health-check")).json
        assert checked["connectionId"] == id
        assert checked["health"]["status"] == "error"
        assert checked["health"]["reason"] == "connection refused"
        assert "responseTime" not in checked["health"]
        assert "diagnostics" not in checked
        shown = (await ask("GET", f"/connections/{id}")).json
        assert (shown["status"], shown["health"]["status"]) == ("error", "down")
        assert shown["health"]["checksPerformed"] == before["checksPerformed"] + 1
        assert shown["health"]["failedChecks"] == before["failedChecks"] + 1


async def test_one_that_another_keeps_is_probed_and_left_alone(ask: Client) -> None:
    async with odd() as server:
        await ask("POST", "/servers", leased("a", url=server.url))
        checked = (await ask("POST", "/connections/a/health-check")).json
        assert checked["health"]["status"] == "healthy"
        assert checked["health"]["responseTime"] > 0
        await server.control(fail=503)
        checked = (await ask("POST", "/connections/a/health-check")).json
        assert checked["health"]["status"] == "error"
        assert "503" in checked["health"]["reason"]
    checked = (await ask("POST", "/connections/a/health-check", {"timeout": 200})).json
    assert checked["health"]["status"] == "error"
    assert (await ask("GET", "/connections/a")).json["health"]["status"] == "healthy"


async def test_a_stdio_connection_cannot_be_probed(ask: Client) -> None:
    id = await register(ask, files())
    checked = (await ask("POST", f"/connections/{id}/health-check")).json
    assert checked["health"]["status"] == "degraded"
    assert checked["health"]["reason"] == "not probed: its clients start it themselves"
    assert "diagnostics" not in checked


async def test_a_time_out_of_its_own(ask: Client) -> None:
    async with odd() as server:
        body = {"name": "a", "endpoint": server.url, "healthCheck": {"timeout": 10_000}}
        id = await register(ask, body)
        await server.control(hang=True)
        begun = time.monotonic()
        checked = await ask("POST", f"/connections/{id}/health-check", {"timeout": 300})
        assert time.monotonic() - begun < 3
        assert checked.json["health"]["reason"] == "Connection timeout after 300ms"


async def test_one_slow_server_does_not_hold_up_a_batch() -> None:
    async with odd() as slow, sdk() as well, served(probe_timeout=30.0, first_probe=0.1) as ask:
        await slow.control(hang=True)
        for number in range(3):
            await register(ask, {"id": f"slow-{number}", "name": "a", "endpoint": slow.url})
        await ask("POST", "/servers", leased("foreign", url=slow.url))
        await register(ask, {"id": "well", "name": "a", "endpoint": well.url})
        await register(ask, {"id": "refused", "name": "a", "endpoint": NOWHERE})
        named = ["slow-0", "well", "slow-1", "nobody", "slow-2", "foreign", "refused", "well"]
        begun = time.monotonic()
        reply = await ask(
            "POST", "/connections/health-check/batch", {"connectionIds": named, "timeout": 800}
        )
        assert time.monotonic() - begun < 2
        results = {each["connectionId"]: each for each in reply.json["results"]}
        assert list(results) == named[:-1]  # in the order asked for, and once each
        late = {"status": "error", "error": "Connection timeout after 800ms"}
        for id in ("slow-0", "slow-1", "slow-2", "foreign"):
            assert results[id] == {"connectionId": id} | late
        assert results["well"]["status"] == "healthy"
        assert results["well"]["responseTime"] > 0
        assert results["refused"]["error"] == "connection refused"
        assert "no server with id 'nobody'" in results["nobody"]["error"]
        assert reply.json["summary"] == {"total": 7, "healthy": 1, "unhealthy": 6}


async def test_checks_of_one_connection_at_once_are_one_probe(ask: Client) -> None:
    async with odd() as server:
        wish = {"healthCheck": {"interval": 3600, "timeout": 5000}}
        id = await register(ask, {"name": "a", "endpoint": server.url} | wish)
        await server.control(delay=0.3)
        before = (await ask("GET", f"/connections/{id}")).json["health"]["checksPerformed"]
        replies = await asyncio.gather(
            *(ask("POST", f"/connections/{id}/health-check") for _ in range(8))
        )
        assert {reply.json["health"]["status"] for reply in replies} == {"healthy"}
        after = (await ask("GET", f"/connections/{id}")).json["health"]["checksPerformed"]
        assert after == before + 1


async def test_an_empty_batch(ask: Client) -> None:
    reply = await ask("POST", "/connections/health-check/batch", {"connectionIds": []})
    assert reply.json == {"results": [], "summary": {"total": 0, "healthy": 0, "unhealthy": 0}}

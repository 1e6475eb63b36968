"""What receivers are told of the list as a whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mcp_discovery.adapters import open_store
from mcp_discovery.adapters.store import Snapshot
from mcp_discovery.facade.webhooks.deliveries import MOST_PENDING
from mcp_discovery.facade.webhooks.webhooks import WEBHOOKS
from mcp_discovery.health import utcnow
from tests.facade.harness import Client, leased, served
from tests.facade.large_catalog import instance, listing
from tests.facade.servers.test_events import _Cut
from tests.facade.webhooks.receiving import ReceivingServer, webhooks_file
from tests.facade.webhooks.test_deliveries import delivery
from tests.seeds import seeded
from tests.stores.waiting import until, until_holds


async def test_the_store_goes_and_returns(
    ask: Client, tmp_path: Path, hook: ReceivingServer
) -> None:
    await ask("POST", "/servers", leased("a"))
    file = webhooks_file(tmp_path, all={"url": hook.url, "events": "list alarm"})
    relay = await _Cut.start(ask.url)
    async with open_store(relay.url) as remote, served(remote, webhooks=file) as cut_off:
        await cut_off.until_status("a", "healthy")
        assert (await cut_off("POST", "/webhooks/all/test")).json["state"] == "delivered"
        await relay.cut()
        await hook.until("webhook.test", "list.stale", "alarm.raised")
        assert hook.messages[1][1]["data"]["staleSince"].endswith("Z")
        assert hook.messages[2][1]["data"]["alarm"] == "list-stale"
        await relay.mend()
        await hook.until(
            *("webhook.test", "list.stale", "alarm.raised", "list.fresh", "alarm.cleared")
        )
        await relay.cut()


async def test_many_that_vanish_are_held(tmp_path: Path, hook: ReceivingServer) -> None:
    chance, now = seeded(1), utcnow()
    made = [instance(f"i-{number:02d}", now, chance, ["d"]) for number in range(30)]
    file = webhooks_file(tmp_path, all={"url": hook.url, "events": "list"})
    async with listing(made, webhooks=file) as large:
        assert (await large.ask("POST", "/webhooks/all/test")).json["state"] == "delivered"
        large.facade.catalog.apply(Snapshot({}))
        await until_holds(lambda: "list.held" in hook.types, timeout=20, what="being told")
    [held] = [payload["data"] for _, payload in hook.messages if payload["type"] == "list.held"]
    assert held["instances"] > 10


@pytest.mark.slow
async def test_what_was_dropped_is_told(tmp_path: Path, hook: ReceivingServer) -> None:
    hook.status = 500
    file = webhooks_file(tmp_path, chat={"url": hook.url, "events": "server"})
    async with listing([], webhooks=file) as large:
        known = large.app[WEBHOOKS].deliveries
        waiting = replace(delivery(""), body='{"type": "server.gone"}')
        await known.add(replace(waiting, id=f"msg_{number}") for number in range(MOST_PENDING))
        await large.ask("POST", "/servers", leased("a"))

        async def dropped() -> bool:
            told = (await large.ask("GET", "/webhooks")).json["receivers"][0]
            return (told["dropped"], told["pending"]) == (1, MOST_PENDING)

        await until(dropped, timeout=20, what="one being dropped")
        for each in await known.listed("chat", "pending", MOST_PENDING):
            await known.save(replace(each, state="delivered"))
        hook.status = 200
        await until_holds(lambda: "webhook.dropped" in hook.types, timeout=30, what="the notice")
    assert hook.messages[hook.types.index("webhook.dropped")][1]["data"] == {"dropped": 1}

"""Receivers are told what changes, in requests that the published library verifies."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.facade.access.audit.settings import AuditSettings
from tests.facade.harness import leased, served
from tests.facade.webhooks.receiving import ReceivingServer, secret, webhooks_file
from tests.records import tool
from tests.stores.waiting import until, until_holds

HEALTHY = {"status": "healthy"}


async def test_the_life_of_an_instance(tmp_path: Path, hook: ReceivingServer) -> None:
    file = webhooks_file(tmp_path, all={"url": hook.url, "events": "server"})
    async with served(webhooks=file) as ask:
        body = leased("a", tags=["shop"], document={"tools": [tool("find")]})
        await ask("POST", "/servers", body)
        await hook.until("server.registered")
        put = body | {"document": {"tools": [tool("buy")]}, "version": "2.0.0"}
        assert (await ask("PUT", "/servers/a", put)).status == 200
        await hook.until("server.registered", "server.document", "server.changed")
        down = {"status": "down", "reason": "refused"}
        assert (await ask("POST", "/servers/a/heartbeat", down)).status == 200
        await until_holds(lambda: "server.status" in hook.types, timeout=10, what="the status")
        assert (await ask("DELETE", "/servers/a")).status == 204
        await until_holds(lambda: "server.gone" in hook.types, timeout=10, what="the end")
    told = {payload["type"]: payload for _, payload in hook.messages}
    assert told["server.registered"]["data"]["tags"] == ["shop"]
    offers = told["server.document"]["data"]
    assert (offers["added"], offers["removed"]) == (["buy"], ["find"])
    assert told["server.changed"]["data"]["fields"] == ["version"]
    status = told["server.status"]["data"]
    assert (status["before"], status["status"], status["reason"]) == ("healthy", "down", "refused")
    assert told["server.gone"]["timestamp"].endswith("Z")
    assert len({id for id, _ in hook.messages}) == len(hook.messages)
    assert {each["Content-Type"] for each in hook.requests} == {"application/json"}


@pytest.mark.slow
async def test_each_secret_of_a_rotation_verifies(tmp_path: Path) -> None:
    async with ReceivingServer(secrets=(secret(1), secret(2))).serving() as hook:
        file = webhooks_file(tmp_path, (secret(1), secret(2)), all={"url": hook.url})
        async with served(webhooks=file) as ask:
            assert (await ask("POST", "/webhooks/all/test")).json["state"] == "delivered"
            assert len(hook.requests[0]["webhook-signature"].split()) == 2
            hook.secrets = (secret(3),)
            (tmp_path / "secret").write_text(secret(3))

            async def rotated() -> bool:
                return bool((await ask("POST", "/webhooks/all/test")).json["status"] == 204)

            await until(rotated, timeout=20, what="the new secret being used")


async def test_events_and_filters_choose(tmp_path: Path, hook: ReceivingServer) -> None:
    chosen = {"events": ["server.registered"], "filter": {"tags": ["money"], "name": "products"}}
    file = webhooks_file(tmp_path, some={"url": hook.url, **chosen})
    async with served(webhooks=file) as ask:
        await ask("POST", "/servers", leased("a", tags=["shop"]))
        await ask("POST", "/servers", leased("b", name="other", tags=["money"]))
        await ask("POST", "/servers", leased("c", tags=["money"]))
        await hook.until("server.registered")
        assert hook.messages[0][1]["data"]["id"] == "c"
        await ask("DELETE", "/servers/c")
        assert (await ask("POST", "/webhooks/some/test")).json["status"] == 204
    assert hook.types == ["server.registered", "webhook.test"]


async def test_one_that_hangs_delays_no_other(tmp_path: Path, hook: ReceivingServer) -> None:
    async with ReceivingServer(hangs=True).serving() as stuck:
        file = webhooks_file(tmp_path, stuck={"url": stuck.url}, well={"url": hook.url})
        async with served(webhooks=file) as ask:
            for id in "abc":
                await ask("POST", "/servers", leased(id))
            await hook.until(*["server.registered"] * 3)
            assert len(stuck.requests) == 1
            told = (await ask("GET", "/webhooks")).json["receivers"]
    assert [(each["name"], each["pending"], each["delivered"]) for each in told] == [
        ("stuck", 3, 0),
        ("well", 0, 3),
    ]
    assert "in-the-url" not in str(told)


@pytest.mark.slow
async def test_what_failed_is_sent_again_with_the_same_id(
    tmp_path: Path, hook: ReceivingServer
) -> None:
    hook.status = 503
    async with served(webhooks=webhooks_file(tmp_path, all={"url": hook.url})) as ask:
        await ask("POST", "/servers", leased("a"))
        await until_holds(lambda: hook.requests, timeout=10, what="an attempt")
        hook.status = 200
        await hook.until("server.registered", timeout=30)
    first, *_, last = (each["webhook-id"] for each in hook.requests)
    assert first == last == hook.messages[0][0]


async def test_410_disables_and_a_test_enables(tmp_path: Path) -> None:
    settings = AuditSettings(store=f"sqlite:///{tmp_path}/audit.db")
    async with ReceivingServer(status=410).serving() as hook:
        file = webhooks_file(tmp_path, all={"url": hook.url, "events": "server"})
        async with served(webhooks=file, audit=settings) as ask:

            async def state() -> str:
                return str((await ask("GET", "/webhooks")).json["receivers"][0]["state"])

            async def disabled() -> bool:
                return await state() == "disabled"

            await ask("POST", "/servers", leased("a"))
            await until(disabled, timeout=10, what="the receiver being disabled")
            await ask("POST", "/servers", leased("b"))
            [dead] = (await ask("GET", "/webhooks/all/deliveries?state=dead")).json["deliveries"]
            assert dead["error"] == "it wants no more messages (410)"
            again = f"/webhooks/all/deliveries/{dead['id']}/redeliver"
            refused = await ask("POST", again)
            assert (refused.status, refused.json["type"]) == (409, refused.json["type"])
            assert "POST /webhooks/all/test" in refused.json["detail"]
            logs = (await ask("GET", "/audit?eventType=system")).json["logs"]
            assert {"webhook-dead", "webhook-disabled"} <= {e["operation"]["name"] for e in logs}
        # The next one remembers.
        async with served(webhooks=file, audit=settings) as ask:
            await until(disabled, timeout=10, what="the receiver being disabled still")
            hook.status = 200
            assert (await ask("POST", "/webhooks/all/test")).json["state"] == "delivered"
            await hook.until("webhook.test", "server.registered")
            assert (await ask("POST", again)).status == 202
            await hook.until("webhook.test", "server.registered", "server.registered")
            assert hook.messages[-1][0] == dead["id"]
            assert await state() == "active"


async def test_no_redirect_is_followed(tmp_path: Path, hook: ReceivingServer) -> None:
    away = ReceivingServer(status=307, headers={"Location": hook.url})
    async with away.serving():
        file = webhooks_file(tmp_path, all={"url": away.url})
        async with served(webhooks=file) as ask:
            told = (await ask("POST", "/webhooks/all/test")).json
    assert (told["state"], told["status"]) == ("dead", 307)
    assert "no redirect is followed" in told["error"]
    assert hook.requests == []


@pytest.mark.parametrize(
    ("url", "public_only", "words"),
    [
        ("http://169.254.169.254/latest", False, "link-local"),
        ("http://127.0.0.1:9/hook", True, "not public"),
        ("http://127.0.0.1:9/hook", False, "refuse"),
        ("http://nowhere.invalid/hook", False, "does not resolve"),
    ],
)
async def test_addresses_are_those_of_probes(
    tmp_path: Path, url: str, public_only: bool, words: str
) -> None:
    file = webhooks_file(tmp_path, all={"url": url})
    async with served(webhooks=file, probe_private=not public_only) as ask:
        told = (await ask("POST", "/webhooks/all/test")).json
    assert told["state"] == "dead"
    assert words in told["error"]


async def test_what_waits_survives_a_restart(tmp_path: Path) -> None:
    settings = AuditSettings(store=f"sqlite:///{tmp_path}/audit.db")
    hook = ReceivingServer()
    async with hook.serving():
        pass  # its port is known, and nobody listens there
    file = webhooks_file(tmp_path, all={"url": hook.url})
    async with served(webhooks=file, audit=settings) as ask:
        await ask("POST", "/servers", leased("a"))

        async def tried() -> bool:
            told = (await ask("GET", "/webhooks/all/deliveries")).json["deliveries"]
            return [each["attempts"] for each in told] == [1]

        await until(tried, timeout=10, what="an attempt")
        [waiting] = (await ask("GET", "/webhooks/all/deliveries")).json["deliveries"]
    async with hook.serving(), served(webhooks=file, audit=settings) as ask:
        path = f"/webhooks/all/deliveries/{waiting['id']}/redeliver"
        assert (await ask("POST", path)).status == 202
        await hook.until("server.registered")
    assert hook.messages[0] == (waiting["id"], waiting["payload"])


async def test_of_several_facades_one_sends(tmp_path: Path, hook: ReceivingServer) -> None:
    settings = AuditSettings(store=f"sqlite:///{tmp_path}/audit.db")
    file = webhooks_file(tmp_path, all={"url": hook.url})
    shared = EmbeddedStore()
    changes: dict[str, Any] = {"webhooks": file, "audit": settings}
    async with served(shared, **changes) as one, served(shared, **changes) as two:

        async def led() -> bool:
            told = [(await ask("GET", "/webhooks")).json["sends"] for ask in (one, two)]
            return sorted(told) == [False, True]

        await until(led, timeout=10, what="one having the lease")
        for number in range(20):
            await (one, two)[number % 2]("POST", "/servers", leased(f"s-{number}"))
        await until_holds(lambda: len(hook.messages) >= 20, timeout=20, what="all messages")
        await asyncio.gather(*(ask("POST", "/webhooks/all/test") for ask in (one, two)))
    ids = [payload["data"]["id"] for _, payload in hook.messages if "id" in payload["data"]]
    assert sorted(ids) == sorted(f"s-{number}" for number in range(20))
    await shared.close()


async def test_alarms_come_and_go(tmp_path: Path, hook: ReceivingServer) -> None:
    file = webhooks_file(tmp_path, all={"url": hook.url, "events": "alarm"})
    async with served(webhooks=file) as ask:
        for id in "ab":
            await ask("POST", "/servers", leased(id))
        down = {"status": "down", "reason": "refused"}
        await ask("POST", "/servers/a/heartbeat", down)
        assert (await ask("POST", "/webhooks/all/test")).json["state"] == "delivered"
        await ask("POST", "/servers/b/heartbeat", down)
        await hook.until("webhook.test", "alarm.raised")
        await ask("POST", "/servers/a/heartbeat", HEALTHY)
        await hook.until("webhook.test", "alarm.raised", "alarm.cleared")
    data = hook.messages[1][1]["data"]
    assert (data["alarm"], data["name"], data["reason"]) == ("server-down", "products", "refused")
    assert sorted(data["instances"]) == ["a", "b"]


@pytest.mark.slow
async def test_a_changed_file_counts(tmp_path: Path, hook: ReceivingServer) -> None:
    file = webhooks_file(tmp_path, other={"url": hook.url})
    async with served(webhooks=file) as ask:
        webhooks_file(tmp_path, all={"url": hook.url})

        async def there() -> bool:
            told = (await ask("GET", "/webhooks")).json["receivers"]
            return [each["name"] for each in told] == ["all"]

        await until(there, timeout=20, what="the new receiver being there")
        await ask("POST", "/servers", leased("a"))
        await hook.until("server.registered")

"""Registrations that their posters keep alive."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.instance import Holder, Lease
from tests.facade.harness import Client, leased, served
from tests.records import document, record
from tests.stores.waiting import until

LEASE = Lease(Holder("0123456789abcdef", "host-1", "sidecar"), 30.0, 60.0)


def by_sidecar(**more: Any) -> dict[str, Any]:
    """What a remote store posts."""
    body = record().to_dict() | {"lease": LEASE.to_dict()}
    return body | more


async def test_heartbeats_carry_status_and_load(ask: Client) -> None:
    await ask("POST", "/servers", leased("a"))
    beat = await ask("POST", "/servers/a/heartbeat")
    assert (beat.status, beat.json) == (200, {"id": "a", "status": "healthy", "ttl": 60.0})
    slow = {"status": "degraded", "reason": "slow", "load": {"active": 3}}
    assert (await ask("POST", "/servers/a/heartbeat", slow)).json["status"] == "degraded"
    entry = await ask.until_status("a", "degraded")
    assert entry["reason"] == "slow"
    assert entry["load"] == {"active": 3}


async def test_a_bare_heartbeat_never_revives(ask: Client) -> None:
    await ask("POST", "/servers", leased("a"))
    await ask("POST", "/servers/a/heartbeat", {"status": "down", "reason": "refused"})
    assert (await ask("POST", "/servers/a/heartbeat", {})).json["status"] == "down"
    assert (await ask.until_status("a", "down"))["reason"] == "refused"


async def test_a_silent_one_is_down_and_its_registration_lost(ask: Client) -> None:
    await ask("POST", "/servers", leased("a", lease={"ttl": 1, "reapAfter": 60}))
    entry = await ask.until_status("a", "down", timeout=4)
    assert entry["reason"] == "no heartbeat for 1 s"
    late = await ask("POST", "/servers/a/heartbeat", {})
    assert late.status == 404
    assert late.json["type"].endswith(":registration-lost")
    assert (await ask("POST", "/servers", leased("a"))).status == 201
    assert (await ask("GET", "/servers")).ids == ["a"]


@pytest.mark.slow
async def test_a_simple_client_may_register_again_but_nobody_else(ask: Client) -> None:
    first = await ask("POST", "/servers", leased("a"))
    assert (await ask("POST", "/servers", leased("a", tags=["new"]))).json == first.json
    assert (await ask("GET", "/servers/a")).json["tags"] == ["new"]
    other = await ask("POST", "/servers", leased("a", url="http://127.0.0.1:10/"))
    assert other.status == 409
    assert other.json["type"].endswith(":duplicate-instance")
    assert "give this instance another id" in other.json["detail"]
    unleased = {"id": "a", "name": "products", "url": "http://127.0.0.1:9/a"}
    assert (await ask("POST", "/servers", unleased)).status == 409
    assert (await ask("POST", "/servers/a/drain")).status == 200
    assert (await ask("POST", "/servers", leased("a", url="http://127.0.0.1:10/"))).status == 201
    assert (await ask("GET", "/servers/a")).json["url"] == "http://127.0.0.1:10/"


async def test_a_document_is_sent_once_and_before(ask: Client) -> None:
    offered = document("find")
    names = {"tools": ["find"], "digest": offered.digest}
    refused = await ask("POST", "/servers", by_sidecar(capabilities=names))
    assert refused.status == 409
    assert refused.json["type"].endswith(":unknown-document")
    assert f"PUT it to /documents/{offered.digest}" in refused.json["detail"]

    put = await ask("PUT", f"/documents/{offered.digest}", offered.compressed())
    assert put.status == 204
    assert (await ask("POST", "/servers", by_sidecar(capabilities=names))).status == 201
    again = by_sidecar(id="another", capabilities=names)
    assert (await ask("POST", "/servers", again)).status == 201
    told = (await ask("GET", "/servers/another/capabilities")).json
    assert told["tools"] == [dict(each) for each in offered.tools]


async def test_only_its_holder_changes_or_removes_it(ask: Client) -> None:
    assert (await ask("POST", "/servers", by_sidecar())).status == 201
    path = "/servers/catalog-1"
    for holder in ({}, {"holder": "somebody-else"}):
        refused = await ask("DELETE", path, params=holder)
        assert refused.status == 409
        assert "a sidecar on host-1" in refused.json["detail"]
    wrong = by_sidecar(lease=LEASE.to_dict() | {"holder": "ffff"}, tags=["new"])
    assert (await ask("PUT", path, wrong)).status == 409
    assert (await ask("POST", f"{path}/heartbeat", {"holder": "ffff"})).status == 409
    assert (await ask("POST", f"{path}/drain", {"holder": "ffff"})).status == 409
    assert (await ask("PUT", path, record(tags=["new"]).to_dict())).status == 409

    assert (await ask("PUT", path, by_sidecar(tags=["new"]))).status == 200
    assert (await ask("GET", path)).json["tags"] == ["new"]
    beat = await ask("POST", f"{path}/heartbeat", {"holder": LEASE.holder.id})
    assert beat.json["ttl"] == 30.0
    removed = await ask("DELETE", path, params={"holder": LEASE.holder.id})
    assert removed.status == 204
    assert (await ask("GET", path)).status == 404


async def test_draining_is_listed_and_offered_to_nobody(ask: Client) -> None:
    await ask("POST", "/servers", leased("a"))
    drained = await ask("POST", "/servers/a/drain")
    assert (drained.status, drained.json) == (200, {"id": "a", "status": "draining"})
    assert (await ask("GET", "/servers")).ids == []
    assert (await ask("GET", "/servers?status=draining")).ids == ["a"]
    assert (await ask("POST", "/servers/a/heartbeat", {"status": "healthy"})).status == 200
    assert (await ask("GET", "/servers?status=draining")).ids == ["a"]


async def test_what_another_process_registered_is_its_holders_to_remove() -> None:
    """A facade that started anew does not hold what the store still lists."""
    async with EmbeddedStore() as store:
        holder = LEASE.holder
        await store.register(record(), document("a"), ttl=30, reap_after=60, holder=holder)
        async with served(store) as ask:
            await ask.until_status("catalog-1", "healthy")
            beat = await ask("POST", "/servers/catalog-1/heartbeat", {"holder": holder.id})
            assert beat.status == 404
            assert beat.json["type"].endswith(":registration-lost")
            refused = await ask("DELETE", "/servers/catalog-1")
            assert refused.status == 409
            assert "would register it again" in refused.json["detail"]
            other = await ask("DELETE", "/servers/catalog-1", params={"holder": "ffff"})
            assert other.status == 409
            assert other.json["type"].endswith(":duplicate-instance")
            removed = await ask("DELETE", "/servers/catalog-1", params={"holder": holder.id})
            assert removed.status == 204
            assert (await ask("GET", "/servers?status=all")).ids == []


async def test_what_nobody_keeps_alive_can_be_removed() -> None:
    async with EmbeddedStore() as store, served(store) as ask:
        await store.register(record(), document("a"), ttl=1, reap_after=60, holder=LEASE.holder)
        await ask.until_status("catalog-1", "down")
        assert (await ask("DELETE", "/servers/catalog-1")).status == 204
        assert (await ask("GET", "/servers/catalog-1")).status == 404


@pytest.mark.slow
async def test_lapsed_registrations_are_let_go(ask: Client) -> None:
    await ask("POST", "/servers", leased("a", lease={"ttl": 1}))

    async def gone() -> bool:
        return b"mcp_discovery_registrations 0.0" in (await ask("GET", "/metrics")).body

    assert b"mcp_discovery_registrations 1.0" in (await ask("GET", "/metrics")).body
    await until(gone, timeout=10, what="the registration being let go")

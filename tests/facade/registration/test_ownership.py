"""Whose a registration and a name are: what a stranger cannot do with what everybody may read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.adapters.remote import RemoteStore
from mcp_discovery.adapters.store import StoreOptions, new_holder
from mcp_discovery.errors import StoreDeniedError
from mcp_discovery.facade.access import ownership
from mcp_discovery.facade.access.tokens import hash_of, new_token
from mcp_discovery.health import healthy
from mcp_discovery.instance import HOLDER_HEADER, Holder, public_holder
from tests.facade.access.tokens import guarded, write_auth_file
from tests.facade.harness import Client, Reply, leased, served
from tests.records import document, record
from tests.stores.waiting import until

#: Two teams with the same rights, one that may register only some names, and an administrator.
_ROLES = {
    "team": "read register report",
    "narrow": "narrow",
    "operator": "read register report admin",
    "keeper": "read register report keeping",
}
_SCOPES = {
    "narrow": [{"verbs": ["read", "register", "report"], "names": ["narrow-*"]}],
    "keeping": [{"verbs": ["admin"], "names": ["kept-*"], "owners": ["a*", "b*", ""]}],
}
_SUBJECTS = {
    "alice": "team",
    "bob": "team",
    "nora": "narrow",
    "root": "operator",
    "kim": "keeper",
}
_TOKENS = {subject: new_token(subject) for subject in _SUBJECTS}
_ATTACKER = "http://127.0.0.1:6/evil"


def as_(subject: str, **more: str) -> dict[str, str]:
    """The headers of a caller."""
    return {"Authorization": f"Bearer {_TOKENS[subject]}"} | more


def _sections(**more: Any) -> dict[str, Any]:
    tokens = {
        subject: {"hash": hash_of(_TOKENS[subject]), "roles": role}
        for subject, role in _SUBJECTS.items()
    }
    return {"roles": _ROLES, "scopes": _SCOPES, "tokens": tokens} | more


@asynccontextmanager
async def _teams(folder: Path, **sections: Any) -> AsyncIterator[Client]:
    async with guarded(folder, _sections(**sections)) as ask:
        yield ask


def _kind(reply: Reply) -> str:
    kind: str = reply.json["type"].rpartition(":")[2]
    return kind


def _connection(id: str, name: str) -> dict[str, Any]:
    return {"id": id, "name": name, "protocol": "http", "endpoint": _ATTACKER}


async def _attack(ask: Client, id: str, shown: Mapping[str, Any], **more: Any) -> list[Reply]:
    """Everything that replaces, removes or renews ``id`` with what its entry says."""
    holder = shown["lease"]["holder"]
    body = {key: shown[key] for key in ("id", "name")} | {"url": _ATTACKER}
    mine = body | {"lease": {"ttl": 60, "holder": "mine"}}
    theirs = body | {"lease": shown["lease"]}
    path = f"/servers/{id}"
    as_secret = {HOLDER_HEADER: holder, **more.get("headers", {})}
    quiet = {key: value for key, value in more.items() if key != "headers"}
    return [
        await ask("DELETE", path, **more),
        await ask("DELETE", path, params={"holder": holder}, **more),
        await ask("DELETE", path, headers=as_secret, **quiet),
        await ask("DELETE", f"/connections/{id}", **more),
        await ask("PUT", path, body, **more),
        await ask("PUT", f"{path}?holder={holder}", body, **more),
        await ask("PUT", path, theirs, **more),
        await ask("PUT", path, body | {"holder": holder}, **more),
        await ask("POST", "/servers", body, **more),
        await ask("POST", "/servers", mine, **more),
        await ask("POST", "/servers", theirs, **more),
        await ask("POST", "/servers", theirs, headers=as_secret, **quiet),
        await ask("POST", "/servers", mine | {"takeover": holder}, **more),
        await ask("POST", "/servers", theirs | {"takeover": holder}, **more),
        await ask("POST", f"{path}/drain", {"holder": holder}, **more),
        await ask("POST", f"{path}/heartbeat", {"holder": holder, "status": "down"}, **more),
        await ask("POST", f"{path}/heartbeat", {"status": "down"}, **more),
        await ask("POST", "/connections", _connection(id, body["name"]), **more),
        await ask("PATCH", f"/connections/{id}", {"tags": ["mine"]}, **more),
        await ask(
            "POST",
            "/registry/import",
            {"connections": [_connection(id, body["name"])]},
            **more,
        ),
    ]


@pytest.mark.slow
async def test_a_sidecars_registration_is_not_taken_with_what_lists_say() -> None:
    async with EmbeddedStore() as below, served(below) as ask, RemoteStore(ask.url) as store:
        registration = await store.register(record(), document("a"), ttl=60, reap_after=120)
        before = (await ask("GET", "/servers/catalog-1")).json
        assert before["lease"]["holder"].startswith("h1-")
        for number, refused in enumerate(await _attack(ask, "catalog-1", before)):
            assert refused.status in (403, 409, 422), (number, refused.body)
        after = (await ask("GET", "/servers/catalog-1")).json
        assert {**after, "lastSeen": ""} == {**before, "lastSeen": ""}
        await registration.heartbeat(healthy(), renew=True)
        await registration.update(record(tags=["new"]), document("a"))
        await registration.drain()
        await registration.deregister()
        assert (await ask("GET", "/servers/catalog-1")).status == 404


@pytest.mark.slow
async def test_nor_through_another_facade_over_its_store() -> None:
    """One that does not hold the registration, as after a restart, or beside Consul."""
    async with EmbeddedStore() as below, served(below) as ask:
        await below.register(record(), document("a"), ttl=60, reap_after=120)
        before = await ask.until_status("catalog-1", "healthy")
        for number, refused in enumerate(await _attack(ask, "catalog-1", before)):
            assert refused.status in (403, 404, 409, 422), (number, refused.body)
        after = (await ask("GET", "/servers/catalog-1")).json
        assert {**after, "lastSeen": ""} == {**before, "lastSeen": ""}


async def test_a_secret_is_enough_at_any_facade_over_the_store() -> None:
    holder = new_holder()
    assert holder.secret is not None
    async with EmbeddedStore() as below, served(below) as one, served(below) as two:
        body = record().to_dict() | {"lease": {"ttl": 60, "holder": holder.id}}
        secret = {HOLDER_HEADER: holder.secret}
        assert (await one("POST", "/servers", body, headers=secret)).status == 201
        await two.until_status("catalog-1", "healthy")
        assert holder.secret.encode() not in (await one("GET", "/servers?status=all")).body
        lost = await two("POST", "/servers/catalog-1/heartbeat", headers=secret)
        assert _kind(lost) == "registration-lost"
        assert (await two("POST", "/servers", body, headers=secret)).status == 201
        beat = await two("POST", "/servers/catalog-1/heartbeat", headers=secret)
        assert beat.status == 200
        assert (await one("DELETE", "/servers/catalog-1", headers=secret)).status in (204, 409)
        assert (await two("DELETE", "/servers/catalog-1", headers=secret)).status in (204, 404)


async def test_a_simple_client_may_have_a_secret_alone(ask: Client) -> None:
    secret = {HOLDER_HEADER: "a-long-secret-of-my-own"}
    made = await ask("POST", "/servers", leased("a"), headers=secret)
    assert made.json == {"id": "a"}
    shown = (await ask("GET", "/servers/a")).json
    assert shown["lease"]["holder"] == public_holder("a-long-secret-of-my-own")
    assert (await ask("POST", "/servers/a/heartbeat")).status == 409
    assert (await ask("POST", "/servers/a/heartbeat", headers=secret)).status == 200
    assert (await ask("DELETE", "/servers/a")).status == 409
    assert (await ask("DELETE", "/servers/a", headers=secret)).status == 204
    bad = await ask("POST", "/servers", leased("a"), headers={HOLDER_HEADER: "h1-0"})
    assert bad.status == 422


@pytest.mark.slow
async def test_a_sidecar_of_0_1_works_on_and_its_id_is_not_shown() -> None:
    """Its random id is its only secret, which it sends in bodies and queries."""
    old = Holder("0123456789abcdef", "host-1", "sidecar")
    lease = {"holder": old.id, "host": "host-1", "by": "sidecar", "ttl": 60, "reapAfter": 120}
    async with EmbeddedStore() as below, served(below) as ask:
        body = record().to_dict() | {"lease": lease}
        assert (await ask("POST", "/servers", body)).status == 201
        shown = (await ask("GET", "/servers?status=all")).body
        assert old.id.encode() not in shown
        before = (await ask("GET", "/servers/catalog-1")).json
        for number, refused in enumerate(await _attack(ask, "catalog-1", before)):
            assert refused.status in (403, 409, 422), (number, refused.body)
        beat = {"holder": old.id, "status": "degraded", "reason": "slow"}
        assert (await ask("POST", "/servers/catalog-1/heartbeat", beat)).status == 200
        assert (await ask("PUT", "/servers/catalog-1", body | {"tags": ["b"]})).status == 200
        assert (await ask("POST", "/servers/catalog-1/drain", {"holder": old.id})).status == 200
        gone = await ask("DELETE", "/servers/catalog-1", params={"holder": old.id})
        assert gone.status == 204


async def test_a_facade_over_a_facade_shows_its_own_secret() -> None:
    async with (
        EmbeddedStore() as below,
        served(below) as lower,
        RemoteStore(lower.url) as middle,
        served(middle) as upper,
        RemoteStore(upper.url) as store,
    ):
        registration = await store.register(record(), document("a"), ttl=60, reap_after=120)
        await lower.until_status("catalog-1", "healthy")
        await registration.heartbeat(healthy(), renew=True)
        posted = {"id": "b", "name": "b", "url": "http://127.0.0.1:9/b"}
        assert (await upper("POST", "/servers", posted)).status == 201
        assert (await upper("DELETE", "/servers/b")).status == 204
        await registration.deregister()
        assert (await lower("GET", "/servers?status=all")).ids == []


async def test_a_name_belongs_to_who_registered_it_first(tmp_path: Path) -> None:
    async with _teams(tmp_path) as ask:
        first = await ask("POST", "/servers", leased("a"), headers=as_("alice"))
        assert first.status == 201
        shown = (await ask("GET", "/servers/a", headers=as_("bob"))).json
        assert shown["lease"]["owner"] == "alice"
        held = await ask("POST", "/servers", leased("b"), headers=as_("bob"))
        assert (held.status, _kind(held)) == (409, "name-held")
        assert b"alice" not in held.body
        posted = {"id": "c", "name": "products", "url": "http://127.0.0.1:9/c"}
        async with RemoteStore(ask.url, StoreOptions(token=_TOKENS["bob"])) as store:
            mine = record("mine", name="products")
            with pytest.raises(StoreDeniedError, match="belongs to another caller"):
                await store.register(mine, document("a"), ttl=60, reap_after=120)
        connection = _connection("c", "products")
        for refused in (
            await ask("POST", "/servers", posted, headers=as_("bob")),
            await ask("POST", "/connections", connection, headers=as_("bob")),
            await ask(
                "POST", "/registry/import", {"connections": [connection]}, headers=as_("bob")
            ),
        ):
            assert refused.status == 409
            assert b"belongs to another caller" in refused.body
        for number, refused in enumerate(await _attack(ask, "a", shown, headers=as_("bob"))):
            assert refused.status in (401, 403, 409, 422), (number, refused.body)
        assert (await ask("POST", "/servers", posted, headers=as_("alice"))).status == 201
        for refused in (
            await ask("PUT", "/servers/c", posted, headers=as_("bob")),
            await ask("PATCH", "/connections/c", {"tags": ["x"]}, headers=as_("bob")),
            await ask("DELETE", "/servers/c", headers=as_("bob")),
            await ask("DELETE", "/connections/c", headers=as_("bob")),
            await ask("POST", "/servers/c/drain", headers=as_("bob")),
            await ask("POST", "/servers/c/heartbeat", headers=as_("bob")),
        ):
            assert (refused.status, _kind(refused)) == (409, "name-held"), refused.body
        # Nobody renames into a name, or out of one.
        own = {"id": "d", "name": "mine", "url": "http://127.0.0.1:9/d"}
        assert (await ask("POST", "/servers", own, headers=as_("bob"))).status == 201
        into = await ask("PUT", "/servers/d", own | {"name": "products"}, headers=as_("bob"))
        assert _kind(into) == "name-held"
        moved = await ask("PATCH", "/connections/d", {"name": "products"}, headers=as_("bob"))
        assert moved.status in (409, 422)
        # It is alice's for a while after the last of hers has gone.
        assert (await ask("DELETE", "/servers/c", headers=as_("alice"))).status == 204
        assert (await ask("DELETE", "/servers/a", headers=as_("alice"))).status == 204
        held = await ask("POST", "/servers", leased("b"), headers=as_("bob"))
        assert _kind(held) == "name-held"
        assert (await ask("POST", "/servers", leased("b"), headers=as_("alice"))).status == 201
        assert (await ask("DELETE", "/servers/b", headers=as_("root"))).status in (204, 409)


async def test_an_administrator_acts_for_the_owner(tmp_path: Path) -> None:
    async with _teams(tmp_path) as ask:
        posted = {"id": "c", "name": "products", "url": "http://127.0.0.1:9/c"}
        await ask("POST", "/servers", posted, headers=as_("alice"))
        more = await ask("POST", "/servers", posted | {"id": "d"}, headers=as_("root"))
        assert more.status == 201
        shown = (await ask("GET", "/servers/d", headers=as_("root"))).json
        assert shown["lease"]["owner"] == "alice"
        async with RemoteStore(ask.url, StoreOptions(token=_TOKENS["alice"])) as store:
            mine = record("kept", name="products")
            await store.register(mine, document("a"), ttl=60, reap_after=120)
        for who in ("bob", "alice", "root"):
            refused = await ask("DELETE", "/servers/kept", headers=as_(who))
            assert refused.status == 409, who
        holder = (await ask("GET", "/servers/kept", headers=as_("root"))).json["lease"]["holder"]
        named = {"holder": holder}
        assert (
            await ask("DELETE", "/servers/kept", headers=as_("bob"), params=named)
        ).status == 409
        gone = await ask("DELETE", "/servers/kept", headers=as_("root"), params=named)
        assert gone.status == 204


async def test_rights_are_asked_for_the_very_record(tmp_path: Path) -> None:
    async with _teams(tmp_path) as ask:
        posted = {"id": "w-1", "name": "wide", "url": "http://127.0.0.1:9/w"}
        assert (await ask("POST", "/servers", posted, headers=as_("alice"))).status == 201
        refused = await ask("POST", "/servers", posted | {"id": "x"}, headers=as_("nora"))
        assert (refused.status, _kind(refused)) == (403, "forbidden")
        assert "has no right to register servers named 'wide'" in refused.json["detail"]
        own = {"id": "n", "name": "narrow-1", "url": "http://127.0.0.1:9/n"}
        assert (await ask("POST", "/servers", own, headers=as_("nora"))).status == 201
        out = await ask("PUT", "/servers/n", own | {"name": "wide"}, headers=as_("nora"))
        assert _kind(out) == "forbidden"
        taken = await ask("POST", "/servers", own | {"id": "w-1"}, headers=as_("nora"))
        assert taken.status == 409
        assert b"127.0.0.1:9/w" not in taken.body

        # What is not seen does not exist.
        def sent(id: str) -> list[tuple[str, str, Any]]:
            return [
                ("DELETE", f"/servers/{id}", None),
                ("PUT", f"/servers/{id}", own | {"id": id}),
                ("POST", f"/servers/{id}/heartbeat", {}),
                ("POST", f"/servers/{id}/drain", {}),
                ("DELETE", f"/connections/{id}", None),
                ("PATCH", f"/connections/{id}", {"tags": ["x"]}),
                ("POST", f"/connections/{id}/health-check", {}),
                ("POST", f"/connections/{id}/outcome", {"success": True}),
                ("POST", "/outcomes", {"outcomes": [{"id": id, "success": True}]}),
                ("POST", "/connections/health-check/batch", {"connectionIds": [id]}),
            ]

        for real, none in zip(sent("w-1"), sent("none"), strict=True):
            seen = await ask(*real, headers=as_("nora"))
            unknown = await ask(*none, headers=as_("nora"))
            assert seen.status == unknown.status, real
            assert seen.body.replace(b"w-1", b"none") == unknown.body, real
        assert (await ask("GET", "/servers/w-1", headers=as_("alice"))).status == 200


async def test_rules_give_names_to_callers_and_origins(tmp_path: Path) -> None:
    rules = [
        {"names": ["pay-*"], "owners": ["alice"], "origins": ["https://*.pay.example.com"]},
        {"names": ["pay-*", "shared"], "roles": ["team"]},
    ]
    async with _teams(tmp_path, names=rules) as ask:
        good = {"id": "a", "name": "pay-1", "url": "https://one.pay.example.com/mcp"}
        lease = {"lease": {"ttl": 60}}
        bad = await ask("POST", "/servers", good | lease | {"url": _ATTACKER}, headers=as_("alice"))
        assert (bad.status, _kind(bad)) == (409, "name-held")
        assert "http://127.0.0.1:6 is no origin" in bad.json["detail"]
        for url in (
            "https://pay.example.com.evil.example/mcp",
            "https://evil.example/.pay.example.com",
            "https://one.pay.example.com@evil.example/mcp",
            "https://one.pay.example.com:8443/mcp",
            "http://one.pay.example.com/mcp",
        ):
            bad = await ask("POST", "/servers", good | lease | {"url": url}, headers=as_("alice"))
            assert bad.status in (409, 422), url
        assert (await ask("POST", "/servers", good | lease, headers=as_("bob"))).status == 409
        assert (await ask("POST", "/servers", good | lease, headers=as_("alice"))).status == 201
        for id, who in (("s1", "alice"), ("s2", "bob")):
            body = leased(id, name="shared")
            assert (await ask("POST", "/servers", body, headers=as_(who))).status == 201
        listed = await ask("GET", "/servers?name=shared", headers=as_("bob"))
        assert sorted(listed.ids) == ["s1", "s2"]


async def test_what_breaks_a_rule_in_the_store_is_quarantined(tmp_path: Path) -> None:
    rules = [{"names": ["catalog"], "origins": ["http://127.0.0.1:8001"]}]
    path = tmp_path / "auth.yaml"
    write_auth_file(path, **_sections(names=rules))
    async with EmbeddedStore() as below, served(below, auth=str(path)) as ask:
        ask.session.headers.update(as_("root"))
        good = record("good", name="catalog", endpoint={"url": "http://127.0.0.1:8001/mcp"})
        evil = record("evil", name="catalog", endpoint={"url": "http://127.0.0.1:6/mcp"})
        for each in (good, evil):
            await below.register(each, document("a"), ttl=60, reap_after=120, holder=new_holder())
        shown = await ask.until_status("evil", "quarantined")
        assert shown["reason"].startswith("http://127.0.0.1:6 is no origin")
        assert (await ask("GET", "/servers")).ids == ["good"]
        assert (await ask("GET", "/servers?status=quarantined")).ids == ["evil"]
        assert (await ask("GET", "/status")).json["summary"]["quarantined"] == 1
        assert b"127.0.0.1:6" not in (await ask("GET", "/sd/prometheus")).body
        assert b"127.0.0.1:6" not in (await ask("GET", "/v0.1/servers")).body
        # The file is followed, both ways; who is quarantined late leaves the list first.
        async with ask.events("?status=all") as events:
            assert (await events.next()).name == "snapshot"
            rules = [{"names": ["catalog"], "origins": ["http://127.0.0.1:6"]}]
            write_auth_file(path, **_sections(names=rules))
            seen = [(await events.next()).data for _ in range(3)]
        changes = [(each["id"], (each["server"] or {}).get("status")) for each in seen]
        assert changes.index(("good", None)) < changes.index(("good", "quarantined"))
        assert ("evil", "healthy") in changes


async def test_another_owner_in_the_store_is_quarantined(tmp_path: Path) -> None:
    path = write_auth_file(tmp_path / "auth.yaml", **_sections())
    async with EmbeddedStore() as below, served(below, auth=path) as ask:
        ask.session.headers.update(as_("root"))
        first = await ask("POST", "/servers", leased("a"), headers=as_("alice"))
        assert first.status == 201
        other = Holder("h1-x", "host", "sidecar", owner="bob")
        evil = record("evil", name="products", registered_at="2020-01-01T00:00:00Z")
        registration = await below.register(
            evil, document("a"), ttl=60, reap_after=120, holder=other
        )
        shown = await ask.until_status("evil", "quarantined")
        assert shown["reason"] == "the name products belongs to another owner"
        await registration.update(record("evil", name="elsewhere"), document("a"))
        await ask.until_status("evil", "healthy")


async def test_a_registrant_reports_no_quarantine(ask: Client) -> None:
    bad = await ask("POST", "/servers", leased("a", health={"status": "quarantined"}))
    assert bad.status == 422
    assert "quarantined" not in bad.json["detail"]


@pytest.mark.parametrize("token", ["alice", "root"])
async def test_owners_outlive_the_facade(tmp_path: Path, token: str) -> None:
    path = write_auth_file(tmp_path / "auth.yaml", **_sections())
    url = f"embedded://{tmp_path}/store.db"
    posted = {"id": "c", "name": "products", "url": "http://127.0.0.1:9/c"}
    async with EmbeddedStore(url) as below, served(below, auth=path) as ask:
        assert (await ask("POST", "/servers", posted, headers=as_("alice"))).status == 201
    async with EmbeddedStore(url) as below, served(below, auth=path) as ask:

        async def kept() -> bool:
            reply = await ask("GET", "/servers/c", headers=as_("alice"))
            return reply.status == 200

        await until(kept, timeout=10.0, what="the entry being there again")
        held = await ask("DELETE", "/servers/c", headers=as_("bob"))
        assert _kind(held) == "name-held"
        assert (await ask("DELETE", "/servers/c", headers=as_(token))).status == 204


async def test_a_newcomer_swings_nothing(ask: Client) -> None:
    """Neither by its version, nor its weight, nor by saying that it is older, or many."""
    tools = {"tools": [{"name": "find", "description": "right", "inputSchema": {}}]}
    wrong = {"tools": [{"name": "find", "description": "wrong", "inputSchema": {}}]}
    await ask("POST", "/servers", leased("old", document=tools, version="1.0.0"))
    lease = {"ttl": 60, "holder": "mine"}
    for number in range(3):
        evil = leased(f"evil-{number}", document=wrong, version="9.0.0", lease=lease, weight=60000)
        made = await ask("POST", "/servers", evil | {"registeredAt": "2001-01-01T00:00:00Z"})
        assert made.status == 201
    entries = {each["id"]: each for each in (await ask("GET", "/servers")).json["servers"]}
    assert entries["old"]["registeredAt"] < entries["evil-0"]["registeredAt"]
    assert (await ask("GET", "/tools/find")).json["description"] == "right"
    again = leased("old", document=tools, version="1.0.0")
    await ask("POST", "/servers", again)
    entry = (await ask("GET", "/servers/old")).json
    assert entry["registeredAt"] == entries["old"]["registeredAt"]


async def test_nobody_is_older_than_its_registration(tmp_path: Path) -> None:
    """A tool is what the eldest of those that offer it says, under whatever name they do."""
    right = {"tools": [{"name": "find", "description": "right", "inputSchema": {}}]}
    wrong = {"tools": [{"name": "find", "description": "wrong", "inputSchema": {}}]}
    since = {"registeredAt": "2001-01-01T00:00:00.000Z"}
    async with _teams(tmp_path) as ask:
        await ask("POST", "/servers", leased("a", document=right), headers=as_("alice"))
        evil = leased("b", name="other", document=wrong, **since)
        for _ in range(2):
            assert (await ask("POST", "/servers", evil, headers=as_("bob"))).status == 201
            assert (await ask("PUT", "/servers/b", evil, headers=as_("bob"))).status == 200
        found = await ask("GET", "/tools/find", headers=as_("bob"))
        assert found.json["description"] == "right"
        # Another facade tells of what it has had for long.
        kept = leased("c", name="third", **since)
        assert (await ask("POST", "/servers", kept, headers=as_("root"))).status == 201
        shown = (await ask("GET", "/servers/c", headers=as_("bob"))).json
        assert shown["registeredAt"] == since["registeredAt"]


async def test_the_latest_version_is_one_that_somebody_vouches_for() -> None:
    async with EmbeddedStore() as below, served(below) as ask:
        kept = record("kept", name="products", version="1.0.0")
        await below.register(kept, document("a"), ttl=60, reap_after=120)
        evil = leased("evil", name="products", version="9.0.0")
        assert (await ask("POST", "/servers", evil)).status == 201
        listed = (await ask("GET", "/v0.1/servers?version=latest")).json["servers"]
        assert [each["server"]["version"] for each in listed] == ["1.0.0"]


async def test_who_gave_no_holder_has_no_secret_that_others_can_compute(tmp_path: Path) -> None:
    """The id of such a holder is made of what lists show: it proves nothing, wherever it stands."""
    mine = leased("a", lease={"ttl": 60})
    evil = mine | {"url": _ATTACKER}
    async with _teams(tmp_path) as ask:
        made = await ask("POST", "/servers", mine, headers=as_("alice"))
        assert made.status == 201
        holder = made.json["holder"]
        headers, named = as_("bob", **{HOLDER_HEADER: holder}), {"holder": holder}
        for refused in (
            await ask("PUT", "/servers/a", evil, headers=headers),
            await ask("PUT", "/servers/a", evil, headers=as_("bob"), params=named),
            await ask("POST", "/servers", evil, headers=headers),
            await ask("POST", "/servers", evil | {"lease": {"ttl": 60} | named}, headers=headers),
            await ask("POST", "/servers/a/heartbeat", {"status": "down"} | named, headers=headers),
            await ask("POST", "/servers/a/drain", named, headers=headers),
            await ask("DELETE", "/servers/a", headers=headers),
            await ask("DELETE", "/servers/a", headers=as_("bob"), params=named),
        ):
            assert (refused.status, _kind(refused)) == (409, "name-held"), refused.body
        for who in (as_("alice"), as_("alice", **{HOLDER_HEADER: holder})):
            assert (await ask("POST", "/servers/a/heartbeat", headers=who)).status == 200
            assert (await ask("POST", "/servers", mine, headers=who)).status == 201
        gone = await ask("DELETE", "/servers/a", headers=as_("alice"), params=named)
        assert gone.status == 204


async def test_a_name_in_the_registry_is_owned_as_well(tmp_path: Path) -> None:
    """Nobody publishes a later version of another's server, whatever its record is called."""
    async with _teams(tmp_path, names=[{"names": ["pay-*"], "owners": ["root"]}]) as ask:
        weather = {"registryName": "com.example/weather", "version": "1.0.0"}
        for id, name, more in (("a", "products", {}), ("w", "weather", weather)):
            body = leased(id, name=name, **more)
            assert (await ask("POST", "/servers", body, headers=as_("alice"))).status == 201
        free = leased("b", name="own", version="9.0.0")
        assert (await ask("POST", "/servers", free, headers=as_("bob"))).status == 201
        for name in ("local/products", "local/Products", "com.example/weather", "local/pay-x"):
            evil = leased("c", name="new", registryName=name, version="9.0.0")
            moved = free | {"registryName": name}
            posted = {"id": "d", "name": "new", "registryName": name, "url": _ATTACKER}
            for refused in (
                await ask("POST", "/servers", evil, headers=as_("bob")),
                await ask("POST", "/servers", posted, headers=as_("bob")),
                await ask("PUT", "/servers/b", moved, headers=as_("bob")),
            ):
                assert (refused.status, _kind(refused)) == (409, "name-held"), refused.body
        for name in ("products", "weather"):  # GET /servers/products is no server of bob's
            passing = await ask("POST", "/servers", leased(name, name="new"), headers=as_("bob"))
            assert (passing.status, _kind(passing)) == (409, "name-held"), passing.body
        again = leased("v", name="second", **weather | {"version": "2.0.0"})
        assert (await ask("POST", "/servers", again, headers=as_("alice"))).status == 201
        listed = (await ask("GET", "/v0.1/servers", headers=as_("bob"))).json["servers"]
        found = {(each["server"]["name"], each["server"]["version"]) for each in listed}
        assert found == {
            ("local/products", "0.0.0"),
            ("com.example/weather", "1.0.0"),
            ("com.example/weather", "2.0.0"),
            ("local/own", "9.0.0"),
        }


async def test_what_takes_anothers_name_in_the_registry_is_quarantined(tmp_path: Path) -> None:
    """The store may have what no facade would have taken."""
    async with EmbeddedStore() as below, guarded(tmp_path, _sections(), store=below) as ask:
        assert (await ask("POST", "/servers", leased("a"), headers=as_("alice"))).status == 201
        evil = record("evil", name="new", registryName="local/products", version="9.0.0")
        other = Holder("other", "host", "sidecar", owner="bob")
        await below.register(evil, document("a"), ttl=60, reap_after=120, holder=other)

        async def quarantined() -> bool:
            shown = await ask("GET", "/servers/evil", headers=as_("alice"))
            return shown.status == 200 and shown.json["status"] == "quarantined"

        await until(quarantined, timeout=10.0, what="the instance being quarantined")


async def test_an_administrator_of_some_servers_administers_no_other(tmp_path: Path) -> None:
    """What it may do for those it may do for no others, whatever the union of its rights is."""
    rules = [{"names": ["vip-*"], "owners": ["root"]}]
    async with _teams(tmp_path, names=rules) as ask:
        kim = {"headers": as_("kim")}
        held = leased("held-1", name="shop")
        assert (await ask("POST", "/servers", held, headers=as_("alice"))).status == 201
        before = (await ask("GET", "/servers/held-1", **kim)).json
        for number, refused in enumerate(await _attack(ask, "held-1", before, **kim)):
            assert refused.status in (403, 409, 422), (number, refused.body)
        for name in ("shop", "vip-shop", "local/shop", "kept-1 "):
            body = leased("other-1", name="kept-1", registryName=name)
            if "/" not in name:
                body = leased("other-1", name=name)
            reply = await ask("POST", "/servers", body, **kim)
            assert reply.status in (409, 422), (name, reply.body)
        # Nor does it name as an owner whom it may not act for.
        for owner in ("root", "nora"):
            body = leased("kept-9", name="kept-9")
            body["lease"] |= {"owner": owner, "holder": "a-holder-of-kims"}
            assert (await ask("POST", "/servers", body, **kim)).status == 201
            owned = (await ask("GET", "/servers/kept-9", **kim)).json
            assert owned["lease"]["owner"] == "kim"
            deleted = await ask("DELETE", "/servers/kept-9?holder=a-holder-of-kims", **kim)
            assert deleted.status == 204, deleted.body


async def test_an_administrator_of_some_servers_administers_these(tmp_path: Path) -> None:
    async with _teams(tmp_path) as ask:
        kim = {"headers": as_("kim")}
        body = leased("kept-1", name="kept-1")
        assert (await ask("POST", "/servers", body, headers=as_("alice"))).status == 201
        holder = (await ask("GET", "/servers/kept-1", **kim)).json["lease"]["holder"]
        beat = await ask("POST", "/servers/kept-1/heartbeat", {"holder": holder}, **kim)
        assert beat.status == 200, beat.body
        taken = await ask("POST", "/servers", leased("kept-2", name="kept-1"), **kim)
        assert taken.status == 201, taken.body
        gone = await ask("DELETE", f"/servers/kept-1?holder={holder}", **kim)
        assert gone.status == 204, gone.body


async def test_figures_of_the_whole_are_for_who_administers_the_whole(tmp_path: Path) -> None:
    async with _teams(tmp_path) as ask:
        for subject, status in (("kim", 403), ("alice", 403), ("root", 200)):
            assert (await ask("GET", "/metrics", headers=as_(subject))).status == status
            shown = (await ask("GET", "/status", headers=as_(subject))).json
            assert ("skipped" in shown) is (status == 200)


async def test_names_are_not_held_for_longer_than_they_were_used(tmp_path: Path) -> None:
    async with _teams(tmp_path) as ask:
        body = {"id": "one-1", "name": "one", "url": "http://127.0.0.1:9/one"}
        assert (await ask("POST", "/servers", body, headers=as_("alice"))).status == 201
        for number in range(8):
            renamed = body | {"registryName": f"local/squat-{number}"}
            reply = await ask("PUT", "/servers/one-1", renamed, headers=as_("alice"))
            assert reply.status == 200, reply.body
        taken = leased("v-7", name="squat-7")
        held = await ask("POST", "/servers", taken, headers=as_("bob"))
        assert (held.status, _kind(held)) == (409, "name-held")
        assert (await ask("DELETE", "/servers/one-1", headers=as_("alice"))).status == 204

        async def is_free(number: int) -> bool:
            taken = leased(f"v-{number}", name=f"squat-{number}")
            reply = await ask("POST", "/servers", taken, headers=as_("bob"))
            return reply.status == 201

        for number in range(8):
            await until(partial(is_free, number), timeout=30, what=f"squat-{number} is free")


def test_no_name_is_forgotten_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "_MOST_HELD", 4)
    left = ownership._LeftNames()
    left.add("victim", "ann", 7200)
    for number in range(10):
        left.add(f"other-{number}", "eve", 7200)
    assert left.get("victim") == "ann"
    assert left.get("other-2") == "eve"
    assert left.get("other-9") is None  # there are too many
    left.add("victim", "bob", 0)
    assert left.get("victim") is None

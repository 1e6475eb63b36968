"""What is recorded of changes and refusals, and what never is."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.facade.access.audit import refusals
from mcp_discovery.facade.access.audit.settings import AuditSettings
from tests.facade.access.audit.recorded import at, logs, until_recorded
from tests.facade.access.tokens import ROLES, SCOPES, TOKENS, bearer, guarded
from tests.facade.connections.bodies import files
from tests.facade.harness import leased, served
from tests.records import document, record
from tests.servers.process import odd


async def test_a_change_is_recorded_with_who_what_and_how_it_ended(
    settings: AuditSettings, tmp_path: Path
) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {"X-Request-Id": "mine-1", "traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    async with guarded(tmp_path, audit=settings) as ask:
        registrar = bearer("registrar")
        made = await ask("POST", "/servers", leased("a-1"), headers=registrar | headers)
        assert made.status == 201
        lease = {"lease": {"ttl": 60, "holder": made.json.get("holder")}}
        changed = leased("a-1", title="Another", **lease)
        reply = await ask("PUT", "/servers/a-1", changed, headers=registrar)
        assert reply.status == 200, reply.json
        assert (await ask("POST", "/servers/a-1/drain", headers=registrar)).status == 200
        assert (await ask("DELETE", "/servers/a-1", headers=registrar)).status == 204
        found = await logs(ask, "?name=products", headers=bearer("operator"))
        assert [at(each, "operation.name") for each in found] == [
            *("deregister", "drain", "update", "register"),
        ]
        for each in found:
            assert each["eventType"] == "change"
            assert at(each, "outcome.result") == "done"
            assert each["actor"] == {
                "userId": "registrar",
                "by": "token",
                "roles": ["registrar"],
                "address": "127.0.0.1",
            }
        first = found[-1]
        assert first["requestId"] == "mine-1"
        assert first["traceId"] == trace
        assert first["operation"]["route"] == "/servers"
        assert at(first, "outcome.status") == 201
        assert at(first, "target.url") == "http://127.0.0.1:9/a-1"
        assert at(first, "digests.before") is None
        assert len(at(first, "digests.after.record")) == 64
        update, last = found[2], found[0]
        assert at(update, "digests.before.record") == at(first, "digests.after.record")
        assert at(update, "digests.after.record") != at(first, "digests.after.record")
        assert at(last, "digests.after") is None


async def test_an_entry_that_the_facade_keeps_is_one_event(settings: AuditSettings) -> None:
    async with odd() as server, served(audit=settings) as ask:
        body = {"id": "b-1", "name": "books", "url": server.url}
        assert (await ask("POST", "/servers", body)).status == 201
        assert (await ask("PATCH", "/connections/b-1", {"status": "idle"})).status == 200
        assert (await ask("DELETE", "/connections/b-1")).status == 200
        found = await logs(ask, "?id=b-1&eventType=change")
        names = [at(each, "operation.name") for each in found]
        assert names == ["deregister", "register", "register"]
        assert at(found[2], "digests.after.document")


async def test_an_import_is_an_event_for_each_instance(settings: AuditSettings) -> None:
    async with served(audit=settings) as ask:
        several = [files(id=f"c-{number}") for number in range(3)]
        reply = await ask("POST", "/registry/import", {"connections": several})
        assert reply.status == 200, reply.json
        found = [
            each
            for each in await logs(ask, "?eventType=change")
            if at(each, "operation.route") == "/registry/import"
        ]
        assert {at(each, "target.id") for each in found} == {"c-0", "c-1", "c-2"}
        assert len({each["requestId"] for each in found}) == 1


async def test_refusals_are_recorded_with_the_kind_and_where_from(
    settings: AuditSettings, tmp_path: Path
) -> None:
    async with guarded(tmp_path, audit=settings) as ask:
        operator = bearer("operator")
        assert (await ask("GET", "/servers")).status == 401
        event = await until_recorded(ask, {"outcome.status": 401}, headers=operator)
        assert event["eventType"] == "refusal"
        assert at(event, "actor.by") == "anonymous"
        assert at(event, "actor.address") == "127.0.0.1"
        bad = {"Authorization": f"Bearer {TOKENS['reader']}x"}
        assert (await ask("GET", "/servers", headers=bad)).status == 401
        event = await until_recorded(ask, {"outcome.problem": "invalid-token"}, headers=operator)
        assert at(event, "actor.by") == "unknown"
        refused = await ask("POST", "/servers", leased("a-1"), headers=bearer("reader"))
        assert refused.status == 403
        event = await until_recorded(ask, {"outcome.status": 403}, headers=operator)
        assert at(event, "actor.userId") == "reader"
        assert at(event, "operation.needs") == "register"
        assert at(event, "outcome.result") == "refused"
        assert at(event, "outcome.error") == refused.json["detail"]
        assert (await ask("POST", "/servers", leased("a-1"), headers=operator)).status == 201
        other = await ask("DELETE", "/servers/a-1?holder=x", headers=operator)
        assert other.status == 409
        event = await until_recorded(ask, {"outcome.status": 409}, headers=operator)
        assert at(event, "target.id") == "a-1"


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", {"Host": "rebound.example"}, 421),
        ("POST", {"Origin": "https://evil.example"}, 403),
        ("POST", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("POST", {"Content-Type": "text/plain"}, 415),
    ],
)
async def test_what_the_front_door_refuses_is_recorded(
    method: str, headers: dict[str, str], status: int, settings: AuditSettings
) -> None:
    async with served(audit=settings) as ask:
        body = None if method == "GET" else b"{}"
        sent = {"Content-Type": "application/json"} | headers if body else headers
        assert (await ask(method, "/servers", body, headers=sent)).status == status
        [event] = await logs(ask, "?eventType=refusal")
        assert at(event, "outcome.status") == status
        assert at(event, "outcome.problem")
        assert at(event, "actor.address") == "127.0.0.1"


async def test_a_caller_that_asks_too_much_is_recorded(
    settings: AuditSettings, tmp_path: Path
) -> None:
    limits = {"limits": {"roles": {"reader": {"reads": "2/minute"}}}}
    async with guarded(tmp_path, limits, audit=settings) as ask:
        while (reply := await ask("GET", "/servers", headers=bearer("reader"))).status == 200:
            pass
        assert reply.status == 429
        [event] = await logs(ask, "?outcome=refused", headers=bearer("operator"))
        assert at(event, "outcome.status") == 429
        assert at(event, "actor.userId") == "reader"


async def test_no_secret_is_recorded(settings: AuditSettings, tmp_path: Path) -> None:
    lines = tmp_path / "audit.jsonl"
    both = AuditSettings(file=str(lines), store=settings.store)
    holder = "h" * 24
    async with guarded(tmp_path, audit=both) as ask:
        body = leased("a-1", lease={"ttl": 60, "holder": holder})
        await ask("POST", "/servers", body, headers=bearer("registrar"))
        await ask("DELETE", f"/servers/a-1?holder={holder}x", headers=bearer("registrar"))
        await ask("DELETE", f"/servers/a-1?holder={holder}", headers=bearer("registrar"))
        stranger = {
            "Authorization": "Bearer sk-stranger-0123456789abcdef",
            "Cookie": "session=s3cr3t",
        }
        await ask("GET", "/servers", headers=stranger)
        await until_recorded(ask, {"outcome.status": 401}, headers=bearer("operator"))
    text = lines.read_text()
    store = (tmp_path / "audit.db").read_bytes()
    assert '"a-1"' in text
    for secret in (holder, *TOKENS.values(), "sk-stranger", "s3cr3t"):
        assert secret not in text
        assert secret.encode() not in store


async def test_a_heartbeat_is_an_event_where_it_changes_the_status(
    settings: AuditSettings,
) -> None:
    async with served(audit=settings) as ask:
        await ask("POST", "/servers", leased("a-1"))
        for status in ("healthy", "healthy", "degraded", "degraded", "healthy"):
            beat = {"status": status, "reason": "it says so"}
            assert (await ask("POST", "/servers/a-1/heartbeat", beat)).status == 200
        await until_recorded(ask, {"details.after": "healthy"})
        found = await logs(ask, "?eventType=status")
        assert [each["details"] for each in found] == [
            {"before": "degraded", "after": "healthy"},
            {"before": "healthy", "after": "degraded"},
        ]
        assert len(await logs(ask, "?id=a-1")) == 3


async def test_a_request_that_changes_nothing_is_told_apart(settings: AuditSettings) -> None:
    async with served(audit=settings) as ask:
        document = b'{"prompts":[],"resourceTemplates":[],"resources":[],"tools":[]}'
        digest = hashlib.sha256(document).hexdigest()
        json = {"Content-Type": "application/json"}
        reply = await ask("PUT", f"/documents/{digest}", document, headers=json)
        assert reply.status == 204, reply.body
        event = await until_recorded(ask, {"operation.name": "none"})
        assert at(event, "operation.route") == "/documents/{digest}"


async def test_a_flood_of_refusals_is_counted(
    settings: AuditSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = tmp_path / "audit.jsonl"
    both = AuditSettings(file=str(lines), store=settings.store)
    async with guarded(tmp_path, audit=both) as ask:
        for _ in range(300):
            assert (await ask("GET", "/servers")).status == 401
    # What was counted is recorded at the end of a minute, or of the facade.
    found = [line for line in lines.read_text().splitlines() if '"refusal"' in line]
    assert len(found) == refusals.SINGLY + 1
    assert f'"count":{300 - refusals.SINGLY}' in found[-1]


async def test_a_document_that_has_to_be_sent_first_is_no_refusal(
    settings: AuditSettings, tmp_path: Path
) -> None:
    async with guarded(tmp_path, audit=settings) as ask:
        body = leased("a-1", capabilities={"digest": "0" * 64})
        reply = await ask("POST", "/servers", body, headers=bearer("registrar"))
        assert (reply.status, reply.json["type"].split(":")[-1]) == (409, "unknown-document")
        assert await logs(ask, "?outcome=refused", headers=bearer("operator")) == []


async def test_a_name_that_is_held_is_named(settings: AuditSettings, tmp_path: Path) -> None:
    rules = [{"names": ["pay-*"], "owners": ["operator"], "origins": ["http://127.0.0.1:9"]}]
    async with guarded(tmp_path, {"names": rules}, audit=settings) as ask:
        operator = bearer("operator")
        body = leased("p-1", name="pay-a")
        refused = await ask("POST", "/servers", body, headers=bearer("registrar"))
        assert refused.status == 409
        [event] = await logs(ask, "?name=pay-a", headers=operator)
        assert at(event, "outcome.problem") == "name-held"
        assert at(event, "actor.userId") == "registrar"
        assert (await ask("POST", "/servers", body, headers=operator)).status == 201
        [event, _] = await logs(ask, "?name=pay-a", headers=operator)
        assert at(event, "target.owner") == "operator"


async def test_what_the_store_has_in_breach_of_a_rule_is_recorded(
    settings: AuditSettings, tmp_path: Path
) -> None:
    rules = [{"names": ["pay-*"], "origins": ["https://pay.example.com"]}]
    async with EmbeddedStore() as store:
        await store.register(record("evil", name="pay-a"), document(), ttl=60.0, reap_after=60.0)
        sections = {"names": rules}
        async with guarded(tmp_path, sections, store=store, audit=settings) as ask:
            found = await until_recorded(
                ask, {"operation.name": "quarantined"}, headers=bearer("operator")
            )
            assert at(found, "target.id") == "evil"
            assert "is no origin that servers of the name pay-a may have" in str(found["details"])


async def test_a_call_that_is_not_allowed(settings: AuditSettings, tmp_path: Path) -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "pay"}}
    scopes = {"some": {"verbs": ["call"], "names": ["shop"], "tools": ["find"]}}
    sections = {"roles": {**ROLES, "reader": "some"}, "scopes": {**SCOPES, **scopes}}
    async with guarded(tmp_path, sections, audit=settings, gateway=True) as ask:
        operator = bearer("operator")
        capabilities = {"tools": ["find", "pay"]}
        body = leased("s-1", name="shop", capabilities=capabilities)
        assert (await ask("POST", "/servers", body, headers=operator)).status == 201
        await ask("POST", "/gateway/shop/mcp", call, headers=bearer("reader"))
        [event] = await logs(ask, "?tool=pay", headers=operator)
        assert at(event, "actor.userId") == "reader"
        assert at(event, "outcome.result") == "refused", event
        await ask("POST", "/gateway/nobody/mcp", call, headers=bearer("reader"))
        [event] = await logs(ask, "?name=nobody", headers=operator)
        assert at(event, "outcome.status") == 404

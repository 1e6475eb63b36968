"""``GET /audit``: who sees what, filters, and pages that neither repeat nor skip."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mcp_discovery.facade.access.audit.settings import AuditSettings
from mcp_discovery.facade.access.tokens import hash_of, new_token
from tests.facade.access.audit.recorded import at, logs
from tests.facade.access.tokens import ROLES, SCOPES, TOKENS, bearer, guarded
from tests.facade.harness import Client, leased, served

OTHERS = {role: new_token(role) for role in ("shop-admin", "tool-admin")}


@pytest.fixture
async def ask(settings: AuditSettings, tmp_path: Path) -> AsyncIterator[Client]:
    """A facade at which several have done things. ``shop-admin`` administers two names."""
    roles = {**ROLES, "shop-admin": "shop", "tool-admin": "tools"}
    scopes = {
        **SCOPES,
        "shop": [{"verbs": ["read", "admin"], "names": ["shop-*"]}],
        "tools": [{"verbs": ["admin"], "tools": ["find"]}],
    }
    known = {**TOKENS, **OTHERS}
    tokens = {role: {"hash": hash_of(known[role]), "roles": role} for role in roles}
    sections = {"roles": roles, "scopes": scopes, "tokens": tokens}
    async with guarded(tmp_path, sections, audit=settings) as client:
        for number, name in enumerate(("shop-a", "shop-b", "bank", "shop-a")):
            body = leased(f"{name}-{number}", name=name)
            assert (
                await client("POST", "/servers", body, headers=bearer("registrar"))
            ).status == 201
        made = await client("POST", "/servers", leased("op-1"), headers=bearer("operator"))
        assert made.status == 201
        assert (
            await client("POST", "/servers", leased("x"), headers=bearer("reader"))
        ).status == 403
        yield client


def of(role: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {OTHERS[role]}"}


async def test_only_who_administers_may_ask(ask: Client) -> None:
    assert (await ask("GET", "/audit")).status == 401
    for role in ("reader", "registrar", "employee", "admin"):
        assert (await ask("GET", "/audit", headers=bearer(role))).status == 403
    assert (await ask("GET", "/audit", headers=bearer("operator"))).status == 200


async def test_filters(ask: Client) -> None:
    operator = bearer("operator")

    async def ids(query: str) -> list[str]:
        found = await logs(ask, query, headers=operator)
        return [at(each, "target.id") for each in found]

    whole = ["op-1", "shop-a-3", "bank-2", "shop-b-1", "shop-a-0"]
    assert await ids("?eventType=change") == whole
    assert await ids("?userId=registrar") == whole[1:]
    assert await ids("?userId=operator&eventType=change") == ["op-1"]
    assert await ids("?name=shop-a") == ["shop-a-3", "shop-a-0"]
    assert await ids("?id=bank-2") == ["bank-2"]
    assert await ids("?operation=register&outcome=done&limit=2") == whole[:2]
    assert await ids("?operation=drain") == []
    assert await ids("?userId=nobody") == []
    found = await logs(ask, "?eventType=change", headers=operator)
    middle = found[2]
    assert await logs(ask, f"?eventId={middle['eventId']}", headers=operator) == [middle]
    assert await logs(ask, f"?requestId={middle['requestId']}", headers=operator) == [middle]
    assert await ids(f"?eventType=change&from={middle['time']}") == whole[:3]
    assert await ids(f"?eventType=change&to={middle['time']}") == whole[3:]
    day = middle["time"][:10]
    assert await ids(f"?eventType=change&from={day}") == whole
    assert await ids(f"?eventType=change&to={day}") == []
    refused = await logs(ask, "?outcome=refused", headers=operator)
    assert [at(each, "actor.userId") for each in refused] == ["reader"]


async def test_the_seeds_path_and_parameters(ask: Client) -> None:
    path = "/api/platform/audit?userId=registrar&from=2020-01-01&to=2100-01-01&limit=2"
    reply = await ask("GET", path, headers=bearer("operator"))
    assert list(reply.json) == ["logs", "nextCursor"]
    first = reply.json["logs"][0]
    assert first["actor"]["userId"] == "registrar"
    assert first["actor"]["roles"] == ["registrar"]
    assert first["outcome"]["success"] is True
    assert {"eventId", "eventType"} <= first.keys()


async def test_pages_neither_repeat_nor_skip_while_more_happens(ask: Client) -> None:
    operator = bearer("operator")
    whole = [each["eventId"] for each in await logs(ask, "?limit=100", headers=operator)]
    found: list[str] = []
    cursor = ""
    for number in range(100):
        reply = await ask("GET", f"/audit?limit=2{cursor}", headers=operator)
        page = [each["eventId"] for each in reply.json["logs"]]
        assert 1 <= len(page) <= 2
        found += page
        if "nextCursor" not in reply.json:
            break
        cursor = f"&cursor={reply.json['nextCursor']}"
        await ask("POST", "/servers", leased(f"more-{number}"), headers=operator)
    assert found == whole


async def test_whoever_administers_some_servers_sees_these_alone(ask: Client) -> None:
    found = await logs(ask, headers=of("shop-admin"))
    assert [at(each, "target.id") for each in found] == ["shop-a-3", "shop-b-1", "shop-a-0"]
    for each in found:
        assert not {"chain", "sequence", "previous", "hash"} & each.keys()
    reply = await ask("GET", "/audit?limit=1", headers=of("shop-admin"))
    cursor = reply.json["nextCursor"]
    found = await logs(ask, f"?limit=5&cursor={cursor}", headers=of("shop-admin"))
    assert [at(each, "target.id") for each in found] == ["shop-b-1", "shop-a-0"]
    assert await logs(ask, "?name=bank", headers=of("shop-admin")) == []
    assert await logs(ask, "?eventType=refusal", headers=of("shop-admin")) == []
    assert await logs(ask, headers=of("tool-admin")) == []


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        ("?from=yesterday", "bad-time"),
        ("?limit=0", "out-of-bounds"),
        ("?outcome=fine", "unknown-value"),
        ("?eventType=chnge", "unknown-value"),
        ("?cursor=nothing", "unknown-cursor"),
        ("?user=x", "unknown-parameter"),
    ],
)
async def test_questions_that_cannot_be_answered(ask: Client, query: str, kind: str) -> None:
    reply = await ask("GET", f"/audit{query}", headers=bearer("operator"))
    assert reply.status == 400
    assert reply.json["type"].endswith(kind)


async def test_where_none_is_kept(tmp_path: Path) -> None:
    for settings in (None, AuditSettings(file=str(tmp_path / "audit.jsonl"))):
        async with served(audit=settings) as ask:
            reply = await ask("GET", "/audit")
            assert reply.status == 404
            assert "--audit-store" in reply.json["detail"]

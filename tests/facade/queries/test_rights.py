"""Who keeps named queries, who sees their definitions, and what the audit says of both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mcp_discovery.facade.access.audit.settings import AuditSettings
from tests.facade.access.audit.recorded import at, logs
from tests.facade.access.tokens import ROLES, SCOPES, bearer, guarded
from tests.facade.harness import Client, leased

#: May see and register the servers of one team alone, and administer them.
_TEAM = {"verbs": ["read", "register", "admin"], "names": ["pay*"]}
SECTIONS: dict[str, Any] = {
    "roles": dict(ROLES) | {"employee": "team"},
    "scopes": dict(SCOPES) | {"team": [_TEAM]},
}


async def _furnished(ask: Client) -> None:
    for id, name in (("a", "payments"), ("b", "secret-ledger")):
        body = leased(id, name=name, tags=["money"])
        assert (await ask("POST", "/servers", body, headers=bearer("operator"))).status == 201
    definition = {
        "description": "Who takes money",
        "filters": {"name": "secret-ledger"},
        "fallbacks": [{"filters": {"tags": "money"}}],
    }
    put = await ask("PUT", "/queries/money", definition, headers=bearer("operator"))
    assert put.status == 201, put.body


async def test_a_query_is_answered_over_what_its_asker_sees(tmp_path: Path) -> None:
    async with guarded(tmp_path, SECTIONS) as ask:
        await _furnished(ask)
        whole = await ask("GET", "/queries/money", headers=bearer("reader"))
        assert (whole.ids, whole.json["answeredBy"]) == (["b"], 0)
        own = await ask("GET", "/queries/money", headers=bearer("employee"))
        assert (own.ids, own.json["answeredBy"], own.json["total"]) == (["a"], 1, 1)
        assert (await ask("GET", "/queries/money")).status == 401


async def test_a_definition_is_for_those_who_see_all_and_changed_by_those_who_register_all(
    tmp_path: Path,
) -> None:
    async with guarded(tmp_path, SECTIONS) as ask:
        await _furnished(ask)
        known = await ask("GET", "/queries", headers=bearer("employee"))
        assert known.json == {"queries": [{"name": "money", "description": "Who takes money"}]}
        hidden = await ask("GET", "/queries/money/definition", headers=bearer("employee"))
        assert hidden.status == 403
        assert b"secret" not in hidden.body
        shown = await ask("GET", "/queries/money/definition", headers=bearer("reader"))
        assert shown.json["filters"] == {"name": "secret-ledger"}
        for role in ("employee", "reader"):
            for method in ("PUT", "DELETE"):
                reply = await ask(method, "/queries/money", {}, headers=bearer(role))
                assert (reply.status, reply.json["needs"]) == (403, "register")
        by_team = await ask("PUT", "/queries/money", {}, headers=bearer("employee"))
        assert "no right to register every server" in by_team.json["detail"]
        put = await ask("PUT", "/queries/money", {"limit": 1}, headers=bearer("registrar"))
        assert put.status == 200


async def test_no_tag_confirms_a_guess_of_what_a_definition_says(tmp_path: Path) -> None:
    tags = set()
    for name in ("one", "two"):  # the guesser has a facade, too
        (tmp_path / name).mkdir()
        async with guarded(tmp_path / name, SECTIONS) as ask:
            secret = {"filters": {"name": "secret-ledger"}}
            await ask("PUT", "/queries/money", secret, headers=bearer("operator"))
            for _ in range(2):
                own = await ask("GET", "/queries/money", headers=bearer("employee"))
                assert own.status == 200
                tags.add(own.headers["ETag"])
    assert len(tags) == 2


async def test_changes_are_recorded_for_those_who_administer_all(tmp_path: Path) -> None:
    settings = AuditSettings(store=f"sqlite:///{tmp_path}/audit.db")
    async with guarded(tmp_path, SECTIONS, audit=settings) as ask:
        await _furnished(ask)
        operator = bearer("operator")
        late = {"If-Match": '"another"'}
        assert (await ask("PUT", "/queries/money", {}, headers=operator | late)).status == 412
        assert (await ask("DELETE", "/queries/money", headers=operator)).status == 204
        assert (await ask("PUT", "/queries/money", {}, headers=bearer("reader"))).status == 403
        found = await logs(ask, "?name=money", headers=operator)
        said = [(at(each, "operation.name"), at(each, "outcome.status")) for each in found]
        assert said == [
            ("register", 403),
            ("remove-query", 204),
            ("keep-query", 412),
            ("keep-query", 201),
        ]
        refused, removed, changed, kept = found
        assert refused["eventType"] == "refusal"
        assert kept["target"] == {"kind": "query", "name": "money"}
        assert at(kept, "digests.before") is None
        digest = at(kept, "digests.after.definition")
        assert at(removed, "digests.before.definition") == digest
        assert at(removed, "digests.after") is None
        assert at(changed, "outcome.result") == "refused"
        # Of an administrator of one team's servers the events of queries are none.
        team = await logs(ask, headers=bearer("employee"))
        assert not [each for each in team if at(each, "target.kind") == "query"]

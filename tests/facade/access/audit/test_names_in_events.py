"""Texts that callers wrote: no token among them is recorded, and each name that was refused is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from mcp_discovery.facade.access.audit import refusals
from mcp_discovery.facade.access.audit.event import LogEntry, plain
from mcp_discovery.facade.access.audit.settings import AuditSettings
from tests.facade.access.audit.recorded import at, logs, until_recorded
from tests.facade.access.tokens import TOKENS, bearer, guarded
from tests.facade.connections.bodies import files
from tests.facade.harness import leased

#: Names that only ``operator`` may use.
HELD = [{"names": ["vault-*"], "owners": ["operator"]}]


@pytest.mark.parametrize("role", [None, "operator"], ids=["anonymous", "known"])
async def test_no_token_in_any_text(
    role: str | None, settings: AuditSettings, tmp_path: Path
) -> None:
    lines = tmp_path / "audit.jsonl"
    both = AuditSettings(file=str(lines), store=settings.store)
    secrets = [*TOKENS.values(), "ghp_" + "a1B2c3D4e5" * 4, "glpat-" + "x9" * 10]
    headers = {} if role is None else bearer(role)
    async with guarded(tmp_path, audit=both, gateway=True) as ask:
        operator = bearer("operator")
        body = leased("a-1", name="gate", capabilities={"tools": ["x"]})
        assert (await ask("POST", "/servers", body, headers=operator)).status == 201
        for secret in secrets:
            call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": secret}}
            await ask("DELETE", f"/connections/{secret}", headers=headers)
            await ask("POST", f"/servers/{secret}/drain", headers=headers)
            await ask("POST", f"/gateway/{secret}/mcp", call, headers=headers)
            await ask("POST", "/gateway/gate/mcp", call, headers=headers)
            traced = headers | {"X-Request-Id": secret}
            await ask("DELETE", "/servers/nothing", headers=traced)
        await until_recorded(ask, {"requestId": "***"}, headers=operator)
    text, store = lines.read_text(), (tmp_path / "audit.db").read_bytes()
    assert '"***"' in text
    for secret in secrets:
        assert secret not in text
        assert secret.encode() not in store


def test_texts_are_masked_wherever_they_stand() -> None:
    token = TOKENS["manager"]
    facts = {
        "target": {"tags": [f"a {token} b"], "zone": token},
        "outcome": {"error": "x" * 480 + f" {token} and more" + "y" * 9000},
        "details": {"deep": [{"why": token}]},
        "actor": {"userId": token},
    }
    told = LogEntry.new("whole", facts).json()
    assert token not in str(told)
    assert token[:30] not in str(told)
    assert at(told, "target.tags") == ["a *** b"]
    assert at(told, "outcome.error").startswith("x" * 480 + " *** and more")
    assert len(plain("z" * 100_000)) == 500


@pytest.mark.parametrize(
    ("query", "status"), [("?partial=true", 200), ("?dryRun=true", 200), ("", 409)]
)
async def test_each_name_that_an_import_is_refused(
    query: str, status: int, settings: AuditSettings, tmp_path: Path
) -> None:
    lines = tmp_path / "audit.jsonl"
    both = AuditSettings(file=str(lines), store=settings.store)
    async with guarded(tmp_path, {"names": HELD}, audit=both) as ask:
        operator, registrar = bearer("operator"), bearer("registrar")
        guessed: list[Mapping[str, object]] = [
            files(id="free-1", name="free"),
            *(files(id=f"g-{number}", name=f"vault-{number}") for number in range(30)),
        ]
        body = {"connections": guessed}
        reply = await ask("POST", f"/registry/import{query}", body, headers=registrar)
        assert reply.status == status, reply.body
        await until_recorded(ask, {"outcome.problem": "name-held"}, headers=operator)
        found = [
            each
            for each in await logs(ask, "?outcome=refused&limit=200", headers=operator)
            if at(each, "outcome.problem") == "name-held"
        ]
        assert len(found) == refusals.SINGLY
        assert {at(each, "actor.userId") for each in found} == {"registrar"}
        assert {at(each, "operation.route") for each in found} == {"/registry/import"}
        assert {at(each, "target.name") for each in found} <= {f"vault-{n}" for n in range(30)}
        assert len({at(each, "target.id") for each in found}) == refusals.SINGLY
        one = await logs(ask, "?name=vault-7", headers=operator)
        assert [at(each, "target.id") for each in one] == ["g-7"]
        assert not await logs(ask, "?name=free&outcome=refused", headers=operator)
    assert f'"count":{30 - refusals.SINGLY}' in lines.read_text()

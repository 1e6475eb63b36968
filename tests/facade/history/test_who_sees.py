"""Who may not see an instance may not see its history, listed or gone, nor what of it is hidden."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mcp_discovery.facade.access.audit.settings import AuditSettings
from tests.facade.access.tokens import ROLES, SCOPES, bearer, guarded
from tests.facade.history.past import Registered, changes, tools

#: ``employee`` sees what ``get_*`` of desks, ``manager`` whole desks that have the tag ``eu``.
SECTIONS: dict[str, Any] = {
    "roles": {**ROLES, "employee": "some", "manager": "europe"},
    "scopes": {
        **SCOPES,
        "some": {"names": ["desk*"], "tools": ["get_*"], "verbs": ["read"]},
        "europe": {"names": ["desk*"], "tags": ["eu"], "verbs": ["read"]},
    },
}
EMPLOYEE, MANAGER, OPERATOR = bearer("employee"), bearer("manager"), bearer("operator")
#: Each registration is the operator's.
DESK: dict[str, Any] = {"name": "desk", "headers": OPERATOR}


async def statuses(ask: Any, headers: dict[str, str], name: str = "desk") -> list[str]:
    return [each["status"] for each in await changes(ask, name, headers=headers)]


async def test_what_is_hidden_has_no_history(tmp_path: Path, kept: AuditSettings | None) -> None:
    async with guarded(tmp_path, SECTIONS, audit=kept) as ask:
        vault = await Registered.new(ask, "vault-1", name="vault", headers=OPERATOR)
        await vault.beat("down", "refused")
        missing = "/servers/nothing/"
        paths = ("history", "documents", f"documents/{'0' * 64}/diff", "history?at=2026-01-01")
        for is_gone in (False, True):
            if is_gone:
                await vault.leave()
            for id in ("vault", "vault-1"):
                for path in paths:
                    reply = await ask("GET", f"/servers/{id}/{path}", headers=EMPLOYEE)
                    other = await ask("GET", f"{missing}{path}", headers=EMPLOYEE)
                    assert reply.status == other.status == 404
                    assert reply.body.replace(id.encode(), b"nothing") == other.body
        assert await statuses(ask, OPERATOR, "vault") == ["healthy", "down", "gone"]


async def test_what_changes_in_the_hidden_part_is_no_change(
    tmp_path: Path, kept: AuditSettings | None
) -> None:
    async with guarded(tmp_path, SECTIONS, audit=kept) as ask:
        desk = await Registered.new(ask, "desk-1", **DESK)
        await desk.offer(tools(get_ticket="Gets", drop_all="Drops"), name="desk")
        await desk.offer(tools(get_ticket="Gets", drop_all="Drops everything"), name="desk")
        await desk.beat("degraded", "slow")
        await desk.offer(tools(get_ticket="Gets it", drop_some="Drops"), name="desk")
        await desk.offer(tools(drop_some="Drops"), name="desk")  # nothing is to be seen of it
        await desk.beat("down", "refused")
        await desk.leave()

        seen = await changes(ask, "desk", headers=EMPLOYEE)
        assert [(each["status"], each.get("digest")) for each in seen] == [
            ("healthy", tools(get_ticket="Gets").digest),
            ("degraded", tools(get_ticket="Gets").digest),
            ("degraded", tools(get_ticket="Gets it").digest),
            ("gone", None),
        ]
        assert len(await changes(ask, "desk", headers=OPERATOR)) == 8
        reply = await ask("GET", "/servers/desk/documents", headers=EMPLOYEE)
        new, old = (each["digest"] for each in reply.json["documents"])
        reply = await ask("GET", f"/servers/desk/documents/{new}/diff", headers=EMPLOYEE)
        assert b"drop" not in reply.body
        [changed] = reply.json["parts"]["tools"]["changed"]
        assert (reply.json["from"], reply.json["to"], changed["name"]) == (old, new, "get_ticket")
        whole = tools(get_ticket="Gets", drop_all="Drops").digest
        for query in ("", f"?with={whole}"):
            path = f"/servers/desk/documents/{whole if not query else new}/diff{query}"
            assert (await ask("GET", path, headers=EMPLOYEE)).status == 404
            assert (await ask("GET", path, headers=OPERATOR)).status in (200, 404)


async def test_who_saw_it_once_sees_that_time_alone(
    tmp_path: Path, kept: AuditSettings | None
) -> None:
    async with guarded(tmp_path, SECTIONS, audit=kept) as ask:
        desk = await Registered.new(ask, "desk-1", **DESK)
        await desk.beat("degraded", "slow")
        offered = tools(get_ticket="Gets")
        await desk.offer(offered, name="desk", tags=["eu"])
        await desk.beat("down", "refused")
        await desk.offer(offered, name="desk", tags=["us"])
        await desk.beat("healthy")
        assert await statuses(ask, MANAGER) == ["degraded", "down", "gone"]
        gone = (await changes(ask, "desk", headers=MANAGER))[-1]
        assert gone["reason"] == "it was down, and was removed"
        # As it is told of one that was really removed then.
        day = (await ask("GET", "/servers/desk/history", headers=MANAGER)).json["availability"]
        assert day["day"]["shares"].keys() == {"degraded", "down", "gone"}


@pytest.mark.parametrize("number", [2, 3])
async def test_the_cursor_tells_nothing_of_what_is_hidden(tmp_path: Path, number: int) -> None:
    async with guarded(tmp_path, SECTIONS) as ask:
        desk = await Registered.new(ask, "desk-1", **DESK)
        for text in ("Drops", "Drops all", "Drops more"):
            offered = tools(get_ticket="Gets", drop_all=text)
            await desk.offer(offered, name="desk")
        for status in ("degraded", "down", "healthy"):
            await desk.beat(status)
        seen = await changes(ask, "desk", headers=EMPLOYEE)
        assert len(seen) == 4
        first = await ask("GET", f"/servers/desk/history?limit={number}", headers=EMPLOYEE)
        cursor = first.json["nextCursor"]
        path = f"/servers/desk/history?limit={number}&cursor={cursor}"
        second = await ask("GET", path, headers=EMPLOYEE)
        assert [*first.json["changes"], *second.json["changes"]] == seen[::-1]

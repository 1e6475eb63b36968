"""Who may not see an instance may not see its history, listed or gone, nor what of it is hidden."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_discovery.facade.access.audit.settings import AuditSettings
from mcp_discovery.facade.access.rights import Grant, Rights
from mcp_discovery.facade.history.change import Period, State
from mcp_discovery.facade.history.store import MemoryStore
from mcp_discovery.facade.history.visible import Seen
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


@st.composite
def pasts(draw: st.DrawFn) -> tuple[list[Period], list[Period], dict[str, bytes]]:
    """Two pasts of one instance that look equal to :data:`SOME`, and all documents."""
    documents: dict[str, bytes] = {}

    def state(shown: int | None, hidden: int) -> State | None:
        """As it was: visible with its ``shown`` text, or not at all."""
        if shown is None and hidden == 0:
            return None  # it had left
        names = {"drop_all": f"Drops {hidden}"} | ({} if shown is None else {"get_x": f"{shown}"})
        document = tools(**names)
        documents[document.digest] = document.compressed()
        return State(
            *("desk", "healthy", "answers", 0, document.digest, "1.0.0", None, "sidecar", "host"),
            *("h1-x", None, False, (), None),
        )

    steps = draw(st.lists(st.sampled_from((None, 1, 2)), min_size=1, max_size=6))
    both: tuple[list[Period], list[Period]] = [], []
    for past in both:
        for number, shown in enumerate(steps):
            # Within each step what is hidden changes now and then.
            cuts = sorted(draw(st.sets(st.integers(1, 99), max_size=3)))
            for began, ended in pairwise([0, *cuts, 100]):
                found = state(shown, draw(st.integers(0, 2)))
                if found is not None:
                    at, until = ((number * 100 + each) * 1000 for each in (began, ended))
                    past.append(Period("desk-1", at, until, found))
    return *both, documents


SOME = Rights((Grant(frozenset({"read"}), names=("desk",), tools=("get_*",)),))


class Written(MemoryStore):
    """A store with these documents."""

    def __init__(self, documents: dict[str, bytes]) -> None:
        super().__init__()
        self._documents.update(documents)


@given(pasts())
def test_equal_looks_are_equal_pasts(
    both: tuple[list[Period], list[Period], dict[str, bytes]],
) -> None:
    one, other, documents = both
    seen = Seen(Written(documents))
    first, second = (asyncio.run(seen.changes(each, SOME)) for each in (one, other))
    assert first == second
    assert not any("drop" in repr(each) for each in first)

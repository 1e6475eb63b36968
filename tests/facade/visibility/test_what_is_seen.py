"""What callers see who may see a part of the list, and when that changes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import StoreUnavailableError
from mcp_discovery.facade.access import visibility
from mcp_discovery.instance import HOLDER_HEADER
from mcp_discovery.record import Record
from tests.facade.access.tokens import ROLES, SCOPES, bearer, guarded, write_auth_file
from tests.facade.harness import Client, Reply, leased
from tests.facade.mcp.wire import Legacy, hello, message
from tests.stores.waiting import until

#: ``employee`` sees two tools of ``desk``, ``manager`` all of it and may register there.
SECTIONS: dict[str, Any] = {
    "roles": {**ROLES, "employee": "some", "manager": "desks"},
    "scopes": {
        **SCOPES,
        "some": {"names": ["desk*"], "tools": ["get_*"], "verbs": ["read", "report"]},
        "desks": {"names": ["desk*"], "verbs": ["read", "register", "report"]},
    },
}
EMPLOYEE, MANAGER, OPERATOR = bearer("employee"), bearer("manager"), bearer("operator")


def document(*names: str, more: str = "") -> CapabilityDocument:
    """Tools with these names."""
    return CapabilityDocument(
        tools=tuple({"name": name, "description": f"Does {name}{more}"} for name in names)
    )


@pytest.fixture
async def ask(tmp_path: Path) -> AsyncIterator[Client]:
    """A facade with two servers, of which ``desk`` has a tool that employees do not see."""
    async with guarded(tmp_path, SECTIONS) as found:
        await register(found, "desk", document("get_ticket", "drop_all"))
        await register(found, "vault", document("get_gold"))
        yield found


async def register(
    ask: Client,
    name: str,
    offered: CapabilityDocument,
    headers: dict[str, str] = OPERATOR,
    holder: str | None = None,
) -> Reply:
    """Registers an instance with the name for its id, and what it offers; anew by its holder."""
    path = f"/documents/{offered.digest}"
    assert (await ask("PUT", path, offered.canonical, headers=headers)).status == 204
    tools = [each["name"] for each in offered.tools]
    body = leased(
        name,
        name=name,
        capabilities={"tools": tools, "digest": offered.digest},
        registeredAt="2026-01-01T00:00:00Z",
    )
    if holder is None:
        return await ask("POST", "/servers", body, headers=headers)
    return await ask("PUT", f"/servers/{name}", body, headers=headers | {HOLDER_HEADER: holder})


async def test_some_tools_of_a_server(ask: Client) -> None:
    listed = await ask("GET", "/servers", headers=EMPLOYEE)
    (desk,) = listed.json["servers"]
    assert desk["capabilities"]["tools"] == ["get_ticket"]
    digest = desk["capabilities"]["digest"]
    assert digest == document("get_ticket").digest

    found = await ask("GET", f"/documents/{digest}", headers=EMPLOYEE)
    assert found.body == document("get_ticket").canonical
    assert "private" in found.headers["Cache-Control"]  # it is for no cache that others share
    whole = document("get_ticket", "drop_all").digest
    hidden = await ask("GET", f"/documents/{whole}", headers=EMPLOYEE)
    missing = await ask("GET", f"/documents/{'0' * 64}", headers=EMPLOYEE)
    assert hidden.status == missing.status == 404
    assert hidden.body == missing.body.replace(b"0" * 64, whole.encode())
    assert (await ask("GET", "/servers/vault", headers=EMPLOYEE)).status == 404
    assert (await ask("GET", "/tools/drop_all", headers=EMPLOYEE)).status == 404


async def test_a_change_of_what_is_hidden_is_none(ask: Client) -> None:
    holder = (await register(ask, "desk-2", document("get_x", "drop_all"))).json["holder"]
    before = await ask("GET", "/servers/desk-2", headers=EMPLOYEE)
    assert (await register(ask, "vault-2", document("get_silver"))).status == 201
    other = document("get_x", "drop_everything")
    assert (await register(ask, "desk-2", other, holder=holder)).status == 200
    after = await ask("GET", "/servers/desk-2", headers=EMPLOYEE)
    assert after.headers["ETag"] == before.headers["ETag"]
    assert after.headers["X-Discovery-Revision"] == before.headers["X-Discovery-Revision"]

    # What is visible changes: the document is there still.
    beat = {"status": "degraded", "reason": "slow"}
    headers = OPERATOR | {HOLDER_HEADER: holder}
    reply = await ask("POST", "/servers/desk-2/heartbeat", beat, headers=headers)
    assert reply.status == 200, reply.body
    now = await ask("GET", "/servers/desk-2", headers=EMPLOYEE)
    assert now.json["status"] == "degraded"
    digest = now.json["capabilities"]["digest"]
    assert (await ask("GET", f"/documents/{digest}", headers=EMPLOYEE)).status == 200


async def test_a_document_that_is_not_seen_cannot_be_named(ask: Client) -> None:
    hidden = document("get_gold").digest
    for digest in (hidden, "0" * 64):
        body = leased("desk-2", name="desk-2", capabilities={"digest": digest})
        reply = await ask("POST", "/servers", body, headers=MANAGER)
        assert (reply.status, reply.json["digest"]) == (409, digest)
    # Who has it itself may register it.
    assert (await register(ask, "desk-2", document("get_gold"), MANAGER)).status == 201
    assert (await ask("GET", f"/documents/{hidden}", headers=MANAGER)).status == 200


async def test_calls_of_hidden_tools_do_not_show(ask: Client) -> None:
    async def count(tool: str, headers: dict[str, str]) -> int:
        body = {"success": True, "capability": tool, "latency": 100}
        return (await ask("POST", "/servers/desk/outcome", body, headers=headers)).status

    await ask("GET", "/servers", headers=EMPLOYEE)
    assert await count("drop_all", OPERATOR) == 204
    assert await count("drop_all", EMPLOYEE) == 422
    for path in ("/registry/stats", "/connections/desk"):
        assert b"equests" not in (await ask("GET", path, headers=EMPLOYEE)).body.replace(
            b'"totalRequests":0', b""
        )
    assert await count("get_ticket", EMPLOYEE) == 204
    shown = (await ask("GET", "/connections/desk", headers=EMPLOYEE)).json["metrics"]
    assert shown["totalRequests"] == 1
    shown = (await ask("GET", "/connections/desk", headers=MANAGER)).json["metrics"]
    assert shown["totalRequests"] == 2


async def test_what_concerns_the_facade_is_for_administrators(ask: Client) -> None:
    own = {"store", "held", "skipped"}
    assert own <= (await ask("GET", "/status", headers=OPERATOR)).json.keys()
    assert own.isdisjoint((await ask("GET", "/status", headers=bearer("reader"))).json)
    assert (await ask("GET", "/health")).json["registry"]["connections"] == 0
    assert (await ask("GET", "/health", headers=OPERATOR)).json["registry"]["connections"] == 2


async def test_a_session_is_its_callers(ask: Client) -> None:
    begun = await ask("POST", "/mcp", hello(), headers=EMPLOYEE)
    session = {"Mcp-Session-Id": begun.headers["Mcp-Session-Id"]}
    ping = message("ping")
    assert (await ask("POST", "/mcp", ping, headers=EMPLOYEE | session)).status == 200
    assert (await ask("POST", "/mcp", ping, headers=MANAGER | session)).status == 404
    assert (await ask("DELETE", "/mcp", headers=MANAGER | session)).status == 404
    assert (await ask("POST", "/mcp", ping, headers=EMPLOYEE | session)).status == 200


async def test_other_rights_show_something_else_at_once(tmp_path: Path) -> None:
    async with guarded(tmp_path, SECTIONS) as ask:
        await register(ask, "desk", document("get_ticket", "drop_all"))
        await register(ask, "vault", document("get_gold"))
        ask.session.headers.update(EMPLOYEE)
        client = await Legacy.begun(ask)
        assert len((await ask("GET", "/servers")).json["servers"]) == 1
        async with client.stream() as stream:
            write_auth_file(
                tmp_path / "auth.yaml", roles={**ROLES, "employee": "read"}, scopes=SCOPES
            )

            async def sees_both() -> bool:
                return len((await ask("GET", "/servers")).json["servers"]) == 2

            await until(sees_both, timeout=30, what="the new rights")
            # Its stream ends, and the session goes on with what counts now.
            with pytest.raises(EOFError):
                while True:
                    await stream.next()
        await client.result("ping")
        async with client.stream() as stream:
            assert (await stream.next())["method"] == "notifications/resources/list_changed"


async def test_what_nobody_looks_at_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visibility, "_LOOK", 0.05)
    monkeypatch.setattr(visibility, "_KEPT_FOR", 0.1)
    async with guarded(tmp_path, SECTIONS) as ask:
        await register(ask, "desk", document("get_ticket"))

        async def epoch() -> str:
            reply = await ask("GET", "/servers", headers=EMPLOYEE)
            assert len(reply.json["servers"]) == 1
            return str(reply.headers["X-Discovery-Revision"]).partition(":")[0]

        first = await epoch()
        async with ask.session.get(f"{ask.url}/events", headers=EMPLOYEE) as response:
            await response.content.readany()
            assert response.status == 200

        async def is_another() -> bool:
            return await epoch() != first

        monkeypatch.setattr(visibility, "_KEPT_FOR", 0.0)
        await until(is_another, timeout=30, what="another list of the same")


class AwayStore(EmbeddedStore):
    """A store whose documents cannot be read for a while."""

    away = True

    async def document(self, digest: str) -> CapabilityDocument:
        """See :meth:`Store.document`."""
        if self.away:
            raise StoreUnavailableError(self.url, "away for the test")
        return await super().document(digest)


async def test_documents_that_cannot_be_read_come_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_discovery.facade.access.visible_list._READ_AGAIN", 0.1)
    async with AwayStore() as store, guarded(tmp_path, SECTIONS, store=store) as ask:
        await register(ask, "desk", document("get_ticket", "drop_all"))

        async def shown() -> dict[str, Any]:
            (desk,) = (await ask("GET", "/servers", headers=EMPLOYEE)).json["servers"]
            assert desk["capabilities"]["tools"] == ["get_ticket"]
            found: dict[str, Any] = desk["capabilities"]
            return found

        assert "digest" not in await shown()
        store.away = False

        async def has_digest() -> bool:
            return (await shown()).get("digest") == document("get_ticket").digest

        await until(has_digest, timeout=30, what="the trimmed document")


async def test_many_changes_at_once(tmp_path: Path) -> None:
    async with EmbeddedStore() as store, guarded(tmp_path, SECTIONS, store=store) as ask:
        await ask("GET", "/servers", headers=MANAGER)
        registrations = []
        for number in range(400):
            name = "desk" if number % 2 else "vault"
            record = leased(f"{name}-{number}", name=name)
            del record["lease"]
            reply = await ask("POST", "/servers", record | {"lease": {"ttl": 60}}, headers=OPERATOR)
            registrations.append(reply.status)
        assert set(registrations) == {201}
        listed = await ask("GET", "/servers?limit=1", headers=MANAGER)
        assert listed.json["total"] == 200
        assert listed.headers["X-Discovery-Revision"].endswith(":200")


@pytest.mark.slow
async def test_who_is_missed_of_what_is_seen(tmp_path: Path) -> None:
    async with EmbeddedStore() as store, guarded(tmp_path, SECTIONS, store=store) as ask:
        await ask("GET", "/servers", headers=MANAGER)
        for name in ("desk", "vault"):
            record = Record.parse({"id": name, "name": name, "endpoint": {"url": "http://x/mcp"}})
            await store.register(record, document("get_x"), ttl=1, reap_after=2)

        async def missed(headers: dict[str, str]) -> list[str]:
            found = (await ask("GET", "/status", headers=headers)).json["missed"]
            return [each["id"] for each in found]

        async def both_are() -> bool:
            return await missed(OPERATOR) == ["desk", "vault"]

        await until(both_are, timeout=30, what="both being missed")
        assert await missed(MANAGER) == ["desk"]
        assert await missed(EMPLOYEE) == []  # nobody had looked that way while it was there
        assert (await ask("DELETE", "/servers/vault", headers=MANAGER)).status == 404
        assert (await ask("DELETE", "/servers/desk", headers=OPERATOR)).status == 204
        assert await missed(MANAGER) == []


async def test_a_description_made_of_the_instructions_is_not_told_to_who_sees_a_part(
    ask: Client,
) -> None:
    """A sidecar describes a server by the first line of these where that says nothing else."""
    told = {"instructions": "Mind drop_all.\nIt drops all."}
    for id, description in (("desk-made", "Mind drop_all."), ("desk-own", "The desk")):
        body = leased(id, name=id, description=description, protocol=told)
        body |= {"capabilities": {"tools": ["get_ticket", "drop_all"]}}
        assert (await ask("POST", "/servers", body, headers=OPERATOR)).status == 201
    for headers, made in ((OPERATOR, "Mind drop_all."), (EMPLOYEE, "")):
        listed = (await ask("GET", "/servers", headers=headers)).json["servers"]
        found = {each["id"]: each.get("description") or "" for each in listed}
        assert (found["desk-made"], found["desk-own"]) == (made, "The desk")
    assert b"Mind" not in (await ask("GET", "/v0.1/servers", headers=EMPLOYEE)).body

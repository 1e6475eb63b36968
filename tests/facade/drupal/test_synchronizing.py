"""The list and a site of Drupal, kept alike."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mcp_discovery.facade.access.audit.settings import AuditSettings
from tests.facade.access.tokens import bearer, write_auth_file
from tests.facade.drupal.fake_drupal import KEY, PAGE, FakeDrupalSite
from tests.facade.harness import Client, Reply, leased, served
from tests.records import tool


@pytest.fixture
async def drupal() -> AsyncIterator[FakeDrupalSite]:
    """A site without any server."""
    async with FakeDrupalSite().serving() as site:
        yield site


async def asked(ask: Client, drupal: FakeDrupalSite, mode: str, **more: Any) -> Reply:
    body = {"drupalEndpoint": drupal.url, "apiKey": KEY, "syncMode": mode, **more}
    headers = body.pop("headers", None)
    return await ask("POST", "/drupal/sync", body, headers=headers)


async def sync(ask: Client, drupal: FakeDrupalSite, mode: str, **more: Any) -> dict[str, Any]:
    reply = await asked(ask, drupal, mode, **more)
    assert reply.status == 200, reply.body
    found: dict[str, Any] = reply.json
    return found


def listed(id: str, **more: Any) -> dict[str, Any]:
    return leased(id, document={"tools": [tool("find")]}, tags=["shop"], **more)


def editors(name: str, **more: Any) -> dict[str, Any]:
    """A node that an editor fills in."""
    url = f"http://127.0.0.1:9/{name}"
    return {"title": f"The {name}", "field_mcp_name": name, "field_mcp_url": url} | more


async def test_push_is_done_once(ask: Client, drupal: FakeDrupalSite) -> None:
    await ask("POST", "/servers", listed("a", description="Finds."))
    await ask("POST", "/servers", listed("b", title="B"))
    dry = await sync(ask, drupal, "push", dryRun=True)
    assert dry["pushed"]["created"] == ["a", "b"]
    assert drupal.writes == 0
    assert (await sync(ask, drupal, "push"))["pushed"]["created"] == ["a", "b"]
    node = drupal.by_id("a")
    assert node["field_mcp_tags"] == ["shop"] and node["field_mcp_capabilities"] == ["find"]
    assert node["field_mcp_description"] == "Finds." and node["title"] == "products"
    assert drupal.by_id("b")["title"] == "B"
    before = drupal.writes
    again = await sync(ask, drupal, "push")
    assert (again["unchanged"], again["pushed"]["updated"], drupal.writes) == (2, [], before)
    await ask("PUT", "/servers/a", listed("a", version="2.0.0"))
    assert (await sync(ask, drupal, "push"))["pushed"]["updated"] == ["a"]
    assert drupal.by_id("a")["field_mcp_version"] == "2.0.0"
    assert drupal.writes == before + 1
    await ask("DELETE", "/servers/b")
    assert (await sync(ask, drupal, "push"))["pushed"]["unpublished"] == ["b"]
    assert drupal.by_id("b")["status"] is False
    before = drupal.writes
    assert (await sync(ask, drupal, "push"))["unchanged"] == 2
    assert drupal.writes == before
    await ask("POST", "/servers", listed("b", title="B"))
    assert (await sync(ask, drupal, "push"))["pushed"]["updated"] == ["b"]
    assert drupal.by_id("b")["status"] is True


async def test_pull_registers_what_an_editor_made(ask: Client, drupal: FakeDrupalSite) -> None:
    drupal.add(**editors("wiki", field_mcp_tags=["docs"], field_mcp_description="Pages."))
    drupal.add(**editors("draft", status=False))
    drupal.add(**editors("shell", field_mcp_url="", field_mcp_transport="stdio"))
    assert (await sync(ask, drupal, "pull", dryRun=True))["pulled"]["created"] != []
    assert (await ask("GET", "/servers?status=all")).ids == []
    told = await sync(ask, drupal, "pull")
    [id] = told["pulled"]["created"]
    assert drupal.writes == 0
    [refused] = told["refused"]
    assert "a command is never taken from Drupal" in refused["reason"]
    entry = (await ask("GET", f"/servers/{id}")).json
    assert (entry["name"], entry["title"], entry["tags"]) == ("wiki", "The wiki", ["docs"])
    assert entry["url"] == "http://127.0.0.1:9/wiki"
    again = await sync(ask, drupal, "pull")
    assert again["pulled"] == {"created": [], "replaced": [], "removed": []}
    [node] = [each for each in drupal.nodes.values() if each["field_mcp_name"] == "wiki"]
    node["field_mcp_description"] = "All pages."
    assert (await sync(ask, drupal, "pull"))["pulled"]["replaced"] == [id]
    assert (await ask("GET", f"/servers/{id}")).json["description"] == "All pages."
    node["status"] = False
    assert (await sync(ask, drupal, "pull"))["pulled"]["removed"] == [id]
    assert (await ask("GET", f"/servers/{id}")).status == 404


async def test_both_ways_end_equal(ask: Client, drupal: FakeDrupalSite) -> None:
    await ask("POST", "/servers", listed("a"))
    drupal.add(**editors("wiki"))
    told = await sync(ask, drupal, "bidirectional")
    [id] = told["pulled"]["created"]
    assert told["pushed"] == {"created": ["a"], "updated": [id], "unpublished": []}
    before = drupal.writes
    again = await sync(ask, drupal, "bidirectional")
    assert again["unchanged"] == 2 and drupal.writes == before
    drupal.by_id(id)["field_mcp_tags"] = ["docs"]
    await ask("PUT", "/servers/a", listed("a", version="3.0.0"))
    told = await sync(ask, drupal, "bidirectional")
    assert (told["pulled"]["replaced"], told["pushed"]["updated"]) == ([id], ["a", id])
    assert (await ask("GET", f"/servers/{id}")).json["tags"] == ["docs"]
    before = drupal.writes
    assert (await sync(ask, drupal, "bidirectional"))["unchanged"] == 2
    assert drupal.writes == before


async def test_conflicts_are_told_and_left_alone(ask: Client, drupal: FakeDrupalSite) -> None:
    await ask("POST", "/servers", listed("a"))
    await sync(ask, drupal, "push")
    drupal.by_id("a")["field_mcp_description"] = "An editor's."
    [skipped] = (await sync(ask, drupal, "push"))["skipped"]
    assert skipped["fields"] == ["description"] and "pull carries that over" in skipped["reason"]
    await ask("PUT", "/servers/a", listed("a", version="2.0.0"))
    for mode in ("push", "pull", "bidirectional"):
        before = drupal.writes
        told = await sync(ask, drupal, mode)
        [conflict] = told["conflicts"]
        assert (conflict["id"], sorted(conflict["fields"])) == ("a", ["description", "version"])
        assert drupal.writes == before
    assert drupal.by_id("a")["field_mcp_version"] == "0.0.0"
    assert (await ask("GET", "/servers/a")).json["version"] == "2.0.0"


async def test_what_an_editor_changes_meanwhile_is_not_overwritten(
    ask: Client, drupal: FakeDrupalSite
) -> None:
    for id in "ab":
        await ask("POST", "/servers", listed(id))
    await sync(ask, drupal, "push")
    for id in "ab":
        await ask("PUT", f"/servers/{id}", listed(id, version="2.0.0"))

    def edit(_: str) -> None:  # while the first one is written, somebody saves the second one
        drupal.before_change = None
        for node in drupal.nodes.values():
            node["title"] = "An editor's"

    drupal.before_change = edit
    run = await sync(ask, drupal, "push")
    assert len(run["pushed"]["updated"]) + len(run["conflicts"]) == 2
    assert {each["title"] for each in drupal.nodes.values()} == {"An editor's"}


async def test_what_was_made_meanwhile_is_a_conflict(ask: Client, drupal: FakeDrupalSite) -> None:
    await ask("POST", "/servers", listed("a"))

    def made(id: str) -> None:
        drupal.nodes[id] = editors("other")

    drupal.before_change = made
    told = await sync(ask, drupal, "push")
    assert told["pushed"]["created"] == []
    assert "Entity already exists" in told["conflicts"][0]["reason"]


async def test_pages_are_followed(ask: Client, drupal: FakeDrupalSite) -> None:
    for number in range(2 * PAGE + 1):
        drupal.add(**editors(f"wiki-{number}"))
    told = await sync(ask, drupal, "pull", dryRun=True)
    assert len(told["pulled"]["created"]) == 2 * PAGE + 1


async def test_many_that_vanish_are_not_unpublished(ask: Client, drupal: FakeDrupalSite) -> None:
    for number in range(12):
        await ask("POST", "/servers", listed(f"s-{number}"))
    await sync(ask, drupal, "push")
    for number in range(8):
        await ask("DELETE", f"/servers/s-{number}")
    told = await sync(ask, drupal, "push")
    assert told["pushed"]["unpublished"] == []
    assert "so are 8 of 12 servers" in told["skipped"][0]["reason"]
    told = await sync(ask, drupal, "push", unpublishMany=True)
    assert len(told["pushed"]["unpublished"]) == 8


async def test_other_fields_and_what_a_field_does_not_take(
    ask: Client, drupal: FakeDrupalSite
) -> None:
    await ask("POST", "/servers", listed("a"))
    told = await sync(ask, drupal, "push", fields={"tags": None, "version": "field_other"})
    [failed] = told["failed"]
    assert "field_other does not exist" in failed["reason"]
    assert told["pushed"]["created"] == []
    told = await sync(ask, drupal, "push", fields={"tags": None})
    assert "field_mcp_tags" not in drupal.by_id("a")


@pytest.mark.parametrize(
    ("more", "status", "words"),
    [
        ({"apiKey": "${DRUPAL_API_KEY}"}, 422, "mcp-discovery sync drupal"),
        ({"apiKey": "a\nb"}, 422, "apiKey"),
        ({"apiKey": "wrong-key"}, 502, "send another apiKey"),
        ({"drupalEndpoint": "cms"}, 422, "http://cms.example.com"),
        ({"drupalEndpoint": "http://a:b@127.0.0.1/"}, 422, "apiKey alone"),
        ({"drupalEndpoint": "http://169.254.169.254"}, 502, "link-local"),
        ({"syncMode": "both"}, 422, "syncMode"),
        ({"resourceType": "node--other"}, 502, "no resource type node--other"),
        ({"fields": {"tag": "a"}}, 422, "'tag' is none of"),
        ({"fields": {"url": None}}, 422, "url cannot be left out"),
        ({"filter": {"tag": "a"}}, 422, "did you mean 'tags'?"),
    ],
)
async def test_what_cannot_be_done(
    ask: Client, drupal: FakeDrupalSite, more: dict[str, Any], status: int, words: str
) -> None:
    reply = await asked(ask, drupal, "push", **more)
    assert reply.status == status, reply.body
    assert words in reply.json["detail"]
    assert drupal.writes == 0
    for key in (KEY, "wrong-key"):
        assert key not in reply.body.decode()


async def test_a_site_that_only_reads(ask: Client, drupal: FakeDrupalSite) -> None:
    drupal.read_only = True
    await ask("POST", "/servers", listed("a"))
    [failed] = (await sync(ask, drupal, "push"))["failed"]
    assert "/admin/config/services/jsonapi" in failed["reason"]


async def test_the_key_goes_nowhere_else(
    tmp_path: Path, drupal: FakeDrupalSite, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    settings = AuditSettings(file=str(tmp_path / "audit.jsonl"), arguments=True)
    async with FakeDrupalSite().serving() as other, served(audit=settings) as ask:
        await ask("POST", "/servers", listed("a"))
        await sync(ask, drupal, "bidirectional")
        drupal.links_to = other.url
        reply = await asked(ask, drupal, "push")
        assert (reply.status, "another one than" in reply.json["detail"]) == (502, True)
        assert other.requests == []
        everything = (await ask("GET", "/registry/export")).body
    assert KEY not in caplog.text
    assert KEY.encode() not in everything
    recorded = (tmp_path / "audit.jsonl").read_text()
    assert "/drupal/sync" in recorded and KEY not in recorded
    assert all(key == KEY for _, _, key in drupal.requests)


async def test_only_what_a_caller_may_see_is_pushed(tmp_path: Path, drupal: FakeDrupalSite) -> None:
    auth = write_auth_file(
        tmp_path / "auth.yaml",
        scopes={"part": [{"verbs": ["read", "admin", "register"], "names": ["shop"]}]},
        roles={"operator": "read register admin", "registrar": "part", "reader": "read"}
        | dict.fromkeys(("employee", "manager", "admin"), "read"),
    )
    async with served(auth=auth) as ask:
        whole, part = bearer("operator"), bearer("registrar")
        for id, name in (("shop-1", "shop"), ("bank-1", "bank")):
            await ask("POST", "/servers", listed(id, name=name), headers=whole)
        told = await sync(ask, drupal, "push", headers=part)
        assert told["pushed"]["created"] == ["shop-1"]
        await sync(ask, drupal, "push", headers=whole)
        told = await sync(ask, drupal, "push", headers=part)
        assert "bank" not in str(told)  # nor is it unpublished
        assert drupal.by_id("bank-1")["status"] is True
        drupal.add(**editors("vault"))
        told = await sync(ask, drupal, "pull", headers=part)
        assert "no right to register" in told["refused"][0]["reason"]
        assert (await asked(ask, drupal, "pull", headers=bearer("reader"))).status == 403

"""The audit's pages, its export and its verification in a facade."""

from __future__ import annotations

import csv
import io
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from mcp_discovery.facade.access.audit.export import COLUMNS
from mcp_discovery.facade.access.audit.settings import AuditSettings
from tests.facade.harness import Client, leased, served
from tests.stores.waiting import until

HTML = {"Accept": "text/html"}


@pytest.fixture
async def audited(tmp_path: Path) -> AsyncIterator[Client]:
    """A facade with an audit in which a server was registered and removed."""
    settings = AuditSettings(store=f"sqlite:///{tmp_path}/audit.db")
    async with served(audit=settings) as ask:
        for name in ("=1+1", "calendar"):
            entry = {"id": "one", "name": "one", "title": name, "url": "http://127.0.0.1:9/mcp"}
            await ask("POST", "/servers", entry)
        await ask("DELETE", "/servers/one")
        yield ask


async def test_what_happened_is_listed_and_shown_whole(audited: Client) -> None:
    page = (await audited("GET", "/ui/audit?operation=deregister&userId=", headers=HTML)).body
    assert page.count(b"<tr>") == 2, "the head, and one event"
    events = (await audited("GET", "/audit?operation=deregister")).json["logs"]
    id = events[0]["eventId"]
    assert f"ui/audit/{id}" in page.decode()
    whole = await audited("GET", f"/ui/audit/{id}", headers=HTML)
    assert whole.status == 200
    assert events[0]["hash"] in whole.body.decode()


async def test_pages_follow_each_other(tmp_path: Path) -> None:
    settings = AuditSettings(store=f"sqlite:///{tmp_path}/audit.db")
    async with served(audit=settings) as ask:
        for number in range(60):
            await ask("POST", "/servers", leased(f"one-{number}"))
        first = (await ask("GET", "/ui/audit", headers=HTML)).body.decode()
        link = first.split('rel="next" href="../')[1].split('"')[0].replace("&amp;", "&")
        second = (await ask("GET", f"/{link}", headers=HTML)).body.decode()
        assert "Older events" in second
        longer = (await ask("GET", "/ui/audit?limit=1000", headers=HTML)).body.decode()
        assert longer.count("<tr>") == first.count("<tr>"), "a page has one length"
        assert 'rel="next"' not in second


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ("from=yesterday", 400, "no time"),
        ("cursor=nothing", 400, "start over"),
        ("outcome=odd", 400, "outcome"),
        ("userId=nobody", 200, "No event fits"),
    ],
)
async def test_bad_filters_are_said(audited: Client, query: str, status: int, said: str) -> None:
    reply = await audited("GET", f"/ui/audit?{query}", headers=HTML)
    assert (reply.status, said in reply.body.decode()) == (status, True)
    assert (await audited("GET", "/ui/audit/nothing", headers=HTML)).status == 404


async def test_without_an_audit_the_page_says_how_to_keep_one(ask: Client) -> None:
    reply = await ask("GET", "/ui/audit", headers=HTML)
    assert (reply.status, b"--audit-store" in reply.body) == (404, True)
    assert (await ask("GET", "/audit/export")).status == 404
    assert (await ask("GET", "/audit/verification")).status == 404


async def test_all_events_are_exported(tmp_path: Path) -> None:
    settings = AuditSettings(store=f"sqlite:///{tmp_path}/audit.db")
    async with served(audit=settings) as ask:
        for _ in range(15):
            await ask("DELETE", "/servers/nobody")
        listed = (await ask("GET", "/audit?limit=1000")).json["logs"]
        lines = (await ask("GET", "/audit/export")).body.splitlines()
        assert [orjson.loads(each) for each in lines] == listed
        reply = await ask("GET", "/audit/export?format=csv&eventType=refusal")
        rows = list(csv.DictReader(io.StringIO(reply.body.decode())))
        assert list(rows[0]) == list(COLUMNS)
        refused = [each["eventId"] for each in listed if each["eventType"] == "refusal"]
        assert [each["eventId"] for each in rows] == refused
        assert (await ask("GET", "/audit/export?format=xlsx")).status == 400


async def test_no_cell_is_a_formula(tmp_path: Path) -> None:
    settings = AuditSettings(store=f"sqlite:///{tmp_path}/audit.db")
    async with served(audit=settings) as ask:
        await ask("DELETE", "/servers/%3Dcmd%7C%27%2Fc%20calc%27!A1")
        await ask("DELETE", "/servers/%0A%3Dcmd")
        await ask("DELETE", "/servers/%EF%BC%9Dcmd")
        reply = await ask("GET", "/audit/export?format=csv")
        cells = [cell for row in csv.reader(io.StringIO(reply.body.decode())) for cell in row]
        assert any(each.startswith("'=cmd") for each in cells)
        assert not any(each.startswith(("=", "+", "-", "@", "\n", "\uff1d")) for each in cells)


async def test_a_changed_log_is_found(tmp_path: Path) -> None:
    settings = AuditSettings(store=f"sqlite:///{tmp_path}/audit.db")
    async with served(audit=settings) as ask:
        await ask("DELETE", "/servers/nobody")

        async def verified() -> dict[str, object]:
            found: dict[str, object] = (await ask("GET", "/audit/verification")).json
            return found

        async def has_entries() -> bool:
            return int(str((await verified())["entries"])) >= 2

        await until(has_entries, timeout=10, what="entries")
        whole = await verified()
        assert (whole["whole"], whole["faults"]) == (True, [])
        with sqlite3.connect(tmp_path / "audit.db") as database:
            database.execute("UPDATE audit_log SET entry = replace(entry, 'nobody', 'n0body')")
        changed = await verified()
        assert changed["whole"] is False
        assert "was changed" in str(changed["faults"])

"""Pages stay right while the list changes between them; entity tags; fields."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson
import pytest

from mcp_discovery.facade.servers.paging import SORTS
from mcp_discovery.health import Health, Load, Status, utcnow
from mcp_discovery.instance import Instance
from tests.facade.http.test_bad_input import is_problem
from tests.facade.large_catalog import LEASE, LargeCatalog, instance, listing
from tests.records import record
from tests.seeds import seeded

NOW = utcnow()


@pytest.fixture
async def some() -> AsyncIterator[LargeCatalog]:
    """Some 120 instances of all kinds."""
    chance = seeded(5)
    async with listing(instance(f"i-{n:03d}", NOW, chance, []) for n in range(120)) as found:
        yield found


@pytest.mark.parametrize("sort", [sign + name for name in SORTS for sign in ("", "-")])
async def test_who_stays_is_on_exactly_one_page(some: LargeCatalog, sort: str) -> None:
    """Others come and go between any two pages, before and behind the cursor."""
    chance = seeded(sort)
    query = f"/servers?status=all&limit=7&sort={sort}"
    if "relevance" in sort:
        query += "&q=o"
    stay = set((await some.ask("GET", query.replace("limit=7", "limit=1000"))).ids)
    seen: list[str] = []
    reply = await some.ask("GET", query)
    number = 0
    while True:
        seen += reply.ids
        if "nextCursor" not in reply.json:
            break
        leaving = chance.sample(sorted(some.instances), 2)
        some.remove(*leaving)
        stay.difference_update(leaving)
        number += 1
        some.change(instance(f"n-{number:03d}", NOW, chance, []))
        reply = await some.ask("GET", f"{query}&cursor={reply.json['nextCursor']}")
        assert reply.status == 200, reply.body
    assert len(seen) == len(set(seen))
    assert stay <= set(seen)
    assert number > 5


async def test_a_cursor_carries_its_limit_and_is_safe_in_a_url(some: LargeCatalog) -> None:
    first = await some.ask("GET", "/servers?status=all&limit=9&sort=-owner")
    cursor = first.json["nextCursor"]
    assert cursor.replace("-", "").replace("_", "").isalnum()
    second = await some.ask("GET", f"/servers?status=all&sort=-owner&cursor={cursor}")
    assert len(second.ids) == 9
    assert not set(first.ids) & set(second.ids)
    assert second.json["total"] == 120
    # The length of a page and its fields may change on the way.
    third = await some.ask(
        "GET", f"/servers?status=all&sort=-owner&cursor={cursor}&limit=3&fields=name"
    )
    assert third.ids == second.ids[:3]


async def test_a_cursor_from_elsewhere(some: LargeCatalog) -> None:
    cursor = (await some.ask("GET", "/servers?status=all&limit=9")).json["nextCursor"]

    async def refused(query: str, words: str) -> None:
        is_problem(await some.ask("GET", f"/servers?{query}"), 400, words)

    await refused(f"cursor={cursor}", "another question")
    await refused(f"status=all&sort=-name&cursor={cursor}", "another question")
    await refused(f"status=all&q=orders&cursor={cursor}", "another question")
    await refused(f"status=all&explain=true&cursor={cursor}", "leave out cursor or explain")
    await refused(f"status=all&wait=3s&cursor={cursor}", "leave out cursor or wait")
    for garbage in ("x", "%00", "%ED%A0%80", "a" * 5000, "eyJhIjoxfQ", "W10", "bnVsbA", "é"):
        await refused(f"status=all&cursor={garbage}", "")
    said = orjson.loads(base64.urlsafe_b64decode(cursor + "=="))
    for position, value in (
        *((0, 3), (0, "1"), (2, -1), (2, 10**15), (2, "x"), (3, 5), (3, []), (3, True)),
        *(
            (4, 7),
            (5, 0),
            (5, 1001),
            (5, None),
            (5, "9"),
            (6, None),
            (6, [-1]),
            (6, ["1"]),
            (6, [1] * 65),
        ),
    ):
        forged = [*said[:position], value, *said[position + 1 :]]
        text = base64.urlsafe_b64encode(orjson.dumps(forged)).decode().rstrip("=")
        await refused(f"status=all&cursor={text}", "start again")
    versions = await some.ask("GET", "/servers?status=all&limit=9&sort=version")
    said = orjson.loads(base64.urlsafe_b64decode(versions.json["nextCursor"] + "=="))
    said[3] = "no version"
    text = base64.urlsafe_b64encode(orjson.dumps(said)).decode()
    await refused(f"status=all&sort=version&cursor={text}", "changed on its way")


async def test_fields_and_no_others(some: LargeCatalog) -> None:
    reply = await some.ask("GET", "/servers?status=all&fields=name,lastSeen,zone")
    whole = {
        each["id"]: each for each in (await some.ask("GET", "/servers?status=all")).json["servers"]
    }
    for each in reply.json["servers"]:
        assert each.keys() <= {"id", "name", "lastSeen", "zone"}
        assert each.keys() >= {"id", "name", "lastSeen"}
        assert each["name"] == whole[each["id"]]["name"]
        assert ("zone" in each) == ("zone" in whole[each["id"]])
        assert each["lastSeen"].endswith("Z")
    assert reply.ids == list(whole)
    alone = await some.ask("GET", "/servers?fields=id&limit=1")
    assert [each.keys() for each in alone.json["servers"]] == [{"id"}]


@pytest.mark.parametrize(
    "path",
    [
        "/servers",
        "/servers?tags=products&limit=2&explain=true",
        "/servers?q=catalog&fields=name,lastSeen&sort=-lastSeen",
        "/servers/a",
        "/servers/a/capabilities",
        "/capabilities",
        "/status",
    ],
)
async def test_what_is_there_already_is_not_sent_again(path: str) -> None:
    seen = Health(Status.HEALTHY, "answers MCP", NOW, NOW - timedelta(hours=1))
    one = Instance(record("a", capabilities={"tools": ["find"]}), seen, LEASE)
    async with listing([one]) as large_catalog:
        first = await large_catalog.ask("GET", path)
        tag = first.headers["ETag"]
        assert tag.startswith('W/"')
        for given in (tag, tag.removeprefix("W/"), f'"x", {tag}', "*"):
            reply = await large_catalog.ask("GET", path, headers={"If-None-Match": given})
            assert (reply.status, reply.body) == (304, b""), given
            assert reply.headers["ETag"] == tag
            assert reply.headers["X-Discovery-Revision"] == first.headers["X-Discovery-Revision"]
        assert (await large_catalog.ask("HEAD", path, headers={"If-None-Match": tag})).status == 304
        for given in ('"x"', "x", "", 'W/"'):
            reply = await large_catalog.ask("GET", path, headers={"If-None-Match": given})
            assert reply.status == 200, given
            assert reply.headers["ETag"] == tag
        tools: Any = {"tools": ["buy"], "digest": None}
        large_catalog.change(
            Instance(record("a", capabilities=tools), replace(seen, reason="x"), LEASE)
        )
        reply = await large_catalog.ask("GET", path, headers={"If-None-Match": tag})
        changed = "fields=name" not in path
        assert reply.status == (200 if changed else 304)


async def test_what_is_not_known_comes_last_either_way() -> None:
    def loaded(id: str, active: int | None) -> Instance:
        load = None if active is None else Load(active=active, capacity=10)
        return Instance(record(id), Health(Status.HEALTHY, ""), LEASE, load)

    async with listing([loaded("a", 5), loaded("b", None), loaded("c", 1)]) as large_catalog:
        assert (await large_catalog.ask("GET", "/servers?sort=load")).ids == ["c", "a", "b"]
        assert (await large_catalog.ask("GET", "/servers?sort=-load")).ids == ["a", "c", "b"]

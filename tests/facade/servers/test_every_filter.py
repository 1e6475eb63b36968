"""10,000 instances: every filter and every order against a scan of the plain entries."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import datetime, timedelta
from functools import cache
from typing import Any
from urllib.parse import urlencode

import pytest

from mcp_discovery.facade.access.list_parts import PARTS
from mcp_discovery.facade.servers.results import LISTS
from mcp_discovery.health import PREFERENCE, Status, utcnow
from mcp_discovery.query.question import Question
from mcp_discovery.query.words import stem, words
from tests.facade.large_catalog import (
    OWNERS,
    SKILLS,
    TAGS,
    TOOLS,
    TRANSPORTS,
    WORDS,
    ZONES,
    LargeCatalog,
    large_catalog,
)
from tests.seeds import seeded
from tests.stores.waiting import until

pytestmark = pytest.mark.slow

Entry = dict[str, Any]

RANGES: dict[str, Callable[[tuple[int, ...]], bool]] = {
    ">=1.2,<2": lambda v: (1, 2, 0) <= v < (2, 0, 0),
    ">=1.2 <2": lambda v: (1, 2, 0) <= v < (2, 0, 0),
    "^1.2": lambda v: (1, 2, 0) <= v < (2, 0, 0),
    "~1.2": lambda v: v[:2] == (1, 2),
    "1.x || >=2.5": lambda v: v[0] == 1 or v >= (2, 5, 0),
    "1.2 - 2.0": lambda v: (1, 2, 0) <= v < (2, 1, 0),
    "==2.0.0": lambda v: v == (2, 0, 0),
    "!=2.0.0": lambda v: v != (2, 0, 0),
    ">9": lambda v: v >= (10, 0, 0),
}
SORTS = ("name", "id", "status", "since", "version", "registeredAt", "zone", "owner", "weight")


@pytest.fixture(scope="module")
async def many() -> AsyncIterator[LargeCatalog]:
    async with large_catalog(10_000) as found:
        await found.ask("GET", "/servers?q=orders&limit=1")
        lists = found.app[PARTS][LISTS]

        async def known() -> bool:
            return lists.search.documents_known >= len(found.documents)

        await until(known, timeout=10, what="all descriptions being known")
        yield found


def numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


@cache
def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def words_in(texts: Iterable[str]) -> set[str]:
    return {stem(word) for text in texts for word, _ in words(text)}


def texts_of(entry: Entry, many: LargeCatalog) -> set[str]:
    """The words of an entry, of its tools and of its skills."""
    document = many.documents.get(entry["capabilities"].get("digest", ""))
    tools = entry["capabilities"]["tools"]
    defined = document.tools if document else ()
    described = [tool["description"] for tool in defined if tool["name"] in tools]
    own = (entry["name"], entry.get("title", ""), entry["description"], *entry["tags"])
    return words_in((*own, *tools, *entry["capabilities"]["skills"], *described))


def scan(many: LargeCatalog, asked: list[tuple[str, str]]) -> list[Entry]:
    """The entries that a reader would choose by hand, by name and id."""
    given: dict[str, list[str]] = {}
    for name, value in asked:
        given.setdefault(name, []).append(value)
    statuses = given.get("status", ["healthy"])
    wanted = given.get("tags", [])
    fit = all if given.get("match") == ["all"] else any
    now = utcnow()

    def chosen(entry: Entry) -> bool:
        offered = entry["capabilities"]
        names = [name for kind, listed in offered.items() if kind != "digest" for name in listed]
        return (
            ("all" in statuses or entry["status"] in statuses)
            and (not wanted or fit(tag in entry["tags"] for tag in wanted))
            and all(each in names for each in given.get("capability", []))
            and all(each in offered["tools"] for each in given.get("tool", []))
            and all(each in offered["skills"] for each in given.get("skill", []))
            and entry["name"] in given.get("name", [entry["name"]])
            and entry["transport"] in given.get("transport", [entry["transport"]])
            and ("zone" not in given or entry.get("zone") in given["zone"])
            and ("owner" not in given or entry.get("owner") in given["owner"])
            and (
                "version" not in given
                or any(RANGES[each](numbers(entry["version"])) for each in given["version"])
            )
            and (
                "min_uptime" not in given
                or (
                    entry["status"] != "down"
                    and now - moment(entry["since"])
                    >= timedelta(seconds=int(given["min_uptime"][0]))
                )
            )
        )

    found = [entry for entry in many.entries if chosen(entry)]
    return sorted(found, key=lambda entry: (entry["name"], entry["id"]))


def asked_by(chance: random.Random) -> list[tuple[str, str]]:
    """Some filters, any of them."""
    some: dict[str, Callable[[], list[str]]] = {
        "tags": lambda: chance.sample(TAGS, chance.randrange(1, 3)),
        "capability": lambda: chance.sample((*TOOLS, "explain", "refunds"), chance.randrange(1, 3)),
        "tool": lambda: chance.sample((*TOOLS, "explain"), chance.randrange(1, 3)),
        "skill": lambda: chance.sample(SKILLS, chance.randrange(1, 3)),
        "name": lambda: [f"{chance.choice(WORDS[:6])}-{chance.randrange(40)}" for _ in range(3)],
        "version": lambda: [chance.choice(list(RANGES))],
        "transport": lambda: [chance.choice(TRANSPORTS)],
        "zone": lambda: [chance.choice([each for each in ZONES if each])],
        "owner": lambda: [chance.choice([each for each in OWNERS if each])],
        "status": lambda: [chance.choice(("all", "healthy", "degraded", "draining"))],
        # A time at which nothing changes by itself.
        "min_uptime": lambda: [str(chance.choice((300, 3000, 30_000)))],
    }
    names = chance.sample(sorted(some), chance.randrange(4))
    asked = [(name, value) for name in names for value in some[name]()]
    if "tags" in names:
        asked.append(("match", chance.choice(("any", "all"))))
    return asked


async def test_every_filter_answers_as_a_scan_does(many: LargeCatalog) -> None:
    chance = seeded(20)
    not_empty = 0
    for number in range(150):
        asked = asked_by(chance)
        wanted = [entry["id"] for entry in scan(many, asked)]
        reply = await many.ask("GET", f"/servers?{urlencode([*asked, ('fields', 'id')])}")
        assert reply.status == 200, reply.body
        assert reply.ids == wanted, (number, asked)
        not_empty += bool(wanted)
    assert not_empty > 50


@pytest.mark.parametrize("sort", [sign + name for name in SORTS for sign in ("", "-")])
async def test_every_order_is_right_and_pages_make_the_whole(many: LargeCatalog, sort: str) -> None:
    entries = scan(many, [("status", "all"), ("tool", "buy"), ("tags", "stock")])
    assert len(entries) > 500
    field = sort.removeprefix("-")
    entries.sort(key=lambda entry: entry["id"])
    known = [entry for entry in entries if field in entry]
    known.sort(
        key=lambda entry: numbers(entry[field]) if field == "version" else entry[field],
        reverse=sort != field,
    )
    wanted = [entry["id"] for entry in known]
    wanted += [entry["id"] for entry in entries if field not in entry]
    query = f"/servers?status=all&tool=buy&tags=stock&sort={sort}&fields=id&limit=400"
    found: list[str] = []
    cursor = ""
    while True:
        reply = await many.ask("GET", f"{query}&cursor={cursor}")
        assert reply.json["total"] == len(wanted)
        found += reply.ids
        if (cursor := reply.json.get("nextCursor", "")) == "":
            break
        assert len(reply.ids) == 400
    assert found == wanted


@pytest.mark.parametrize("match", [any, all])
@pytest.mark.parametrize(
    "text",
    [
        *("orders!", "ORDER 7!", "read_file!", "listOrders!", "größe stock!", "number7!"),
        *("nowhere", "orders invoice catalog!", "the price!"),
    ],
)
async def test_words_are_found_as_a_scan_does(
    many: LargeCatalog, text: str, match: Callable[[Iterable[bool]], bool]
) -> None:
    sought = [each.term for each in Question(text).words]
    wanted = [
        entry["id"]
        for entry in scan(many, [("status", "all")])
        if match(word in texts_of(entry, many) for word in sought)
    ]
    query = urlencode({"q": text, "status": "all", "fields": "id,status", "match": match.__name__})
    reply = await many.ask("GET", f"/servers?{query}")
    assert sorted(reply.ids) == sorted(wanted)
    order = [PREFERENCE.index(Status(each["status"])) for each in reply.json["servers"]]
    assert order == sorted(order)  # health comes before words


async def test_what_is_left_out_is_explained(many: LargeCatalog) -> None:
    asked = [("zone", "us"), ("version", "^1.2"), ("tool", "buy"), ("q", "orders")]
    query = urlencode([*asked, ("explain", "true"), ("limit", "1000"), ("fields", "id")])
    reply = await many.ask("GET", f"/servers?{query}")
    excluded = reply.json["excluded"]
    assert len(excluded) == 1000
    assert reply.json["totalExcluded"] == len(many.instances) - reply.json["total"]
    entries = {each["id"]: each for each in scan(many, [("status", "all")])}
    inside = set(reply.ids)
    by_name = [id for id in entries if id not in inside]
    if reply.json["total"] <= 1000:
        assert [each["id"] for each in excluded] == by_name[:1000]
    for each in excluded:
        entry = entries[each["id"]]
        failed = {
            "status": entry["status"] != "healthy",
            "zone": entry.get("zone") != "us",
            "version": not RANGES["^1.2"](numbers(entry["version"])),
            "tool": "buy" not in entry["capabilities"]["tools"],
            "q": stem("orders") not in texts_of(entry, many),
        }
        assert set(each["filters"]) == {name for name, is_so in failed.items() if is_so}
        assert each["filters"]
        assert (each["status"], each["reason"]) == (entry["status"], entry["reason"])
        assert each["name"] == entry["name"]


async def test_a_hot_list_is_made_once(many: LargeCatalog) -> None:
    lists = many.app[PARTS][LISTS]
    await many.ask("GET", "/servers?tags=rare&limit=3")
    before = lists.selected
    for limit in (1, 2, 3, 3, 3):
        assert (await many.ask("GET", f"/servers?tags=rare&limit={limit}")).status == 200
    assert lists.selected == before

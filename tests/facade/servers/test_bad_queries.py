"""Bad questions for the list: one clear sentence and 400 each, and the facade goes on."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from tests.facade.harness import Client, leased
from tests.facade.http.test_bad_input import is_problem
from tests.seeds import seeded


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("tols=find", "did you mean 'tool'"),
        ("limits=3", "did you mean 'limit'"),
        ("%00=1", "unknown parameter"),
        ("%ED%A0%80=1", "unknown parameter"),
        ("status=health", "did you mean 'healthy'"),
        ("transport=stdin", "did you mean 'stdio'"),
        ("sort=nam", "did you mean 'name'"),
        ("sort=--name", "use one of"),
        ("sort=relevance", "add q"),
        ("sort=name&sort=id", "give sort once"),
        ("fields=id,lastseen", "did you mean 'lastSeen'"),
        ("fields=endpoint.url", "use one of"),
        ("version=latest", ">=1.2,<2"),
        ("version=%3E%3D", "no range"),
        ("version=" + "9" * 300, "no range"),
        ("version=1.2.3.4", "no range"),
        ("status=down&min_uptime=1h", "what is down has no uptime"),
        ("min_uptime=soon", "no duration"),
        ("min_uptime=-5", "no duration"),
        ("min_uptime=1e9", "no duration"),
        ("min_uptime=NaN", "no duration"),
        ("min_uptime=0", "above 0"),
        ("min_uptime=999999999d", "at most"),
        ("limit=0", "from 1 to 1000"),
        ("limit=1001", "from 1 to 1000"),
        ("limit=-1", "from 1 to 1000"),
        ("limit=1.5", "from 1 to 1000"),
        ("limit=" + "9" * 5000, "from 1 to 1000"),
        ("limit=%D9%A3", "from 1 to 1000"),
        ("wait=0&index=a:1", "above 0"),
        ("wait=301&index=a:1", "at most 300"),
        ("wait=6m&index=a:1", "at most 300"),
        ("wait=yes&index=a:1", "no duration"),
        ("index=a:1", "add wait"),
        ("wait=3s&index=7", "X-Discovery-Revision"),
        ("wait=3s&index=a:-7", "X-Discovery-Revision"),
        ("wait=3s&index=a:" + "9" * 30, "X-Discovery-Revision"),
        ("explain=yes", "true, false"),
        ("q=%2B%2B", "no word"),
        ("q=" + "a" * 4001, "4,000 at most"),
        ("tags=a%00b", "control characters"),
        ("q=a%00b", "control characters"),
        ("name=a%0D%0AX: y".replace(" ", "%20"), "control characters"),
        ("zone=%ED%A0%80", "no UTF-8"),
        ("q=%FF%FE", "no UTF-8"),
        ("tags=" + ",".join(f"{n:x}" for n in range(1500)), "256 at most"),
        ("&".join(f"tool={n:x}" for n in range(700)), "256 at most"),
    ],
)
async def test_questions_that_cannot_be(ask: Client, query: str, words: str) -> None:
    is_problem(await ask("GET", f"/servers?{query}"), 400, words)
    assert (await ask("GET", "/servers?status=all&tags=a")).ids == []


async def test_ten_thousand_tags(ask: Client) -> None:
    await ask("POST", "/servers", leased("a", tags=["x"]))
    reply = await ask("GET", "/servers?tags=" + ",".join(["x"] * 3500))
    assert reply.ids == ["a"]  # the same one, however often
    reply = await ask("GET", "/servers?tags=" + ",".join(f"t{n}" for n in range(10_000)))
    assert (reply.status, reply.json["type"][-15:]) == (400, "too-many-values")
    assert (await ask("GET", "/servers?tags=x")).ids == ["a"]


@pytest.mark.parametrize("path", ["..%2F..%2Fetc%2Fpasswd", "..%5C..", "a%2Fcapabilities", "%00"])
async def test_an_id_that_is_a_path(ask: Client, path: str) -> None:
    await ask("POST", "/servers", leased("a"))
    for below in ("", "/capabilities"):
        reply = await ask("GET", f"/servers/{path}{below}")
        assert reply.status == 404, reply.body


async def test_streams_take_the_same_filters(ask: Client) -> None:
    await ask("POST", "/servers", leased("a", zone="eu", owner="Shop, Inc", version="1.4.0"))
    await ask("POST", "/servers", leased("b", zone="us", capabilities=["find"], version="2.0.0"))
    for query, ids in (
        ("zone=eu", ["a"]),
        ("owner=Shop%2C%20Inc", ["a"]),
        ("version=%3E%3D1.2,%3C2", ["a"]),
        ("tool=find", ["b"]),
        ("name=products&transport=streamable-http", ["a", "b"]),
    ):
        async with ask.events(f"?{query}") as events:
            snapshot = await events.next()
            assert [each["id"] for each in snapshot.data["servers"]] == ids, query
    for query in ("q=find", "limit=3", "sort=id", "min_uptime=3", "wait=3s"):
        is_problem(await ask("GET", f"/events?{query}"), 400, "unknown parameter")


async def test_no_question_makes_it_fail(ask: Client) -> None:
    """Any parameters with any values, sound ones among them: an answer or a 400."""
    chance = seeded(11)
    await ask("POST", "/servers", leased("a", tags=["x"], capabilities=["find"]))
    names = (
        "tags",
        "match",
        "capability",
        "tool",
        "status",
        "name",
        "version",
        "transport",
        "zone",
        "owner",
        "min_uptime",
        "q",
        "fields",
        "sort",
        "limit",
        "cursor",
        "explain",
    )
    values = (
        "",
        "x",
        "all",
        "find",
        "1",
        "-1",
        "10m",
        "true",
        ">=1",
        "name",
        "-lastSeen",
        "id,url",
    )
    odd = (
        "\0",
        "é",
        "\U0001f600",
        "a" * 300,
        "%",
        "&",
        "=",
        "[]",
        "{}",
        "'",
        '"',
        "\\",
        "../",
        "*",
    )
    statuses = set()
    for _ in range(400):
        query = "&".join(
            f"{chance.choice(names)}={quote(chance.choice((*values, *values, *odd)))}"
            for _ in range(chance.randrange(1, 5))
        )
        reply = await ask("GET", f"/servers?{query}")
        assert reply.status in (200, 400), (query, reply.body)
        statuses.add(reply.status)
    assert statuses == {200, 400}


async def test_a_question_of_several_lines(ask: Client) -> None:
    await ask("POST", "/servers", leased("a", description="Forecasts of the weather."))
    for path in ("/servers?q=", "/v0.1/servers?search="):
        answer = await ask(
            "GET", path + "rain%20or%20sun?%0D%0A%09The%20weather%20tomorrow,%0Aplease"
        )
        assert (answer.status, len(answer.json["servers"])) == (200, 1), path

"""The page of all servers, as the facade sends it: what is on it, in which order, and why."""

from __future__ import annotations

import re
from html import unescape

import pytest

from mcp_discovery.query.filters import FILTERS
from tests.facade.harness import Client, leased, served
from tests.facade.large_catalog import large_catalog
from tests.facade.pages.fleet import HOSTILE, hostile
from tests.facade.stalls import (
    MOST_SECONDS,
    collected_as_when_serving,  # noqa: F401
    longest_stall,
    shortest,
)


async def fill(ask: Client, *bodies: dict[str, object]) -> None:
    for body in bodies:
        assert (await ask("POST", "/servers", body)).status == 201


async def page(ask: Client, query: str = "", status: int = 200) -> str:
    reply = await ask("GET", f"/{query}", headers={"Accept": "text/html"})
    assert reply.status == status, reply.body
    return reply.body.decode()


def rows(text: str) -> str:
    """The rows of the table."""
    table = text[text.index('id="servers-table"') :]
    return table[table.index("<tbody") : table.index("</tbody>")]


def names(text: str) -> list[str]:
    """The servers in the table, from the top."""
    return re.findall(r'ui/servers/([a-z0-9-]+)"><bdi>', rows(text))


def words(text: str) -> str:
    """The page as text."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", text[text.index("<main") :])))


async def test_replicas_are_one_row_with_counts_and_the_worst_reason(ask: Client) -> None:
    replicas = [leased(f"shop-{n}", name="shop", title="Shop", zone=f"z{n}") for n in (1, 2, 3)]
    await fill(ask, *replicas, leased("maps-1", name="maps"))
    drained = await ask("POST", "/servers/shop-2/drain")
    assert drained.status in (200, 204), drained.body
    text = await page(ask)
    assert names(text) == ["maps", "shop"]
    shop = words("<main>" + rows(text).partition('ui/servers/shop"')[2])
    assert "2 healthy" in shop
    assert "1 draining" in shop
    assert "z1, z2 +1" in shop
    assert "2 servers" in words(text)


async def test_every_filter_of_the_table_has_a_field(ask: Client) -> None:
    await fill(ask, leased("maps-1", name="maps"))
    text = await page(ask)
    for each in FILTERS:
        if each != "status":  # which is chosen by the links with the counts
            assert f'name="{each}"' in text, each
    for status in ("healthy", "degraded", "draining", "down", "quarantined"):
        assert f'href="?status={status}"' in text


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("?zone=eu", ["shop"]),
        ("?tags=food,travel&match=all", []),
        ("?tags=food,travel", ["maps", "shop"]),
        ("?tool=buy", ["shop"]),
        ("?version=%5E2", ["maps"]),
        ("?name=maps&status=healthy,down", ["maps"]),
        ("?status=down", []),
        ("?sort=-name", ["shop", "maps"]),
        ("?sort=-version", ["maps", "shop"]),
        ("?zone=&q=", ["maps", "shop"]),
    ],
)
async def test_a_query_is_that_of_the_api(ask: Client, query: str, found: list[str]) -> None:
    await fill(
        ask,
        leased("shop-1", name="shop", tags=["food"], zone="eu", capabilities=["buy"]),
        leased("maps-1", name="maps", tags=["travel"], version="2.1.0"),
    )
    assert names(await page(ask, query)) == found


async def test_a_search_says_why(ask: Client) -> None:
    await fill(
        ask,
        leased("sky-1", name="sky", description="Weather for every place."),
        leased("shop-1", name="shop"),
    )
    text = await page(ask, "?q=weather")
    assert names(text) == ["sky"]
    assert "matched: weather" in words(text)


async def test_a_bad_query_is_a_page_that_says_what_to_write(ask: Client) -> None:
    for query, said in (
        ("?status=helthy", "did you mean 'healthy'"),
        ("?zoned=eu", "did you mean 'zone'"),
        ("?version=banana", "is no range of semantic versions"),
    ):
        assert said in words(await page(ask, query, 400))


async def test_an_empty_list_says_how_a_server_comes_into_it(ask: Client) -> None:
    text = words(await page(ask))
    assert "No servers yet" in text
    assert f"mcp-discovery sidecar --store {ask.url} --tag memory --" in text


async def test_a_list_without_a_match_says_why(ask: Client) -> None:
    await fill(ask, leased("shop-1", name="shop", zone="eu-west"))
    text = await page(ask, "?zone=eu-wst")
    assert names(text) == []
    assert "No server has zone eu-wst" in words(text).replace(" .", ".")
    assert 'href="?zone=eu-west"' in text
    text = words(await page(ask, "?zone=eu-west&status=down"))
    assert "1 would match, but is" in text


async def test_why_a_server_is_left_out(ask: Client) -> None:
    await fill(ask, leased("shop-1", name="shop", zone="eu"), leased("maps-1", name="maps"))
    text = await page(ask, "?zone=eu&explain=true")
    assert names(text) == ["shop"]
    assert "1 of 1 instance that is left out" in words(text)
    explained = text[text.index("servers-explained") :]
    assert 'href="./ui/servers/maps?instance=maps-1"' in explained
    assert 'href="?explain=true"' in explained  # without the zone


async def test_pages_without_a_script(ask: Client) -> None:
    await fill(ask, *(leased(f"s-{n:03}", name=f"s-{n:03}") for n in range(60)))
    first, second = await page(ask), await page(ask, "?page=2&sort=name")
    assert names(first) + names(second) == [f"s-{n:03}" for n in range(60)]
    assert re.search(r'rel="next" href="\?page=2"', first)
    assert re.search(r'rel="prev" href="\?sort=name&amp;page=1"', second)


@pytest.mark.parametrize("number", range(len(HOSTILE)))
async def test_hostile_texts_stay_text(ask: Client, number: int) -> None:
    await fill(ask, hostile(number))
    text = await page(ask)
    assert names(text) == [f"hostile-{number}"]
    for tag in ("<script>document", "<img", "<svg onload", "49{%"):
        assert tag not in rows(text)
    assert "\u202e" not in text  # nor among the values that a filter suggests


@pytest.mark.usefixtures("collected_as_when_serving")
@pytest.mark.slow
async def test_ten_thousand_hold_nobody_up() -> None:
    async with large_catalog(10_000) as found:
        reply = await found.ask("GET", "/", headers={"Accept-Encoding": "gzip"})
        assert reply.status == 200

        async def stall(number: int) -> float:
            query = f"?status=healthy,down&zone=us&zone=try{number}"
            return await longest_stall(found.ask, "GET", f"/{query}", None, {}, wanted=200)

        assert await shortest(stall) < MOST_SECONDS


async def test_addresses_are_those_of_the_public_url() -> None:
    async with served(public_url="https://mcp.example.com/up/") as ask:
        text = await page(ask)
        assert "--store https://mcp.example.com/up " in words(text)
        reply = await ask("GET", "/")
        link = '<https://mcp.example.com/up/.well-known/ard.json>; rel="ard"'
        assert reply.headers["Link"] == link

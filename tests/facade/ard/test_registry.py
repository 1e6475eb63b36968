"""The ARD registry API over a real socket."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import orjson
import pytest

from mcp_discovery.facade.ard.terms import read_expression
from mcp_discovery.facade.http.problems import ProblemError
from tests.facade.access.tokens import bearer, guarded
from tests.facade.ard.form import ENTRY, ERROR, FACETS, LIST, RESULTS
from tests.facade.harness import Client, Reply, leased, served
from tests.facade.registry.test_api import fill

ARD = "/api/ard"
CARD = "application/mcp-server-card+json"
WEATHER = "urn:air:example.com:mcp:weather"


@pytest.fixture
async def some(ask: Client) -> Client:
    """A facade with some servers and an agent, healthy and not."""
    await fill(
        ask,
        leased(
            "w-1",
            name="weather",
            registryName="com.example/weather",
            description="Weather forecasts for cities",
            capabilities=["get_forecast"],
            tags=["eu", "sky"],
            metadata={"team": "sky"},
            version="1.2.0",
        ),
        leased("w-2", name="wind", description="Weather at sea", tags=["sky"]),
        leased("f-1", name="files", description="Files of a folder", capabilities=["read_file"]),
        leased("s-1", name="storm", description="Weather warnings", health={"status": "degraded"}),
        leased("d-1", name="dead", description="Weather of old", health={"status": "down"}),
        leased("a-1", name="guide", description="Plans trips by the weather", kind="agent"),
    )
    return ask


async def search(ask: Client, text: str, **more: Any) -> Any:
    query = {"text": text} | more.pop("query", {})
    reply = await ask("POST", f"{ARD}/search", {"query": query, **more})
    assert reply.status == 200, reply.body
    RESULTS.validate(reply.json)
    return reply.json


def urns(answer: Any) -> list[str]:
    found = [each["identifier"] for each in answer.get("results", answer.get("items"))]
    assert len(set(found)) == len(found)
    return found


async def listed(ask: Client, **query: object) -> Any:
    reply = await ask("GET", f"{ARD}/agents?{urlencode(query)}")
    assert reply.status == 200, reply.body
    LIST.validate(reply.json)
    return reply.json


async def explored(ask: Client, *facets: dict[str, Any], **query: Any) -> Any:
    body = {"resultType": {"facets": list(facets)}} | ({"query": query} if query else {})
    reply = await ask("POST", f"{ARD}/explore", body)
    assert reply.status == 200, reply.body
    FACETS.validate(reply.json)
    return {
        field: {each["value"]: each["count"] for each in found["buckets"]}
        for field, found in reply.json["facets"].items()
    }


def _last(urn: str) -> str:
    """The name in an identifier; of the facade itself with what it is."""
    *_, namespace, name = urn.split(":")
    return f"{namespace}:{name}" if name == "facade" else name


def refused(reply: Reply, status: int, code: str) -> str:
    assert reply.status == status, reply.body
    assert reply.headers["Content-Type"] == "application/json"
    ERROR.validate(reply.json)
    assert reply.json["errorCode"] == code
    message: str = reply.json["message"]
    assert "\n" not in message
    return message


async def test_a_search_finds_the_healthy_with_whole_scores(some: Client) -> None:
    answer = await search(some, "weather")
    assert urns(answer)[0] == WEATHER
    assert {*urns(answer)} == {WEATHER, "urn:air:local:mcp:wind", "urn:air:local:agent:guide"}
    scores = [each["score"] for each in answer["results"]]
    assert scores == sorted(scores, reverse=True)
    for each in answer["results"]:
        assert each["source"] == f"{some.url}{ARD}/"
        assert each["health"] == "healthy"
        assert "representativeQueries" not in each
        assert each["why"].startswith("matched: weather")
        assert each["@context"][1]["why"] == "https://mcp-discovery.github.io/ns#why"
    assert "referrals" not in answer
    assert (await search(some, "weather", federation="referrals"))["referrals"] == []
    for mode in ("none", "auto", None):
        assert await search(some, "weather", federation=mode) == answer
    assert urns(await search(some, "zebra")) == []


@pytest.mark.parametrize(
    ("terms", "found"),
    [
        ({"health": "degraded"}, {"storm"}),
        ({"health": ["healthy", "down"]}, {"weather", "wind", "guide", "dead"}),
        ({"health": ["all"]}, {"weather", "wind", "guide", "dead", "storm"}),
        ({"type": ["application/a2a-agent-card+json"]}, {"guide"}),
        ({"tags": ["eu", "us"]}, {"weather"}),
        ({"tags": ["sky"], "publisher": ["local"]}, {"wind"}),
        ({"capabilities": "get_forecast"}, {"weather"}),
        ({"metadata.team": ["sky"]}, {"weather"}),
        ({"metadata.absent": ["sky"]}, set()),
        ({"identifier": ["urn:ai:example.com:mcp:weather"]}, {"weather"}),
        ({"trustManifest.attestations.type": ["SOC2-Type2"]}, set()),
        ({"version": ["1.2.0"]}, {"weather"}),
    ],
)
async def test_filters_are_of_terms_and_of_health(
    some: Client, terms: dict[str, Any], found: set[str]
) -> None:
    answer = await search(some, "weather", query={"filter": terms})
    assert {each.rpartition(":")[2] for each in urns(answer)} == found


async def test_a_term_is_known_by_its_iri(some: Client) -> None:
    context = {"a": "https://agenticresourcediscovery.org/ns#", "how": "a:health"}
    own = {"x": {"@id": "https://mcp-discovery.github.io/ns#"}, "@version": 1.1}
    base = "https://agenticresourcediscovery.org/context/v1"
    bound: tuple[tuple[Any, str], ...] = (
        (context, "a:tags"),
        ([base, context], "tags"),
        (base, "tags"),
        (None, "https://agenticresourcediscovery.org/ns#tags"),
    )
    for given, key in bound:
        answer = await search(some, "weather", query={"@context": given, "filter": {key: "eu"}})
        assert urns(answer) == [WEATHER]
    answer = await search(some, "weather", query={"@context": own, "filter": {"x:health": "down"}})
    assert urns(answer) == ["urn:air:local:mcp:dead"]
    refusals: tuple[tuple[Any, str, str], ...] = (
        ({"tags": "https://example.com/other"}, "tags", "'tags' is no term"),
        (context, "how", "'how' is no term"),
        (None, "okf:taxonomy", "'okf:taxonomy' is no term"),
        (None, "tag", "did you mean 'tags'?"),
        (None, "tags.x", "'tags.x' is no term"),
        ("https://example.com/context", "tags", "write it out"),
        ({"a": 7}, "tags", "query.@context.a: is no IRI"),
        (None, "health", "health 'eu' is not known; use one of healthy"),
    )
    for given, key, says in refusals:
        query = {"text": "weather", "@context": given, "filter": {key: "eu"}}
        reply = await some("POST", f"{ARD}/search", {"query": query})
        assert says in refused(reply, 400, "INVALID_ARGUMENT"), key


async def test_a_retained_identifier_leads_to_the_entry(some: Client) -> None:
    reply = await some.raw(f"{ARD}/agents/{quote(WEATHER, safe='')}")
    assert reply.status == 200
    ENTRY.validate(reply.json)
    assert reply.json["identifier"] == WEATHER
    assert reply.json["health"] == "healthy"
    older = await some("GET", f"{ARD}/agents/urn:ai:example.com:mcp:weather")
    assert older.json == reply.json
    known = {"If-None-Match": reply.headers["ETag"]}
    again = await some("GET", f"{ARD}/agents/{WEATHER}", headers=known)
    assert (again.status, again.body) == (304, b"")
    for name, health in (("dead", "down"), ("storm", "degraded")):
        one = await some("GET", f"{ARD}/agents/urn:air:local:mcp:{name}")
        assert one.json["health"] == health
    for each in urns(await listed(some)):
        ENTRY.validate((await some("GET", f"{ARD}/agents/{each}")).json)
    for absent in (
        "urn:air:example.com:mcp:absent",
        "urn:air:example.com:mcp:Weather",
        "urn:air:example.com:tool:weather",
        "urn:air:local:mcp:guide",
        "urn:air:ard-conformance.invalid:probe:not-found",
    ):
        reply = await some("GET", f"{ARD}/agents/{absent}")
        assert absent in refused(reply, 404, "NOT_FOUND")
        assert reply.headers["Cache-Control"] == "no-cache"
    for bad in ("weather", "urn:air:example.com", "urn:isbn:1:2", "%zz", "urn%253Aair%253Aa%253Ab"):
        refused(await some.raw(f"{ARD}/agents/{bad}"), 400, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {"weather", "wind", "files", "guide", "mcp:facade", "registry:facade"}),
        (f"type = '{CARD}'", {"weather", "wind", "files", "mcp:facade"}),
        (f"type = '{CARD}', application/ai-registry+json AND publisherId=example.com", {"weather"}),
        ('displayName : "EATH"', {"weather"}),
        ("tags = eu,sky and version = 1.2.0", {"weather"}),
        ("health = down, degraded", {"dead", "storm"}),
        ("createdAfter > 2026-01-01 AND publisher = local", {"wind", "files", "guide"}),
        ("updatedAfter >= '2999-01-01T00:00:00Z'", set()),
        ("metadata.team = sky", {"weather"}),
    ],
)
async def test_a_list_with_a_filter_expression(some: Client, text: str, found: set[str]) -> None:
    answer = await listed(some, **({"filter": text} if text else {}))
    assert {_last(each) for each in urns(answer)} == found
    assert answer["total"] == len(found)


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"filter": "type MCP"}, "filter: 'type MCP' is no condition; write type = 'application/"),
        ({"filter": "type = a AND"}, "is no condition"),
        ({"filter": "type > a"}, "> is for createdAfter and updatedAfter"),
        ({"filter": "colour = red"}, "'colour' is no term"),
        ({"filter": "createdAfter > soon"}, "'soon' is no moment"),
        ({"orderBy": "size"}, "orderBy: 'size' is no order"),
        ({"orderBy": "name UP"}, "orderBy: 'name UP' is no order"),
        ({"pageSize": "0"}, "pageSize: '0' is no whole number from 1 to 100"),
        ({"pageSize": "ten"}, "is no whole number"),
        ({"pageToken": "x"}, "pageToken: is not one of this query"),
        ({"pagesize": "5"}, "did you mean 'pageSize'?"),
    ],
)
async def test_a_list_refuses_in_one_sentence(ask: Client, query: Any, says: str) -> None:
    reply = await ask("GET", f"{ARD}/agents?{urlencode(query)}")
    assert says in refused(reply, 400, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"{", 400, "is not JSON"),
        (b"[]", 400, "send one JSON object"),
        ({}, 400, "query: is missing"),
        ({"query": {}}, 400, "query.text: is missing"),
        ({"query": {"text": ""}}, 400, "query.text"),
        ({"query": {"text": 7}}, 400, "query.text: is not text"),
        ({"query": {"text": "a", "limit": 7}}, 400, "query.limit: is not known"),
        ({"query": {"text": "a"}, "pagesize": 5}, 400, "did you mean 'pageSize'?"),
        ({"query": {"text": "a"}, "pageSize": 0}, 400, "pageSize: has to be 1 or more"),
        ({"query": {"text": "a"}, "pageSize": "5"}, 400, "pageSize: is not a whole number"),
        ({"query": {"text": "a"}, "federation": "all"}, 400, "federation"),
        ({"query": {"text": "a"}, "pageToken": "x"}, 400, "pageToken: is not one of this query"),
        ({"query": {"text": "a", "filter": {"tags": [["b"]]}}}, 400, "query.filter.tags.0"),
        (b'{"query": {"text": "%b"}}' % (b"a" * 2**20), 413, "over the limit of 65,536 bytes"),
    ],
)
async def test_a_search_refuses_in_one_sentence(
    ask: Client, body: Any, status: int, says: str
) -> None:
    reply = await ask("POST", f"{ARD}/search", body)
    assert says in refused(reply, status, "INVALID_ARGUMENT")


@pytest.mark.parametrize("text", ["a:" * 2000 + "'", "a:" * 2000, "tags = " + "a," * 2000 + "'"])
def test_a_long_filter_expression_is_read_in_no_time(text: str) -> None:
    begun = time.thread_time()
    with pytest.raises(ProblemError, match=r"no (condition|term)"):
        read_expression(text)
    assert time.thread_time() - begun < 0.02


async def test_a_context_of_any_depth_is_none_of_the_query(some: Client) -> None:
    deep = b'{"query": {"text": "weather", "@context": {"@version": %b%b}}, "pageSize": 1}'
    for depth in (1, 300, 1000):
        body = deep % (b"[" * depth, b"]" * depth)
        reply = await some("POST", f"{ARD}/search", body)
        assert (reply.status, urns(reply.json)) == (200, [WEATHER])
    again = {"query": {"text": "weather"}, "pageToken": reply.json["pageToken"]}
    second = (await some("POST", f"{ARD}/search", again)).json
    assert urns(second)[0] == "urn:air:local:mcp:wind"


async def test_pages_stay_right_while_the_list_changes(ask: Client) -> None:
    names = [f"server-{number:02}" for number in range(12)]
    await fill(ask, *(leased(each, name=each, description="Tells the time") for each in names))
    body: dict[str, Any] = {"query": {"text": "time"}, "pageSize": 5}
    found: list[str] = []
    for page in range(9):
        answer = (await ask("POST", f"{ARD}/search", body)).json
        found += urns(answer)
        if page == 0:
            await ask("DELETE", f"/servers/{found[0].rpartition(':')[2]}")
            await fill(ask, leased("another", name="another", description="Other things"))
        if "pageToken" not in answer:
            break
        body["pageToken"] = answer["pageToken"]
    assert sorted(found) == [f"urn:air:local:mcp:{each}" for each in names]
    other = {**body, "query": {"text": "other"}}
    refused(await ask("POST", f"{ARD}/search", other), 400, "INVALID_ARGUMENT")

    for order in ("identifier", "name DESC", "type, createdAt DESC, updated_at"):
        seen: list[str] = []
        query = {"pageSize": 4, "orderBy": order, "filter": "publisher = local"}
        while True:
            answer = await listed(ask, **query)
            seen += urns(answer)
            if "pageToken" not in answer:
                break
            query["pageToken"] = answer["pageToken"]
        every = urns(await listed(ask, pageSize=1000, orderBy=order, filter="publisher = local"))
        assert seen == every
        assert len(seen) == 12
    assert len(urns(await search(ask, "time", pageSize=1000))) == 11


async def test_a_list_is_revalidated(some: Client) -> None:
    first = await some("GET", f"{ARD}/agents")
    known = {"If-None-Match": first.headers["ETag"]}
    assert (await some("GET", f"{ARD}/agents", headers=known)).status == 304
    await some("DELETE", "/servers/f-1")
    assert (await some("GET", f"{ARD}/agents", headers=known)).status == 200


async def test_facets_count_what_a_search_would_find(some: Client) -> None:
    assert await explored(some, {"field": "type"}, {"field": "publisher"}, {"field": "health"}) == {
        "type": {
            CARD: 4,
            "application/a2a-agent-card+json": 1,
            "application/ai-registry+json": 1,
        },
        "publisher": {"local": 3, "mcp-discovery.github.io": 2, "example.com": 1},
        "health": {"healthy": 6},
    }
    of_all = await explored(some, {"field": "health"}, filter={"health": "all"})
    assert of_all == {"health": {"healthy": 6, "degraded": 1, "down": 1}}
    tags = await explored(some, {"field": "tags"}, text="weather")
    assert tags == {"tags": {"sky": 2, "eu": 1}}
    assert await explored(some, {"field": "tags", "minCount": 2}) == {"tags": {"sky": 2}}
    facets = {"resultType": {"facets": [{"field": "capabilities", "limit": 1}]}}
    answer = (await some("POST", f"{ARD}/explore", facets)).json["facets"]["capabilities"]
    assert answer == {"buckets": [{"value": "find_servers", "count": 1}], "otherCount": 3}
    for body, says in (
        ({}, "resultType: is missing"),
        ({"resultType": {"facets": []}}, "resultType.facets"),
        ({"resultType": {"facets": [{"field": "colour"}]}}, "'colour' is no term"),
    ):
        reply = await some("POST", f"{ARD}/explore", body)
        assert says in refused(reply, 400, "INVALID_ARGUMENT")


async def test_other_errors_have_the_form_too(ask: Client) -> None:
    refused(await ask("GET", f"{ARD}/nothing"), 404, "NOT_FOUND")
    refused(await ask("GET", f"{ARD}/search"), 405, "INVALID_ARGUMENT")
    form = {"Content-Type": "text/plain"}
    refused(await ask("POST", f"{ARD}/search", b"{}", headers=form), 415, "INVALID_ARGUMENT")
    elsewhere = await ask("GET", "/servers/absent")
    assert elsewhere.headers["Content-Type"] == "application/problem+json"


async def test_both_ways_to_append_a_route(some: Client) -> None:
    body = {"query": {"text": "weather"}}
    reply = await some("POST", f"{ARD}//search", body)
    assert (reply.status, urns(reply.json)[0]) == (200, WEATHER)
    refused(await some("POST", f"{ARD}//search", {}), 400, "INVALID_ARGUMENT")


async def test_pages_of_other_origins_search_where_the_registry_is_open_to_them() -> None:
    origin = {"Origin": "https://portal.example"}
    preflight = {
        **origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    for is_open in (False, True):
        async with served(registry_cors=is_open) as ask:
            await fill(ask, leased("w-1", name="weather"))
            asked = await ask("OPTIONS", f"{ARD}/search", headers=preflight)
            got = await ask("POST", f"{ARD}/search", {"query": {"text": "a"}}, headers=origin)
            other = await ask("POST", "/servers", leased("a"), headers=origin)
            assert (asked.status, got.status, other.status) == (204, 200 if is_open else 403, 403)
            if not is_open:
                refused(got, 403, "PERMISSION_DENIED")
            for reply in (asked, got):
                allowed = reply.headers.get("Access-Control-Allow-Origin")
                assert allowed == ("*" if is_open else None)
            if is_open:
                assert "POST" in asked.headers["Access-Control-Allow-Methods"]
                assert "Content-Type" in asked.headers["Access-Control-Allow-Headers"]


async def test_no_entry_has_a_member_that_openapi_does_not(some: Client) -> None:
    schemas = orjson.loads((await some("GET", "/openapi.json")).body)["components"]["schemas"]
    entry = (await some("GET", f"{ARD}/agents/{WEATHER}")).json
    assert entry.keys() <= schemas["ArdEntry"]["properties"].keys()
    result = (await search(some, "weather"))["results"][0]
    assert result.keys() <= schemas["ArdResult"]["properties"].keys()


async def test_the_order_is_that_of_every_search(some: Client) -> None:
    await fill(
        some,
        leased("r-1", name="rivers", exampleQueries=["how is the weather upstream", "is it high"]),
        leased("w-3", name="wind", description="Weather at sea, and the weather of it"),
    )
    for text in ("weather at sea", "forecast for cities", "how is the weather", "upstream"):
        reply = await some("GET", f"/servers?q={quote(text)}&kind=all")
        names = list(dict.fromkeys(each["name"] for each in reply.json["servers"]))
        assert [each.rpartition(":")[2] for each in urns(await search(some, text))] == names
    assert urns(await search(some, "upstream")) == ["urn:air:local:mcp:rivers"]


async def test_who_may_not_read_finds_nothing(tmp_path: Path) -> None:
    async with guarded(tmp_path) as ask:
        posted = await ask("POST", "/servers", leased("w-1"), headers=bearer("registrar"))
        assert posted.status == 201
        body = {"query": {"text": "products"}}
        refused(await ask("POST", f"{ARD}/search", body), 401, "UNAUTHENTICATED")
        refused(await ask("GET", f"{ARD}/agents"), 401, "UNAUTHENTICATED")
        assert (await ask("GET", "/.well-known/ard.json")).status == 401
        assert (await ask("GET", "/robots.txt")).status == 200
        found = await ask("POST", f"{ARD}/search", body, headers=bearer("reader"))
        assert urns(found.json) == ["urn:air:local:mcp:products"]
        # The fixture's other roles see some tools of any server, and this one offers none.
        others = await ask("GET", f"{ARD}/agents?filter=publisher=local", headers=bearer("manager"))
        assert urns(others.json) == []
        manifest = await ask("GET", "/.well-known/ard.json", headers=bearer("reader"))
        assert manifest.headers["Cache-Control"].startswith("private")

"""The MCP registry API over a real socket."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.facade.registry.api import PagePlace, decode_cursor, encode_cursor
from mcp_discovery.facade.registry.entries import LIVE, OFFICIAL
from mcp_discovery.health import utcnow
from tests.facade.harness import Client, Reply, leased, served
from tests.facade.registry.fleet import SERVER_JSON
from tests.seeds import seeded
from tests.stores.waiting import until

URL_SAFE = re.compile(r"[A-Za-z0-9._~-]+")


def posted(name: str, version: str = "1.0.0", **more: Any) -> dict[str, Any]:
    """The body of a POST of one instance of a server."""
    id = f"{name}-{version}".replace(".", "-")
    return leased(id, name=name, registryName=f"com.example/{name}", version=version, **more)


_MOMENT = {"type": "string", "format": "date-time"}
#: ``ServerResponse`` in the registry's OpenAPI document as it is in 2026; what is required is ours.
OFFICIAL_META = Draft202012Validator(
    {
        "type": "object",
        "properties": {
            "status": {"enum": ["active", "deprecated", "deleted"]},
            "statusMessage": {"type": "string", "minLength": 1, "maxLength": 500},
            "statusChangedAt": _MOMENT,
            "publishedAt": _MOMENT,
            "updatedAt": _MOMENT,
            "isLatest": {"type": "boolean"},
        },
        "required": ["status", "statusChangedAt", "publishedAt", "updatedAt", "isLatest"],
        "additionalProperties": False,
    }
)


async def fill(ask: Client, *bodies: dict[str, Any]) -> None:
    for body in bodies:
        reply = await ask("POST", "/servers", body)
        assert reply.status == 201, reply.body


def keys(reply: Reply) -> list[str]:
    """``name@version`` of each entry, once the page is as it has to be."""
    assert reply.status == 200, reply.body
    assert reply.headers["Content-Type"] == "application/json"
    found = []
    for each in reply.json["servers"]:
        SERVER_JSON.validate(each["server"])
        official = each["_meta"][OFFICIAL]
        OFFICIAL_META.validate(official)
        assert (LIVE in each["_meta"]) == (official["status"] == "active")
        found.append(f"{each['server']['name'].partition('/')[2]}@{each['server']['version']}")
    assert reply.json["metadata"]["count"] == len(found)
    return found


async def walk(ask: Client, first: str, then: str = "") -> list[str]:
    """All pages of a question; ``then`` is asked from the second page on."""
    found: list[str] = []
    query = first
    while True:
        reply = await ask.raw(f"/v0.1/servers?{query}")
        found += keys(reply)
        cursor = reply.json["metadata"].get("nextCursor")
        if cursor is None:
            return found
        assert URL_SAFE.fullmatch(cursor)
        query = f"cursor={cursor}&{then}"


@pytest.fixture
async def some(ask: Client) -> Client:
    """A facade with five entries of three servers."""
    await fill(
        ask,
        posted("weather", "1.2.0", tags=["eu"]),
        posted("weather", "1.10.0"),
        posted("files", "0.1.0", url=None, command="npx"),
        posted("wind", "2.0.0"),
        posted("wind", "2.0.0-rc.1"),
    )

    async def listed() -> bool:
        return len(keys(await ask("GET", "/v0.1/servers"))) == 5

    await until(listed, timeout=5, what="the five entries")
    return ask


# -- lists ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", "files@0.1.0 weather@1.10.0 weather@1.2.0 wind@2.0.0 wind@2.0.0-rc.1"),
        ("version=latest", "files@0.1.0 weather@1.10.0 wind@2.0.0"),
        ("version=1.2.0", "weather@1.2.0"),
        ("version=9.9.9", ""),
        ("search=WEA", "weather@1.10.0 weather@1.2.0"),
        ("search=com.example%2Fw&version=latest", "weather@1.10.0 wind@2.0.0"),
        ("search=eu", "weather@1.2.0"),  # its tag
        ("search=nothing", ""),
        ("search=", "files@0.1.0 weather@1.10.0 weather@1.2.0 wind@2.0.0 wind@2.0.0-rc.1"),
        ("include_deleted=TRUE&search=files", "files@0.1.0"),
        ("updated_since=2020-01-01T00:00:00%2B02:00&search=files", "files@0.1.0"),
        ("updated_since=2020-01-01T00:00:00+02:00&search=files", "files@0.1.0"),
        ("updated_since=2020-01-01t00:00:00.123456789z&search=files", "files@0.1.0"),
        ("updated_since=2999-01-01T00:00:00Z", ""),
        ("search=files&sort=stars&utm_source=vscode&limit=100", "files@0.1.0"),
    ],
)
async def test_filters(some: Client, query: str, found: str) -> None:
    assert keys(await some.raw(f"/v0.1/servers?{query}")) == found.split()


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("limit=0", "from 1 to 100"),
        ("limit=101", "from 1 to 100"),
        ("limit=ten", "from 1 to 100"),
        ("limit=-1", "from 1 to 100"),
        ("limit=1&limit=2", "give limit once"),
        ("cursor=x", "nextCursor"),
        ("cursor=%C3%A9", "nextCursor"),
        ("cursor=e30", "nextCursor"),
        ("cursor=WzEsMl0", "nextCursor"),
        ("cursor=WyJhIiwiYiIsbnVsbCxudWxsLCJ4IixudWxsXQ", "nextCursor"),
        ("updated_since=yesterday", "RFC 3339"),
        ("updated_since=2026-01-01", "RFC 3339"),
        ("updated_since=2026-01-01T00:00:00", "RFC 3339"),
        ("include_deleted=perhaps", "neither true nor false"),
        ("search=%00", "control characters"),
    ],
)
async def test_what_cannot_be_meant_is_an_error_in_the_registrys_shape(
    some: Client, query: str, says: str
) -> None:
    reply = await some.raw(f"/v0.1/servers?{query}")
    assert reply.status == 400
    assert reply.headers["Content-Type"] == "application/json"
    assert list(reply.json) == ["error"]
    assert says in reply.json["error"]


async def test_a_page_has_thirty_entries_unless_told_otherwise(ask: Client) -> None:
    await fill(ask, *(posted(f"s{n:02d}") for n in range(31)))
    assert len(keys(await ask("GET", "/v0.1/servers"))) == 30
    assert len(keys(await ask("GET", "/v0.1/servers?limit=100"))) == 31


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
async def test_pages_carry_their_question(some: Client, limit: int) -> None:
    everything = keys(await some("GET", "/v0.1/servers"))
    assert await walk(some, f"limit={limit}", f"limit={limit}") == everything
    latest = await walk(some, f"limit={limit}&search=W&version=latest", f"limit={limit}")
    assert latest == ["weather@1.10.0", "wind@2.0.0"]
    await some("DELETE", "/servers/weather-1-10-0")
    since = "2020-01-01T00:00:00Z"
    found = await walk(some, f"limit={limit}&updated_since={since}&search=wea", f"limit={limit}")
    assert found == ["weather@1.10.0", "weather@1.2.0"]


@pytest.mark.parametrize("limit", [1, 2, 3, 10])
async def test_names_come_before_what_is_described(ask: Client, limit: int) -> None:
    await fill(
        ask,
        posted("storm-weather", description="Alerts"),
        posted("weather", description="Tells the weather."),
        posted("almanac", description="The weather of a hundred years, and much else beside it."),
        posted("sky", description="Weather"),
        posted("files", description="Files"),
        posted("gone", description="Weather", health={"status": "down"}),
    )
    found = await walk(ask, f"limit={limit}&search=weather", f"limit={limit}")
    names = [each.partition("@")[0] for each in found]
    assert names == ["storm-weather", "weather", "sky", "almanac", "gone"]


async def test_who_stays_is_on_exactly_one_page(ask: Client) -> None:
    """Others come and go between any two pages, before and behind the cursor."""
    chance = seeded(3)
    stay = [f"s{n:02d}" for n in range(0, 40, 2)]
    await fill(ask, *(posted(name) for name in stay))
    there: set[str] = set()
    found: list[str] = []
    query = "limit=3"
    while True:
        for name in chance.sample([f"s{n:02d}" for n in range(1, 40, 2)], 5):
            if name in there:
                there.discard(name)
                assert (await ask("DELETE", f"/servers/{name}-1-0-0")).status == 204
            else:
                there.add(name)
                await fill(ask, posted(name))
        reply = await ask("GET", f"/v0.1/servers?{query}")
        found += keys(reply)
        if (cursor := reply.json["metadata"].get("nextCursor")) is None:
            break
        query = f"limit=3&cursor={cursor}"
    assert found == sorted(set(found))
    assert {f"{name}@1.0.0" for name in stay} <= set(found)


async def test_what_is_asked_anew_counts_before_what_the_cursor_says(some: Client) -> None:
    first = await some("GET", "/v0.1/servers?limit=1&search=w")
    cursor = first.json["metadata"]["nextCursor"]
    other = await some("GET", f"/v0.1/servers?cursor={cursor}&search=wind&version=latest")
    assert keys(other) == ["wind@2.0.0"]


async def test_a_cursor_may_name_what_is_gone(some: Client) -> None:
    after, wanted = decode_cursor(
        (await some("GET", "/v0.1/servers?limit=1")).json["metadata"]["nextCursor"]
    )
    assert after == PagePlace(("com.example/files", "0.1.0"))
    cursor = encode_cursor(PagePlace(("com.example/weather", "1.11")), wanted)
    found = keys(await some("GET", f"/v0.1/servers?cursor={cursor}"))
    assert found == ["weather@1.2.0", "wind@2.0.0", "wind@2.0.0-rc.1"]


# -- one server -------------------------------------------------------------------------------


@pytest.mark.parametrize("slash", ["%2F", "%2f", "/"])
async def test_one_server(some: Client, slash: str) -> None:
    """The last is what a proxy makes of the first on its way."""
    path = f"/v0.1/servers/com.example{slash}weather/versions"
    assert keys(await some.raw(path)) == ["weather@1.10.0", "weather@1.2.0"]
    for version, found in (("latest", "1.10.0"), ("1.2.0", "1.2.0")):
        reply = await some.raw(f"{path}/{version}")
        assert reply.status == 200
        assert reply.json["server"]["version"] == found
        SERVER_JSON.validate(reply.json["server"])
    for missing in (f"{path}/3.0.0", path.replace("weather", "nothing"), f"{path}x/latest"):
        reply = await some.raw(missing)
        assert reply.status == 404
        assert list(reply.json) == ["error"]


async def test_a_version_with_a_build(ask: Client) -> None:
    await fill(ask, posted("weather", "1.0.0+20130313144700") | {"id": "w"})
    for version in ("1.0.0%2B20130313144700", "1.0.0+20130313144700", "latest"):
        reply = await ask.raw(f"/v0.1/servers/com.example%2Fweather/versions/{version}")
        assert reply.json["server"]["version"] == "1.0.0+20130313144700"


async def test_what_is_not_there_is_an_error_in_the_registrys_shape(ask: Client) -> None:
    for method, path, status in (
        ("GET", "/v0.1/nothing", 404),
        ("GET", "/v0.1/servers/a%2Fb", 404),
        ("POST", "/v0.1/publish", 404),
        ("POST", "/v0.1/servers", 405),
        ("DELETE", "/v0.1/servers/a%2Fb/versions/1.0.0", 405),
    ):
        reply = await ask(method, path)
        assert (reply.status, list(reply.json)) == (status, ["error"]), path
        assert reply.headers["Content-Type"] == "application/json"
        assert ("Allow" in reply.headers) == (status == 405)
    assert (await ask("GET", "/nothing")).headers["Content-Type"] == "application/problem+json"


# -- what is gone -----------------------------------------------------------------------------


async def test_what_is_gone_is_told_to_those_who_ask_since_when(some: Client) -> None:
    before = quote(utcnow().isoformat())
    assert (await some("DELETE", "/servers/weather-1-10-0")).status == 204
    assert "weather@1.10.0" not in keys(await some("GET", "/v0.1/servers"))
    assert "weather@1.10.0" in keys(await some("GET", "/v0.1/servers?include_deleted=true"))
    reply = await some("GET", f"/v0.1/servers?updated_since={before}&include_deleted=false")
    assert keys(reply) == ["weather@1.10.0"]
    (gone,) = reply.json["servers"]
    official = gone["_meta"][OFFICIAL]
    assert official["status"] == "deleted"
    assert official["statusMessage"] == "no instance of it is registered any more"
    assert official["statusChangedAt"] == official["updatedAt"]
    assert official["publishedAt"] < official["updatedAt"]

    path = "/v0.1/servers/com.example%2Fweather/versions"
    assert (await some.raw(f"{path}/latest")).json["server"]["version"] == "1.2.0"
    assert (await some.raw(f"{path}/1.10.0")).status == 404
    again = await some.raw(f"{path}/1.10.0?include_deleted=true")
    assert again.json == gone
    assert len(keys(await some.raw(path))) == 1
    assert len(keys(await some.raw(f"{path}?include_deleted=true"))) == 2

    await some("DELETE", "/servers/weather-1-2-0")
    assert (await some.raw(path)).status == 404
    assert (await some.raw(f"{path}/latest")).status == 404
    latest = await some.raw(f"{path}/latest?include_deleted=true")
    assert latest.json["server"]["version"] == "1.10.0"


# -- entity tags, and a store that is away ----------------------------------------------------


async def test_what_is_there_already_is_not_sent_again(some: Client) -> None:
    for path in (
        "/v0.1/servers?limit=2",
        "/v0.1/servers/com.example%2Fweather/versions",
        "/v0.1/servers/com.example%2Fweather/versions/latest",
        "/.well-known/ai-catalog.json",
        "/servers/weather/server-card",
    ):
        first = await some.raw(path)
        tag = {"If-None-Match": first.headers["ETag"]}

        async def again(path: str = path, tag: dict[str, str] = tag) -> Reply:
            return await some("GET", path, headers=tag)

        assert (await again()).status == 304, path
    changed = posted("weather", "1.10.0") | {"title": "Another"}
    assert (await some("PUT", "/servers/weather-1-10-0", changed)).status == 200
    assert (await again()).status == 200


@pytest.fixture
async def away() -> AsyncIterator[Client]:
    """A facade whose store has gone away."""
    store = EmbeddedStore()
    async with served(store) as ask:
        await fill(ask, posted("weather"))
        await store.close()

        async def stale() -> bool:
            return "staleSince" in (await ask("GET", "/servers")).json

        await until(stale, timeout=5, what="the list being stale")
        yield ask


async def test_a_stale_list_is_told_and_says_so(away: Client) -> None:
    reply = await away("GET", "/v0.1/servers")
    assert keys(reply) == ["weather@1.0.0"]
    assert reply.json["metadata"]["staleSince"].endswith("Z")


async def test_nothing_is_told_before_there_is_a_list() -> None:
    import aiohttp

    from mcp_discovery.adapters import open_store
    from mcp_discovery.facade import create_app, serving

    async with (
        open_store("http://127.0.0.1:1") as absent,
        serving(create_app(absent), "127.0.0.1", 0) as url,
        aiohttp.ClientSession() as session,
    ):
        ask = Client(url, session)
        for path in ("/v0.1/servers", "/v0.1/servers/a%2Fb/versions/latest"):
            reply = await ask.raw(path)
            assert (reply.status, list(reply.json)) == (503, ["error"])
            assert int(reply.headers["Retry-After"]) >= 1
        assert (await ask("GET", "/.well-known/ai-catalog.json")).status == 503


async def test_facades_over_one_store_tell_the_same() -> None:
    async with EmbeddedStore() as store, served(store) as one, served(store) as other:
        await fill(one, posted("weather", tags=["a"]), posted("wind"))

        async def both() -> bool:
            answers = [(await ask("GET", "/v0.1/servers")).json for ask in (one, other)]
            for each in answers:
                for entry in each["servers"]:
                    entry["_meta"][LIVE].pop("lastSeen")
            return bool(answers[0] == answers[1] and answers[0]["metadata"]["count"] == 2)

        await until(both, timeout=5, what="both facades telling the same")

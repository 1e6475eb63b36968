"""Hosts as they ask: VS Code's gallery, and GitHub Copilot in a browser."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from tests.facade.harness import Client, leased, served
from tests.facade.registry.test_api import fill, posted


def parsed(page: Any) -> list[dict[str, Any]]:
    """A page as VS Code reads it: the first entry that is not whole rejects all of it."""
    assert isinstance(page["servers"], list)
    found: list[dict[str, Any]] = []
    for each in page["servers"]:
        server = each["server"]
        whole = all(
            isinstance(server.get(name), str) and server[name]
            for name in ("name", "description", "version")
        )
        if not whole:
            assert found, "the page is rejected"
            continue
        official = each["_meta"]["io.modelcontextprotocol.registry/official"]
        found.append(server | {"status": official["status"], "isLatest": official["isLatest"]})
    return found


class VsCode:
    """VS Code's gallery against one registry: mcpGalleryService.ts, ``queryRawGalleryMcpServers``.

    It appends a cursor as it is, and drops the search with it.
    """

    def __init__(self, ask: Client) -> None:
        self._ask = ask

    async def probe(self) -> bool:
        reply = await self._ask.raw("/v0.1/servers?limit=1")
        return reply.status == 200

    async def query(self, text: str = "") -> list[dict[str, Any]]:
        found = []
        cursor, search = "", text.strip()
        while True:
            url = "/v0.1/servers?limit=50&version=latest"
            url += f"&cursor={cursor}" if cursor else ""
            url += f"&search={quote(search, safe='')}" if search else ""
            reply = await self._ask.raw(url)
            assert reply.status == 200, reply.body
            found += parsed(reply.json)
            cursor, search = reply.json["metadata"].get("nextCursor", ""), ""
            if not cursor:
                return found

    async def look_up(self, name: str) -> dict[str, Any] | None:
        reply = await self._ask.raw(f"/v0.1/servers/{quote(name, safe='')}/versions/latest")
        if 400 <= reply.status < 500:
            return None
        return parsed({"servers": [reply.json]})[0]


async def test_vs_code_fills_its_gallery_and_installs_from_it(ask: Client) -> None:
    code = VsCode(ask)
    assert await code.probe()
    assert await code.query() == []

    await fill(ask, *(posted(f"tool-{n:03d}", description="") for n in range(120)))
    await fill(ask, posted("weather", "1.0.0"), posted("weather", "1.1.0", title="Weather"))
    everything = await code.query()
    assert len(everything) == 121
    assert [each["name"] for each in everything] == sorted(each["name"] for each in everything)
    assert all(each["isLatest"] and each["status"] == "active" for each in everything)

    found = await code.query(" TOOL-0 ")
    names = [each["name"] for each in found]
    assert names[:100] == [f"com.example/tool-{n:03d}" for n in range(100)]
    assert len(names) == 120, "page 2 is still a search, though VS Code does not say so"

    (weather,) = await code.query("weather")
    looked_up = await code.look_up(weather["name"])
    assert looked_up == weather
    assert looked_up["title"] == "Weather"
    assert looked_up["version"] == "1.1.0"
    assert looked_up["remotes"] == [
        {"type": "streamable-http", "url": "http://127.0.0.1:9/weather-1-1-0"}
    ]
    assert await code.look_up("com.example/absent") is None


async def test_a_server_that_is_down_for_a_moment_stays_in_the_gallery(ask: Client) -> None:
    await fill(ask, leased("a", name="weather", health={"status": "down", "reason": "refused"}))
    code = VsCode(ask)
    (one,) = await code.query()
    assert (one["name"], one["status"]) == ("local/weather", "active")
    assert await code.look_up("local/weather") == one


async def test_copilot_asks_from_a_page_of_another_origin() -> None:
    origin = "https://github.com"
    for allowed in ((), ("*",), ("https://console.example.com",)):
        async with served(cors_origins=allowed, registry_cors=True) as ask:
            await fill(ask, posted("weather"))
            paths = [
                "/v0.1/servers",
                "/v0.1/servers/com.example%2Fweather/versions/latest",
                "/v0.1/servers/com.example%2Fweather/versions/1.0.0",
                "/v0.1/servers/com.example%2Fabsent/versions/latest",
                "/.well-known/ai-catalog.json",
                "/servers/weather/server-card",
                "/mcp/server-card",
            ]
            for path in paths:
                preflight = {
                    "Origin": origin,
                    "Access-Control-Request-Method": "GET",
                    "Access-Control-Request-Headers": "authorization",
                }
                asked = await ask("OPTIONS", path, headers=preflight)
                assert asked.status == 204
                got = await ask(
                    "GET", path, headers={"Origin": origin, "Authorization": "Bearer x"}
                )
                assert got.status == (404 if "absent" in path else 200)
                for reply in (asked, got):
                    assert reply.headers["Access-Control-Allow-Origin"] == "*"
                    assert reply.headers["Access-Control-Allow-Methods"] == "GET, OPTIONS"
                    assert (
                        reply.headers["Access-Control-Allow-Headers"]
                        == "Authorization, Content-Type, If-None-Match"
                    )
            other = await ask("GET", "/servers", headers={"Origin": origin})
            assert other.headers.get("Access-Control-Allow-Origin") == (
                "*" if "*" in allowed else None
            )

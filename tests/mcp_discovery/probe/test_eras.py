"""The probe against servers of both eras, made with the SDK and by hand, on every transport."""

from __future__ import annotations

import pytest

from mcp_discovery.probe import BadAnswerError, McpProbe, UnreachableError
from tests.mcp_discovery.probe.conftest import MakeProbe
from tests.servers.process import example, odd, sdk

SDK_WAYS = {
    "modern": ("modern", ()),
    "modern-json": ("modern", ("--json",)),
    "modern-stateless": ("modern", ("--stateless",)),
    "legacy-stateful-sse": ("legacy", ("--era", "legacy")),
    "legacy-stateful-json": ("legacy", ("--era", "legacy", "--json")),
    "legacy-stateless-sse": ("legacy", ("--era", "legacy", "--stateless")),
    "legacy-stateless-json": ("legacy", ("--era", "legacy", "--stateless", "--json")),
}


@pytest.mark.parametrize("way", SDK_WAYS)
async def test_sdk_server(way: str, probe_of: MakeProbe) -> None:
    era, options = SDK_WAYS[way]
    async with sdk(*options, "--tools", "5") as server:
        probe = probe_of(server.url)
        await probe.connect(5)
        assert probe.era == era
        assert 0 < await probe.ping(5) < 5
        found = await probe.introspect(5)
        assert found.era == era
        assert found.versions == (("2026-07-28",) if era == "modern" else ("2025-11-25",))
        assert found.server_info == {"name": "sdk-server", "version": "1.2.3"}
        assert found.instructions == "Add things."
        assert [tool["name"] for tool in found.tools] == [f"add_{n}" for n in range(5)]
        assert found.tools[0]["inputSchema"]["required"] == ["a", "b"]
        assert [resource["uri"] for resource in found.resources] == ["things://all"]
        assert [t["uriTemplate"] for t in found.resource_templates] == ["things://{number}"]
        assert [prompt["name"] for prompt in found.prompts] == ["explain"]
        assert found.findings == ()
        assert await probe.introspect(5) is found
        await server.offer_tools(6, notify=False)
        assert len((await probe.introspect(5)).tools) == 6


@pytest.mark.parametrize("transport", ["sse", "websocket"])
async def test_odd_server_on_one_connection(transport: str, probe_of: MakeProbe) -> None:
    async with odd("--tools", "120") as server:
        probe = probe_of(server.base_url, transport=transport)
        await probe.connect(5)
        assert (probe.era, probe.url[len(server.base_url) :]) == (
            "legacy",
            {"sse": "/sse", "websocket": "/ws"}[transport],
        )
        assert await probe.ping(5) < 5
        found = await probe.introspect(5)
        assert len(found.tools) == 120
        assert await probe.introspect(5) is found
        await server.restart()
        assert await probe.ping(5) < 5
        assert len((await probe.introspect(5)).tools) == 3


async def test_sdk_server_on_the_old_sse_transport(probe_of: MakeProbe) -> None:
    async with sdk("--transport", "sse", path="/sse") as server:
        probe = probe_of(server.url, transport="sse")
        assert await probe.ping(5) < 5
        assert len((await probe.introspect(5)).tools) == 3


@pytest.mark.parametrize("era", ["modern", "legacy"])
@pytest.mark.parametrize("count", [0, 1, 40, 400])
async def test_all_pages_in_the_servers_order(era: str, count: int, probe_of: MakeProbe) -> None:
    async with odd("--era", era, "--tools", str(count), "--page", "7") as server:
        found = await probe_of(server.url).introspect(10)
        assert [tool["name"] for tool in found.tools] == [f"tool-{n}" for n in range(count)]


async def test_bare_url_finds_the_usual_path(probe_of: MakeProbe) -> None:
    async with odd() as server:
        probe = probe_of(server.base_url)
        await probe.connect(5)
        assert probe.url == server.url


async def test_redirect_to_the_slash_is_followed_and_elsewhere_it_is_not(
    probe_of: MakeProbe,
) -> None:
    async with odd("--redirect", "/mcp/") as server:
        probe = probe_of(server.url)
        await probe.connect(5)
        assert probe.url == server.url + "/"
        await server.control(redirect="http://127.0.0.2:9/mcp")
        with pytest.raises(BadAnswerError, match="another origin"):
            await probe_of(server.url).connect(5)


@pytest.mark.parametrize("options", [("--stateful",), ("--no-stateful",), ("--body", "sse")])
async def test_legacy_server_is_restarted(options: tuple[str, ...], probe_of: MakeProbe) -> None:
    async with odd("--era", "legacy", *options) as server:
        probe = probe_of(server.url)
        await probe.ping(5)
        await probe.introspect(5)
        await server.kill()
        with pytest.raises(UnreachableError, match=r"^connection refused$"):
            await probe.ping(5)
        await server.start(*("--era", "legacy", *options, "--tools", "9", "--version", "2.0.0"))
        assert await probe.ping(5) < 5
        found = await probe.introspect(5)
        assert (len(found.tools), found.server_info["version"]) == (9, "2.0.0")


async def test_lost_session_costs_one_handshake(probe_of: MakeProbe) -> None:
    async with odd("--era", "legacy") as server:
        probe = probe_of(server.url)
        await probe.connect(5)
        await server.control(forget=True)
        await probe.ping(5)
        told = await server.control()
        assert (told["counts"]["initialize"], told["sessions"]) == (2, 1)
        await probe.close()
        assert (await server.control())["sessions"] == 0


@pytest.mark.parametrize(("before", "after"), [("legacy", "modern"), ("modern", "legacy")])
async def test_server_of_the_other_era_takes_the_place(
    before: str, after: str, probe_of: MakeProbe
) -> None:
    async with odd("--era", before) as server:
        probe = probe_of(server.url)
        await probe.ping(5)
        await server.restart("--era", after)
        await probe.ping(5)
        assert probe.era == after
        assert (await probe.introspect(5)).era == after


@pytest.mark.parametrize("does", ["mute", "close", "500", "html", "{}"])
async def test_legacy_server_that_stumbles_over_what_it_does_not_know(
    does: str, probe_of: MakeProbe
) -> None:
    async with odd("--era", "legacy", "--unknown", does) as server:
        probe = probe_of(server.url)
        await probe.connect(2)
        assert probe.era == "legacy"
        await probe.ping(2)


async def test_slow_modern_server_is_not_mistaken_for_a_legacy_one(probe_of: MakeProbe) -> None:
    async with odd("--era", "both", "--delay", "1") as server:
        probe = probe_of(server.url)
        await probe.connect(1.8)
        assert probe.era == "modern"


async def test_legacy_server_without_ping(probe_of: MakeProbe) -> None:
    async with odd("--era", "legacy", "--no-ping") as server:
        probe = probe_of(server.url)
        for _ in range(4):
            await probe.ping(5)
        told = await server.control()
        assert (told["counts"]["initialize"], told["sessions"]) == (2, 1)


@pytest.mark.parametrize("name", ["product_catalog", "analytics"])
async def test_examples(name: str, probe_of: MakeProbe) -> None:
    async with example(name) as server:
        found = await probe_of(server.base_url).introspect(5)
        assert 3 <= len(found.tools) <= 5
        assert all(tool["description"] and tool["annotations"] for tool in found.tools)
        assert (len(found.resources), len(found.prompts), found.findings) == (1, 1, ())


@pytest.mark.parametrize(
    ("url", "transport", "sentence"),
    [
        ("http://127.0.0.1:1/mcp", "stdio", "transport 'stdio' is none of"),
        ("ftp://127.0.0.1:1/mcp", "streamable-http", "begins with http://"),
        ("/mcp", "sse", "begins with http://"),
    ],
)
def test_bad_arguments(url: str, transport: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        McpProbe(url, transport=transport, session=None)  # type: ignore[arg-type]

"""servers, tools, describe and watch over a real facade with real servers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mcp_discovery.cli.facade_connection import facade_api
from mcp_discovery.cli.hints import EMPTY, hints, tool_hints
from tests.mcp_discovery.cli.cluster import Cluster, on_terminal
from tests.programs import command, facade
from tests.stores.waiting import bounded


async def ids(here: Cluster, *arguments: str) -> list[str]:
    return [each["id"] for each in await here.asked("servers", *arguments)]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ((), ["odd-1", "talker-1", "talker-2"]),
        (("--tag", "one"), ["talker-1"]),
        (("-t", "talk", "-t", "two", "--match", "all"), ["talker-2"]),
        (("--name", "odd"), ["odd-1"]),
        (("--tool", "echo"), ["talker-1", "talker-2"]),
        (("--capability", "prompt-0"), ["odd-1"]),
        (("--version", "<1"), []),
        (("--zone", "attic"), ["odd-1"]),
        (("--owner", "nobody"), ["odd-1"]),
        (("--transport", "sse"), []),
        (("--status", "down"), []),
        (("-q", "talk"), ["talker-1", "talker-2"]),
        (("--sort", "-id"), ["talker-2", "talker-1", "odd-1"]),
    ],
    ids=lambda value: " ".join(value),
)
async def test_servers_filters(here: Cluster, filters: tuple[str, ...], found: list[str]) -> None:
    assert await ids(here, *filters) == found


async def test_a_filter_that_cannot_be_is_one_sentence(here: Cluster) -> None:
    for arguments in (("--status", "helthy"), ("--version", "newest"), ("--match", "some")):
        ended = await here.ask("servers", "-t", "x", *arguments)
        assert ended.code == 2
        assert len(ended.err.splitlines()) == 1


async def test_wide_servers(here: Cluster) -> None:
    ended = await here.ask("servers", "--wide", "--name", "odd")
    head, row = ended.out.splitlines()
    assert head.split()[7:] == [
        "KIND",
        "TRANSPORT",
        "ZONE",
        "OWNER",
        "TOOLS",
        "LOAD",
        "RATE",
        "LATENCY",
        "CPU",
        "MEMORY",
        "SINCE",
        "KEPT",
        "BY",
    ]
    assert "streamable-http  attic  nobody  2" in row


async def test_tools(here: Cluster) -> None:
    ended = await here.ask("tools")
    assert ended.code == 0
    assert [line.split()[0] for line in ended.out.splitlines()][:2] == ["TOOL", "count"]
    told, *_ = await here.asked("tools", "count", "far", "--schema")
    assert (told["name"], told["providers"]) == ("count", 2)
    assert told["inputSchema"]["properties"]["to"] == {"title": "To", "type": "integer"}
    ended = await here.ask("tools", "count", "--schema")
    assert "to: integer" in ended.out
    assert (await here.ask("tools", "nosuchword")).out == "No tool matches.\n"
    ended = await here.ask("tools", "--limit", "1")
    assert "6 more match" in ended.err


async def test_skills(here: Cluster) -> None:
    ended = await here.ask("skills")
    assert ended.code == 0
    assert [line.split()[0] for line in ended.out.splitlines()] == ["SKILL", "skill-0", "skill-1"]
    (told,) = await here.asked("skills", "--skill", "skill-1")
    assert (told["uri"], told["providers"]) == ("skill://odd/skill-1/SKILL.md", 1)
    assert (await here.ask("skills", "nosuchword")).out == "No skill matches.\n"
    ended = await here.ask("skills", "nosuchword")
    assert "mcp-discovery skills lists all" in ended.err
    (told,) = await here.asked("servers", "--skill", "skill-0")
    assert told["id"] == "odd-1"


async def test_describe_a_server(here: Cluster) -> None:
    ended = await here.ask("describe", "talker")
    assert ended.code == 0
    for told in (
        "talker-1",
        "talker-2",
        "one, talk, two",
        "echo  (read-only)",
        "text (string, required)",
        "numbers (array of integer or null)",
        "colour (red|green, red by default)",
        "Any words",
    ):
        assert told in ended.out
    assert "\x1b" not in ended.out
    ended = await here.ask("describe", "odd-1", "--schema")
    assert '"type": "object"' in ended.out
    assert "Prompts:" in ended.out
    assert "skill-1  Skill 1 counts" in ended.out
    (told,) = await here.asked("describe", "talker")
    assert [each["id"] for each in told["instances"]] == ["talker-1", "talker-2"]
    (document,) = told["documents"].values()
    assert document["tools"][0]["name"] == "echo"


async def test_describe_a_tool(here: Cluster) -> None:
    ended = await here.ask("describe", "--tool", "echo")
    assert ended.code == 0
    assert [line.split()[1] for line in ended.out.splitlines()[-2:]] == ["talker-1", "talker-2"]
    (told,) = await here.asked("describe", "--tool", "echo")
    assert told["consistent"] is True
    assert {each["id"] for each in told["offeredBy"]} == {"talker-1", "talker-2"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("describe", "tolker"), "did you mean 'talker'"),
        (("describe", "echo"), "describe --tool echo"),
        (("describe", "--tool", "ecko"), "did you mean 'echo'"),
        (("describe",), "say what to describe"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
async def test_what_is_not_there_is_nearly_named(
    here: Cluster, arguments: tuple[str, ...], says: str
) -> None:
    ended = await here.ask(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert says in ended.err


async def test_watch_ends_when_it_is_told_to(here: Cluster) -> None:
    ended = await here.ask("watch", "--count", "2", "--json")
    assert (ended.code, len(ended.out.splitlines())) == (0, 2)
    ended = await here.ask("watch", "--for", "2s", "--name", "odd")
    assert ended.code == 0
    assert all(" odd" in line for line in ended.out.splitlines())
    ended = await here.ask("watch", "--for", "2s", "--count", "99")
    assert ended.code == 8  # at least what is there; on a busy machine changes, too
    assert len(ended.out.splitlines()) >= 3
    ended = await here.ask("watch", "--for", "soon")
    assert ended.code == 2
    assert "write 30 (seconds), 30s, 5m or 2h" in " ".join(ended.err.replace("│", " ").split())


async def test_no_control_character_reaches_a_terminal(here: Cluster) -> None:
    told = {"MCP_DISCOVERY_FACADE": here.facade.url, "NO_COLOR": "1"}
    for arguments in (
        ("servers", "--wide"),
        ("tools",),
        ("describe", "odd"),
        ("describe", "talker"),
        ("describe", "--tool", "shout"),
        ("describe", "talker", "--schema"),
        ("servers", "--json"),
        ("describe", "talker", "--json"),
        ("export",),
        ("watch", "--once", "--json"),
    ):
        shown = await on_terminal(*arguments, environment=told)
        assert not set(shown) & set("\x07\x9b\u202e"), arguments
        # Without colour, bold is all that is left, and that is ours.
        assert shown.replace("\x1b[1m", "").replace("\x1b[0m", "").count("\x1b") == 0, arguments
    shown = await on_terminal("describe", "odd", environment=told)
    assert "\\x1b[31mred\\x1b[0m \\x9b5m and \\u202ebackwards" in " ".join(shown.split())


async def test_colour_is_for_terminals_that_want_it(here: Cluster) -> None:
    told = {"MCP_DISCOVERY_FACADE": here.facade.url}
    assert "\x1b[32mhealthy" in await on_terminal("servers", environment=told)
    assert "\x1b[32m" not in await on_terminal("servers", environment=told | {"NO_COLOR": "1"})
    assert "\x1b" not in await on_terminal("servers", environment=told | {"TERM": "dumb"})


async def test_narrow_terminals_lose_nothing(here: Cluster) -> None:
    told = {"MCP_DISCOVERY_FACADE": here.facade.url, "NO_COLOR": "1"}

    async def shown(columns: int, *arguments: str) -> str:
        found = await on_terminal(
            "servers", "--name", "odd", *arguments, columns=columns, environment=told
        )
        return found.replace("\x1b[1m", "").replace("\x1b[0m", "")

    folded = (await shown(80)).splitlines()
    assert folded[0].split() == ["NAME", "ID", "STATUS", "VERSION", "TAGS", "URL", "REASON"]
    assert max(map(len, folded)) <= 80
    for columns in (40, 80):
        blocks = await shown(columns, "--wide")
        assert "NAME       odd" in blocks
        assert f"URL        {here.odd.url}" in blocks
        assert "ZONE       attic" in blocks


async def test_a_pipe_that_is_closed_early_ends_the_command_quietly(here: Cluster) -> None:
    import asyncio
    import sys

    from tests.programs import ENVIRONMENT, ROOT

    for words in ("watch --json", "servers", "tools", "export", "describe talker --schema"):
        line = f"{sys.executable} -m mcp_discovery.cli {words} | true; echo ${{PIPESTATUS[0]}}"
        # The reader ends first: the command has to start and to ask before it writes.
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", line),
            cwd=ROOT,
            env=ENVIRONMENT | {"MCP_DISCOVERY_FACADE": here.facade.url},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await bounded(process.communicate(), 30)
        assert (out.strip(), err) == (b"141", b""), words


async def test_a_token_goes_to_the_facade_and_is_not_shown(tmp_path: Path) -> None:
    from aiohttp import web

    seen: list[str | None] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization"))
        if seen[-1] != "Bearer s3cr3t":
            return web.json_response({"detail": "a token is wanted"}, status=401)
        if request.path == "/status":
            return web.json_response({"summary": {"total": 0}})
        return web.json_response({"servers": [], "tools": [], "totalTools": 0})

    # A proxy that asks for a token, which a facade itself never does.
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        for words in (("servers",), ("tools",)):
            refused = await command(*words, "--facade", url)
            assert refused.code == 4
            assert "a token is wanted" in refused.err
            ended = await command(*words, "--facade", url, MCP_DISCOVERY_FACADE_TOKEN="s3cr3t")
            assert (ended.code, "s3cr3t" in ended.out + ended.err) == (0, False)
            file = tmp_path / "token"
            file.write_text("s3cr3t\n")
            ended = await command(*words, "--facade", url, "--facade-token-file", str(file))
            assert (ended.code, "s3cr3t" in ended.out + ended.err) == (0, False)
        missing = await command("servers", "--facade", url, "--facade-token-file", "/no/such/file")
        assert (missing.code, "cannot read /no/such/file" in missing.err) == (2, True)
        ended = await command("servers", "--help", MCP_DISCOVERY_FACADE_TOKEN="s3cr3t")
        assert "s3cr3t" not in ended.out
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"tags": "talc", "status": "all"}, "No server has the tag 'talc'; did you mean 'talk'?"),
        ({"tags": "unheard-of"}, "No server has the tag 'unheard-of'."),
        ({"name": "tolker"}, "No server has the name 'tolker'; did you mean 'talker'?"),
        ({"tool": "echo,count"}, "give --tool again for each: --tool echo --tool count"),
        (
            {"zone": "attic", "tags": "talk"},
            "No server passes all of these filters",
        ),
        ({"version": ">=77"}, "No server passes the filter version."),
        ({"q": "nothingofthesort"}, "No server passes the filter q."),
        ({"tags": "talk", "status": "down"}, "2 not shown (2 healthy); --status all shows them."),
        (
            {"name": "odd", "status": "down"},
            "1 is not shown: odd-1 is healthy: answers MCP",
        ),
        ({"tags": "talk", "status": "all"}, ""),
        ({"status": "healthy"}, ""),
    ],
    ids=str,
)
async def test_a_hint_is_made_from_what_was_asked_and_what_is_there(
    here: Cluster, asked: dict[str, str], said: str
) -> None:
    async with facade_api(here.facade.url) as api:
        found = await hints(api, [*asked.items()])
    assert len(found) == bool(said)
    assert all(said in each for each in found), found


async def test_a_hint_for_tools(here: Cluster) -> None:
    async with facade_api(here.facade.url) as api:
        assert await tool_hints(api, [("status", "down"), ("q", "echo")]) == [
            "Now no server that offers echo has this status; --status all shows it."
        ]
        (said,) = await tool_hints(api, [("status", "healthy"), ("q", "nosuchword")])
        assert said.startswith("Use fewer or other words")
        (said,) = await tool_hints(api, [("status", "healthy"), ("tags", "strnge")])
        assert said == "No server has the tag 'strnge'; did you mean 'strange'?"


async def test_no_server_at_all(tmp_path: Path) -> None:
    async with facade(tmp_path, "embedded:") as asked:
        begin = (
            f"The list is empty. Start a sidecar beside a server: mcp-discovery sidecar --store "
            f"{asked.url} --url http://127.0.0.1:8000/mcp (for one that speaks stdio, -- COMMAND "
            "instead of --url); or register a list of servers: "
            f"mcp-discovery register FILE --facade {asked.url}\n"
        )
        for words, code, out, err in (
            (("servers",), 0, "No server matches.\n", begin),
            (("tools", "--tag", "x"), 0, "No tool matches.\n", begin),
            (("watch", "--once"), 0, "", begin),
            (("describe", "shop"), 2, "", f"there is no server 'shop': {EMPTY}"),
            (("call", "buy"), 2, "", f"tool 'buy': {EMPTY}"),
        ):
            ended = await command(*words, "--facade", asked.url)
            assert (ended.code, ended.out, err in ended.err) == (code, out, True), ended
        ended = await command("export", "--facade", asked.url)
        assert json.loads(ended.out)["connections"] == []

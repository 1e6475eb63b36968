"""export and import: what one writes, the other takes, and a host reads."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mcp_discovery.cli.export import registration_body
from mcp_discovery.host_exports import cursor, mcp_json, vscode
from mcp_discovery.host_files import records
from tests.mcp_discovery.cli.cluster import Cluster
from tests.programs import AskedFacade, Ended, command, facade


@pytest.fixture
async def empty(tmp_path: Path) -> AsyncIterator[AskedFacade]:
    folder = tmp_path / "facade"
    folder.mkdir()
    async with facade(folder, "embedded:") as one:
        yield one


async def import_(at: AskedFacade, *arguments: str) -> Ended:
    return await command("import", *arguments, "--facade", at.url)


def said(ended: Ended) -> dict[str, str]:
    told = [line.partition(": ")[::2] for line in (ended.out + ended.err).splitlines()]
    return {id: outcome for id, outcome in told if outcome}


@pytest.mark.parametrize("format", ["registry", "servers"])
async def test_what_is_exported_is_imported(
    here: Cluster, empty: AskedFacade, tmp_path: Path, format: str
) -> None:
    file = str(tmp_path / "all.json")
    ended = await here.ask("export", "--format", format, "-o", file)
    assert (ended.code, ended.out) == (0, "")
    assert "3 exported" in ended.err
    created = dict.fromkeys(("odd-1", "talker-1", "talker-2"), "created")

    ended = await import_(empty, file, "--dry-run")
    assert (ended.code, said(ended)) == (9, created)
    assert await empty.servers() == {}
    ended = await import_(empty, file)
    assert (ended.code, said(ended)) == (0, created)
    for id in created:
        await empty.until_status(id, "healthy", 15)
    ended = await import_(empty, file, "--json")
    assert ended.code == 0
    outcomes = {each["outcome"] for each in map(json.loads, ended.out.splitlines())}
    assert outcomes == {"unchanged"}
    there, copied = await here.facade.servers(), await empty.servers()
    for id in created:
        for key in ("name", "url", "tags", "zone", "owner", "description", "capabilities"):
            assert copied[id].get(key) == there[id].get(key)


async def test_a_part_is_exported(here: Cluster) -> None:
    ended = await here.ask("export", "-t", "strange", "--json")
    content = json.loads(ended.out)
    assert [each["id"] for each in content["connections"]] == ["odd-1"]
    assert content["totalExported"] == 1
    assert list(content["documents"]) == [content["connections"][0]["digest"]]


async def test_hosts_get_one_entry_for_each_server(here: Cluster, empty: AskedFacade) -> None:
    content = json.loads((await here.ask("export", "-f", "mcp-json")).out)
    assert content == {
        "mcpServers": {
            "odd": {"type": "http", "url": here.odd.url},
            "talker": {"type": "http", "url": here.interactive_server.url},
        }
    }
    content = json.loads((await here.ask("export", "-f", "vscode", "--gateway")).out)
    url = f"{here.facade.url}/gateway/talker/mcp"
    assert content["servers"]["talker"] == {"type": "http", "url": url}


ENTRY: dict[str, Any] = {
    "id": "a-1",
    "name": "a",
    "status": "healthy",
    "transport": "streamable-http",
    "url": "http://a/mcp",
    "endpoint": {"transport": "streamable-http", "url": "http://a/mcp"},
    "auth": {"type": "bearer"},
    "version": "1.0.0",
    "weight": 1,
    "registryName": "local/a",
    "protocol": {"era": "modern"},
    "capabilities": {"tools": ["x"]},
}
STDIO = ENTRY | {
    "name": "b",
    "transport": "stdio",
    "auth": {"type": "none"},
    "endpoint": {"transport": "stdio", "command": "npx", "args": ["-y", "b"]},
    "url": None,
    "protocol": {},
}
SOCKET = ENTRY | {"name": "c", "transport": "websocket", "url": "ws://c/ws"}


def test_hosts_are_told_of_tokens_and_programs() -> None:
    content, notes = mcp_json([ENTRY, STDIO, SOCKET], None)
    assert content["mcpServers"] == {
        "a": {
            "type": "http",
            "url": "http://a/mcp",
            "headers": {"Authorization": "Bearer ${A_MCP_TOKEN}"},
        },
        "b": {"command": "npx", "args": ["-y", "b"]},
    }
    assert len(notes) == 1
    assert notes[0].startswith("c is left out, it speaks websocket")
    content, _ = vscode([ENTRY, STDIO], None)
    assert content["servers"]["a"]["headers"] == {"Authorization": "Bearer ${input:a-token}"}
    assert content["servers"]["b"]["type"] == "stdio"
    assert [each["id"] for each in content["inputs"]] == ["a-token"]
    content, notes = mcp_json([SOCKET], "http://f/gateway/{name}/mcp")
    assert (content["mcpServers"]["c"]["url"], notes) == ("http://f/gateway/c/mcp", [])


def test_no_url_has_variables_that_hosts_fill_in() -> None:
    hostile = ENTRY | {"url": "http://a/${env:AWS_SECRET_ACCESS_KEY}/mcp"}
    for export in (mcp_json, vscode, cursor):
        assert "${env:AWS" not in json.dumps(export([hostile], None)[0])


def test_the_healthy_replica_is_the_one_that_hosts_get() -> None:
    down = ENTRY | {"id": "a-0", "status": "down", "url": "http://down/mcp"}
    content, _ = mcp_json([down, ENTRY], None)
    assert content["mcpServers"]["a"]["url"] == "http://a/mcp"


def test_a_hosts_file_is_read() -> None:
    content, _ = mcp_json([ENTRY, STDIO], None)
    found = records(content["mcpServers"] | {"d": {"type": "sse", "url": "http://d/sse"}})
    assert found == [
        {
            "name": "a",
            "endpoint": {"transport": "streamable-http", "url": "http://a/mcp"},
            "auth": {"type": "bearer"},
        },
        {"name": "b", "endpoint": {"transport": "stdio", "command": "npx", "args": ["-y", "b"]}},
        {"name": "d", "endpoint": {"transport": "sse", "url": "http://d/sse"}},
    ]


def test_servers_of_a_hosts_file_whose_names_are_no_labels_stay_apart() -> None:
    names = ["C++ Docs", "C# Docs", "My_Server"]
    one, other, plain = records({name: {"url": "http://d/mcp"} for name in names})
    assert [each["title"] for each in (one, other, plain)] == names
    assert len({one["name"], other["name"]}) == 2
    assert plain["name"] == "my-server"


def test_only_what_a_registrant_says_is_exported() -> None:
    assert registration_body(ENTRY) == {
        "id": "a-1",
        "name": "a",
        "version": "1.0.0",
        "url": "http://a/mcp",
        "auth": {"type": "bearer"},
        "protocol": {"era": "modern"},
    }
    assert registration_body(STDIO)["capabilities"] == {"tools": ["x"]}


async def test_import_says_what_became_of_each(
    here: Cluster, empty: AskedFacade, tmp_path: Path
) -> None:
    file = tmp_path / "some.json"
    entries = [
        {"id": "good", "name": "good", "url": here.odd.url},
        {"id": "bad", "name": "Not Good", "url": here.odd.url},
        {"name": "typo", "url": here.odd.url, "tgas": ["a"]},
        {"id": "started", "name": "started", "endpoint": {"transport": "stdio", "command": "x"}},
    ]
    file.write_text(json.dumps(entries))
    ended = await import_(empty, str(file), "--all-or-nothing")
    assert ended.code == 1
    assert "good: not imported" in ended.out
    assert await empty.servers() == {}
    ended = await import_(empty, str(file))
    assert ended.code == 1
    assert "good: created" in ended.out
    assert "started: created" in ended.out
    assert "bad: refused: name:" in ended.err
    assert "typo: refused: tgas" in ended.err
    assert ended.err.endswith("2 created, 2 refused.\n")
    assert set(await empty.servers()) == {"good", "started"}
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "is empty; write servers"),
        ("5", "neither a server's object nor a list"),
        ("[]", "names no server"),
        ('{"connections": 5}', "connections is no list"),
    ],
)
async def test_a_file_that_is_none(tmp_path: Path, content: str, says: str) -> None:
    file = tmp_path / "file.json"
    file.write_text(content)
    ended = await command("import", str(file))
    assert (ended.code, ended.out) == (2, "")
    assert says in ended.err


async def test_formats_and_files_that_cannot_be(here: Cluster) -> None:
    ended = await here.ask("export", "-f", "mcpjson")
    assert (ended.code, "did you mean mcp-json?" in ended.err) == (2, True)
    ended = await here.ask("export", "-o", "/no/such/folder/x.json")
    assert (ended.code, "cannot write /no/such/folder/x.json" in ended.err) == (2, True)
    ended = await command("import", "/no/such/file")
    assert (ended.code, "cannot read /no/such/file" in ended.err) == (2, True)

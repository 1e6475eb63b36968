"""`register` of commands: what is said of those that name nothing, and `--introspect`."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.foreign.programs import NODE, NPM
from tests.mcp_discovery.cli.cluster import on_terminal
from tests.programs import ROOT, AskedFacade, Ended, command, facade

NOTE = "cannot be found by a tool: none is named"
EVERYTHING = NPM / "@modelcontextprotocol/server-everything/dist/index.js"
HERE = {"PYTHONPATH": str(ROOT)}


@pytest.fixture
async def asked(tmp_path: Path) -> AsyncIterator[AskedFacade]:
    async with facade(tmp_path, "embedded:") as found:
        yield found


def handmade(*faults: str, **more: Any) -> dict[str, Any]:
    args = ["-m", "tests.servers.stdio", *faults]
    return {"command": sys.executable, "args": args, "env": HERE} | more


def hosts_file(folder: Path, **servers: Any) -> Path:
    file = folder / "mcp.json"
    file.write_text(json.dumps({"mcpServers": servers}))
    return file


async def register(asked: AskedFacade, file: Path, *arguments: str, **environment: str) -> Ended:
    given = ("register", str(file), "--facade", asked.url, *arguments)
    return await command(*given, timeout=60, **environment)


async def listed(asked: AskedFacade) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in (await asked.servers()).values()}


async def test_commands_are_introspected_where_it_is_allowed(
    asked: AskedFacade, tmp_path: Path
) -> None:
    servers = {"My Hands": handmade(), "every": {"command": str(NODE), "args": [str(EVERYTHING)]}}
    file = hosts_file(tmp_path, **servers, http={"url": "http://127.0.0.1:9/mcp"})
    ended = await register(asked, file)
    assert (ended.code, ended.out.count(": registered")) == (0, 3)
    assert f"and 1 more {NOTE}" not in ended.err  # of what is dialled nothing is said
    assert ended.err.count(NOTE) == 1 and "--introspect" in ended.err

    ended = await register(asked, file, "--introspect")
    assert (ended.code, "allow it with --yes" in ended.err) == (2, True)
    assert all(not each["capabilities"]["tools"] for each in (await listed(asked)).values())

    ended = await register(asked, file, "--introspect", "--yes")
    assert (ended.code, ended.out.count(": changed")) == (0, 2), ended
    assert f"{sys.executable} -m tests.servers.stdio" in ended.err
    assert NOTE not in ended.err
    found = await listed(asked)
    hands, every = found["my-hands"], found["every"]
    assert (hands["title"], hands["version"]) == ("My Hands", "1.4.0")
    assert hands["capabilities"]["tools"] == ["add"]
    assert (hands["protocol"]["era"], every["protocol"]["era"]) == ("legacy", "legacy")
    assert every["title"] == "Everything Reference Server"
    assert {"echo", "get-sum"} <= {*every["capabilities"]["tools"]}
    assert "PYTHONPATH" not in json.dumps(found)
    tools = await command("tools", "--status", "all", "--json", "--facade", asked.url)
    described = {each["name"]: each for each in map(json.loads, tools.out.splitlines())}
    assert described["echo"]["description"] == "Echoes back the input string"

    # It stays what it is: without the option, and with it.
    for more in ((), ("--introspect", "--yes")):
        ended = await register(asked, file, *more)
        assert (ended.code, ended.out, NOTE in ended.err) == (0, "", False), ended
    # What is known of a command outlives a change of something else, but not of the command.
    ended = await register(asked, hosts_file(tmp_path, every=servers["every"] | {"tags": ["e"]}))
    assert (ended.code, NOTE in ended.err) == (0, False)
    every = (await listed(asked))["every"]
    assert (every["tags"], "echo" in every["capabilities"]["tools"]) == (["e"], True)


async def test_what_cannot_be_introspected_is_refused_alone(
    asked: AskedFacade, tmp_path: Path
) -> None:
    token = "ghp_" + "a1" * 12
    file = hosts_file(
        tmp_path,
        well=handmade(env={**HERE, "API_KEY": "${env:KEY_OF_WELL}"}),
        missing={"command": "no-such-command"},
        login=handmade("login"),
        ends={"command": "sh", "args": ["-c", "echo $API_KEY >&2; exit 4"], "envFile": ".env"},
        clear=handmade(env={**HERE, "GITHUB_TOKEN": token}),
        unset=handmade(env={**HERE, "API_KEY": "${NOT_SET_ANYWHERE}"}),
        asks=handmade(env={**HERE, "API_KEY": "${input:api-key}"}),
        typed=handmade("--token", "my-pass-word"),
    )
    given = ("--introspect", "--yes", "--introspect-timeout", "3s")
    (tmp_path / ".env").write_text("API_KEY=value-of-the-key\n")
    ended = await register(asked, file, *given, KEY_OF_WELL="value-of-well")
    said = {
        name.rpartition("-")[0] or name: why
        for name, _, why in (line.partition(": refused: ") for line in ended.err.splitlines())
        if why
    }
    assert ended.code != 0
    assert ended.out.startswith("well-") and ended.out.count("\n") == 1
    assert "command not found" in said["missing"]
    assert "enter ABCD; give it longer with --introspect-timeout" in said["login"]
    assert said["ends"].startswith("the command ended with exit code 4: ***; see that it is")
    assert 'write "GITHUB_TOKEN": "${GITHUB_TOKEN}"' in said["clear"]
    assert "NOT_SET_ANYWHERE is not set" in said["unset"]
    assert "${input:api-key} is what its host asks the user for" in said["asks"]
    assert "${NAME}" in said["typed"]
    for secret in (token, "value-of-the-key", "my-pass-word"):
        assert secret not in ended.err + ended.out
    assert (await listed(asked)).keys() == {"well"}


async def test_one_that_cannot_be_asked_today_is_not_removed(
    asked: AskedFacade, tmp_path: Path
) -> None:
    line = f'test -n "$WORKS" && exec {sys.executable} -m tests.servers.stdio'
    env = {**HERE, "WORKS": "${WORKS:-}"}
    file = hosts_file(tmp_path, moody={"command": "sh", "args": ["-c", line], "env": env})
    given = ("--introspect", "--yes", "--prune", "--source", "s")
    assert (await register(asked, file, *given, WORKS="yes")).code == 0
    ended = await register(asked, file, *given)
    assert (ended.code, "moody" in ended.err) == (1, True)
    assert (await listed(asked))["moody"]["capabilities"]["tools"] == ["add"]


async def test_a_servers_own_form_and_a_dry_run(asked: AskedFacade, tmp_path: Path) -> None:
    file = tmp_path / "servers.yaml"
    file.write_text(json.dumps([handmade(name="hands", id="h", cwd=str(ROOT))]))
    ended = await register(asked, file, "--introspect", "--yes", "--dry-run")
    assert (ended.code, await asked.servers()) == (9, {})
    assert (await register(asked, file, "--introspect", "--yes")).code == 0
    entry = (await asked.servers())["h"]
    assert entry["capabilities"]["tools"] == ["add"]
    assert {"env", "cwd"}.isdisjoint(entry)
    # Typed in by hand, they are believed.
    file.write_text(json.dumps(handmade(name="hands", id="h", capabilities=["subtract"])))
    ended = await register(asked, file, "--introspect")
    assert (ended.code, "allow it" in ended.err) == (0, False)
    assert (await asked.servers())["h"]["capabilities"]["tools"] == ["subtract"]


async def test_each_command_is_asked_for_at_a_terminal(asked: AskedFacade, tmp_path: Path) -> None:
    file = hosts_file(tmp_path, one=handmade(), two=handmade("modern"))
    environment = {"MCP_DISCOVERY_FACADE": asked.url}
    given = ("register", str(file), "--introspect")
    shown = await on_terminal(*given, environment=environment, types="y\nn\ny\n")
    assert shown.count("Start it once? [y/N]") == 2
    assert "-m tests.servers.stdio" in shown
    found = await listed(asked)
    assert found["one"]["capabilities"]["tools"] == ["add"]
    assert found["two"]["capabilities"]["tools"] == []
    assert NOTE in " ".join(shown.split())


async def test_an_import_says_it_as_well(asked: AskedFacade, tmp_path: Path) -> None:
    file = hosts_file(tmp_path, one=handmade())
    ended = await command("import", str(file), "--facade", asked.url)
    assert (ended.code, f"one {NOTE}" in ended.err) == (0, True)
    ended = await command("import", str(file), "--facade", asked.url)
    assert (ended.code, NOTE in ended.err) == (0, False)
    assert (await register(asked, file, "--introspect", "--yes")).code == 0
    # What is known travels with an export.
    exported = tmp_path / "all.json"
    ended = await command("export", "--status", "all", "--facade", asked.url)
    exported.write_text(ended.out)
    (id,) = await asked.servers()
    assert (await command("import", str(exported), "--facade", asked.url)).code == 0
    assert (await asked.servers())[id]["capabilities"]["tools"] == ["add"]

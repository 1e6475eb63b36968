"""doctor about servers that speak stdio: a command by itself, and one that is registered."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.foreign.programs import NODE, NPM
from tests.programs import ROOT, command, facade

EVERYTHING = NPM / "@modelcontextprotocol/server-everything/dist/index.js"
HANDMADE = ROOT / "tests/servers/stdio.py"


async def doctor(*arguments: str) -> list[dict[str, Any]]:
    ended = await command("doctor", "--json", *arguments, timeout=60)
    found = [json.loads(line) for line in ended.out.splitlines()]
    assert ended.code == any(each["state"] == "wrong" for each in found), ended
    return found


async def test_a_command_that_is_an_mcp_server() -> None:
    (found,) = await doctor("--tag", "every", "--", str(NODE), str(EVERYTHING))
    assert found["state"] == "ok"
    assert found["message"].startswith("it speaks MCP over stdio (legacy, 2025-11-25): 13 tools")
    served = f"mcp-discovery sidecar --store http://127.0.0.1:4000 --tag every -- {NODE}"
    assert served in found["advice"]


@pytest.mark.parametrize(
    ("line", "says", "advises"),
    [
        (("no-such-command",), "command not found", "command line"),
        (("/etc/passwd",), "is not executable", "command line"),
        (("sh", "-c", "echo boom >&2; exit 3"), "exit code 3: boom", "arguments and variables"),
        (("sh", "-c", "echo usage: it; exit 2"), "printed 'usage: it'", "arguments and variables"),
        (("sh", "-c", "echo stdin is no TTY; exit 1"), "is no TTY", "gives it no terminal"),
        ((sys.executable, str(HANDMADE), "login"), "enter ABCD", "waits for a login"),
        ((sys.executable, str(HANDMADE), "mute"), "no answer within 2.5 s", "--timeout"),
        ((sys.executable, str(HANDMADE), "banner"), "prints what is no message", "its output"),
    ],
    ids=range(8),
)
async def test_what_is_wrong_with_a_command(line: tuple[str, ...], says: str, advises: str) -> None:
    found = await doctor("--timeout", "0.5s", "--", *line)
    (wrong,) = (each for each in found if each["state"] == "wrong")
    assert wrong["check"] == "command"
    assert says in wrong["message"] and advises in wrong["advice"]


async def test_a_command_is_given_what_is_named(tmp_path: Path) -> None:
    file = tmp_path / "variables"
    file.write_text("FILED=2\nAPI_KEY=value-of-the-key\n")
    line = (
        "sh",
        "-c",
        f'test "$NAMED$FILED" = 12 && exec {sys.executable} {HANDMADE}; echo $API_KEY',
    )
    given = ("doctor", "--json", "--env", "NAMED", "--env-file", str(file), "--", *line)
    ended = await command(*given, NAMED="1")
    (found,) = map(json.loads, ended.out.splitlines())
    assert (found["state"], ended.code) == ("ok", 0), found
    assert f"--env NAMED --env-file {file} -- sh" in found["advice"]
    ended = await command(*given, NAMED="2")
    assert (ended.code, "value-of-the-key" in ended.out + ended.err) == (1, False)
    ended = await command(*given)
    assert (ended.code, "--env NAMED: it is not set here" in ended.err) == (2, True)
    ended = await command("doctor", "--env", "NAMED", NAMED="1")
    assert (ended.code, "go with a COMMAND" in ended.err) == (2, True)


async def test_a_registered_command_is_served_by_one_command(tmp_path: Path) -> None:
    async with facade(tmp_path, "embedded:") as asked:
        file = tmp_path / "one.json"
        line = [sys.executable, str(HANDMADE)]
        one = {"name": "hands", "tags": ["red", "blue"], "command": line[0], "args": line[1:]}
        file.write_text(json.dumps(one))
        assert (await command("register", str(file), "--facade", asked.url)).code == 0
        found = [
            each
            for each in await doctor("--facade", asked.url, "--server", "hands")
            if each["check"] == "server"
        ]
        assert [each["state"] for each in found] == ["unchecked", "unchecked"]
        registered, unreached = found
        assert registered["message"].endswith("its clients start it themselves; it names 0 tools")
        tags = "--tag red --tag blue"
        served = f"sidecar --store {asked.url} --name hands {tags} -- {' '.join(line)}`"
        assert served in registered["advice"]
        assert f"`mcp-discovery doctor -- {' '.join(line)}`" in unreached["advice"]

"""Files as hosts write them: what is read, what is filled in, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mcp_discovery.errors import InvalidInputError
from mcp_discovery.host_files import HostEntry, HostServers, entries_in, parse, servers_in
from mcp_discovery.host_variables import HostVariables

CLAUDE_DESKTOP = """{
  "globalShortcut": "Alt+Space",
  "mcpServers": {
    "filesystem": {
      "command": "npx",
      "args": ["-y", "@modelcontextprotocol/server-filesystem", "/home/me/Desktop"]
    },
    "Brave Search": {
      "command": "npx",
      "args": ["-y", "@modelcontextprotocol/server-brave-search"],
      "env": {"BRAVE_API_KEY": "${BRAVE_API_KEY}", "DEBUG": true, "RETRIES": 3, "UNSET": null}
    }
  }
}"""
VS_CODE = """\ufeff{
  // Asked for when it is first needed.
  "inputs": [{"type": "promptString", "id": "key", "password": true,}],
  "servers": {
    /* over stdio */
    "memory": {
      "type": "stdio", "command": "${workspaceFolder}/run", "args": ["--url=http://x//y",],
      "envFile": "${workspaceFolder}/.env", "dev": {"watch": "src/**"},
    },
    "docs": {"type": "http", "url": "https://docs.example/mcp", "gallery": true},
    "asks": {"command": "npx", "args": ["asks"], "env": {"API_KEY": "${input:key}"}},
  },
}"""
CURSOR = """{"mcpServers": {
  "local": {"command": "python", "args": ["${workspaceFolder}/server.py"], "cwd": "sub"},
  "remote": {"url": "https://api.example/sse", "headers": {"Authorization": "Bearer ${env:KEY}"}}
}}"""
WINDSURF = """{"mcpServers": {
  "far": {"serverUrl": "https://far.example/mcp", "disabledTools": ["x"]},
  "off": {"command": "npx", "disabled": true}
}}"""
CLINE = """{"mcpServers": {
  "near": {"type": "streamableHttp", "url": "http://127.0.0.1:1/mcp", "autoApprove": ["a"],
           "timeout": 60, "disabled": false}
}}"""
ZED = """{
  // Zed's settings
  "theme": "One Dark",
  "context_servers": {
    "new": {"source": "custom", "command": "uvx", "args": ["new"], "env": {}},
    "old": {"command": {"path": "uvx", "args": ["old"], "env": {"A": "b"}}},
    "off": {"enabled": false, "command": "uvx"},
    "ext": {"source": "extension", "enabled": true, "settings": {"key": "value"}},
  },
}"""
YAML = """
mcpServers:
  notes: {command: uvx, args: [mcp-notes, 8]}
"""


def read(text: str, file: str = "mcp.json") -> HostServers:
    entries = entries_in(parse(text.encode(), file))
    assert entries is not None
    return servers_in(entries)


def one(**members: Any) -> HostEntry:
    """The entry of a file that has it alone."""
    found = read(json.dumps({"mcpServers": {"one": members}}))
    assert found.refused == {}
    return found.entries["one"]


def refusal(**members: Any) -> str:
    return str(read(json.dumps({"mcpServers": {"one": members}})).refused["one"])


def filled(entry: HostEntry, file: str = "/p/mcp.json", **environ: str) -> HostEntry:
    return HostVariables(Path(file), environ).filled(entry)


def unfillable(entry: HostEntry, **environ: str) -> str:
    with pytest.raises(InvalidInputError) as caught:
        filled(entry, **environ)
    return "\n".join(map(str, (caught.value, *caught.value.others)))


def test_a_file_of_claude_desktop() -> None:
    found = read(CLAUDE_DESKTOP)
    assert found.refused == {}
    assert list(found.entries) == ["filesystem", "brave-search"]
    entry = found.entries["brave-search"]
    assert (entry.key, entry.title, entry.transport) == ("Brave Search", "Brave Search", "stdio")
    assert entry.args == ("-y", "@modelcontextprotocol/server-brave-search")
    known = filled(entry, BRAVE_API_KEY="from outside")
    assert known.env == {"BRAVE_API_KEY": "from outside", "DEBUG": "true", "RETRIES": "3"}
    assert known.cwd is None
    assert "from outside" not in repr(known)
    assert found.entries["filesystem"].title is None


def test_a_file_of_vs_code() -> None:
    found = read(VS_CODE)
    assert found.refused == {}
    memory = filled(found.entries["memory"], "/p/shop/.vscode/mcp.json")
    assert (memory.command, memory.args) == ("/p/shop/run", ("--url=http://x//y",))
    assert (memory.env_file, memory.cwd) == ("/p/shop/.env", "/p/shop")
    docs = filled(found.entries["docs"])
    assert (docs.transport, docs.url) == ("streamable-http", "https://docs.example/mcp")
    told = unfillable(found.entries["asks"])
    assert told == (
        "'asks': ${input:key} is what its host asks the user for; write ${env:NAME} and set that "
        "variable where this is read"
    )


def test_a_file_of_cursor() -> None:
    found = read(CURSOR)
    local = filled(found.entries["local"], "/p/.cursor/mcp.json")
    assert (local.args, local.cwd) == (("/p/server.py",), "/p/sub")
    remote = found.entries["remote"]
    assert remote.transport == "sse"
    assert filled(remote, KEY="k").headers == {"Authorization": "Bearer k"}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (WINDSURF, ["far"]),
        (CLINE, ["near"]),
        (ZED, ["new", "old"]),
        (YAML, ["notes"]),
        ('{"editor.tabSize": 2, "mcp": {"servers": {"a": {"command": "b"}}}}', ["a"]),
        ('{"customizations": {"vscode": {"mcp": {"servers": {"a": {"url": "http://a"}}}}}}', ["a"]),
        ('{"mcpServers": {}}', []),
    ],
)
def test_files_of_other_hosts(text: str, names: list[str]) -> None:
    found = read(text)
    assert (list(found.entries), found.refused) == (names, {})


def test_an_older_form_of_zed_and_numbers_among_arguments() -> None:
    old = read(ZED).entries["old"]
    assert (old.command, old.args, old.env) == ("uvx", ("old",), {"A": "b"})
    assert read(YAML).entries["notes"].args == ("mcp-notes", "8")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_file_as_windows_writes_it(encoding: str) -> None:
    text = CURSOR.replace("\n", "\r\n")
    found = entries_in(parse(text.encode(encoding), "mcp.json"))
    assert found is not None
    assert list(found) == ["local", "remote"]


def test_options_of_the_sidecar() -> None:
    found = read(
        '{"mcpServers": {"A b": {"command": "x", "tags": ["t"], '
        '"mcp-discovery": {"name": "other", "ttl": "5s"}}}}'
    )
    entry = found.entries["other"]
    assert (entry.name, entry.title) == ("other", "A b")
    assert entry.options == {"tags": ["t"], "name": "other", "ttl": "5s"}


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({}, "has neither a command nor a url; write one of them"),
        ({"command": "a", "url": "http://b"}, "has a command and a url; write one of them"),
        ({"command": 3}, "command is no text"),
        ({"command": "a", "args": "-y b"}, "args is no list of texts"),
        ({"command": "a", "args": [[]]}, "args holds what is no text"),
        ({"command": "a", "env": ["A=b"]}, "env is no object of texts"),
        ({"url": "http://a", "type": "carrier-pigeon"}, "type 'carrier-pigeon' is none; write"),
        ({"url": "http://a", "type": "stdio"}, "has the type 'stdio' and a url, which do not go"),
        ({"command": "a", "type": "http"}, "has the type 'http' and a command, which do not go"),
        ({"command": "a", "tags": 3}, "tags is no list of texts"),
        ({"command": "a", "mcp-discovery": []}, '"mcp-discovery" is no object'),
    ],
)
def test_an_entry_that_is_none(members: dict[str, Any], told: str) -> None:
    assert refusal(**members).startswith(f"'one': {told}")


def test_names_that_are_the_same_are_both_refused() -> None:
    found = read(
        '{"mcpServers": {"My Server": {"command": "a"}, "my-server": {"command": "b"}, '
        '"x": {"command": "c"}, "c": {"command": "d"}, "x": {"command": "e"}, " ": {"url": "f"}}}'
    )
    assert list(found.entries) == ["c"]
    told = {key: str(error) for key, error in found.refused.items()}
    both = "'My Server' and 'my-server' are both 'my-server' as names of servers"
    assert both in told["My Server"]
    assert both in told["my-server"]
    assert told["x"].startswith("'x': stands in the file as the entries 3 and 5;")
    assert told[" "].startswith("' ': makes no name of a server; give it one")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"mcpServers": {"a": }}', "mcp.json: is not JSON: Expecting value: line 1 column 22"),
        ('{\n// b\n"a": 1,, }', "mcp.json: is not JSON: Expecting property name"),
        ('{"a": NaN}', "mcp.json: is not JSON: NaN is no number"),
        ("", "mcp.json: is empty; write servers below mcpServers"),
        ("[" * 100_000, "mcp.json: is not JSON: it is nested too deeply"),
        ("a: [", "mcp.json:1: is not YAML"),
    ],
)
def test_what_is_no_file_of_a_host(text: str, told: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        parse(text.encode(), "mcp.json")
    assert str(caught.value).startswith(told)


def test_a_place_in_a_file_with_comments_is_that_of_the_file() -> None:
    with pytest.raises(InvalidInputError, match="line 3 column 15"):
        parse(b'{ /* a\nb */ "x": "// no comment", // c\n  /* d */ "y" }', "mcp.json")


def test_variables() -> None:
    entry = one(
        command="${userHome}/bin/x",
        args=["${A}", "${env:A}", "${B:-b}", "${B:-}", "${EMPTY:-e}", "$A", "${A#x}", "a${/}b"],
        env={"C": "${EMPTY}"},
    )
    known = filled(entry, A="1", EMPTY="")
    assert known.command == f"{Path.home()}/bin/x"
    assert known.args == ("1", "1", "b", "", "e", "$A", "${A#x}", "a/b")
    assert known.env == {"C": ""}


def test_what_cannot_be_filled_in_is_all_told() -> None:
    entry = one(
        command="${command:pick}", args=["${NONE}", "${workspaceFolder}"], env={"A": "${B}"}
    )
    told = unfillable(entry).splitlines()
    assert told == [
        "'one': ${command:pick} is what only its host knows; write ${env:NAME} and set that "
        "variable where this is read",
        "'one': the variable NONE is not set; set it where this is read, or write ${NONE:-default}",
        "'one': ${workspaceFolder} is not known for a file at /p/mcp.json; write the path",
        "'one': the variable B is not set; set it where this is read, or write ${B:-default}",
    ]


def test_a_command_line_in_the_place_of_a_program(tmp_path: Path) -> None:
    told = "'one': its command has blanks; write what follows the program into args"
    assert unfillable(one(command="npx -y server")) == told
    program = tmp_path / "a program"
    program.touch(0o755)
    assert filled(one(command=str(program))).command == str(program)


@pytest.mark.parametrize(
    ("members", "told"),
    [
        (
            {"command": "x", "env": {"GITHUB_TOKEN": "ghp_0123456789012345678901234567890123456"}},
            'write "GITHUB_TOKEN": "${GITHUB_TOKEN}" and set that variable',
        ),
        (
            {"command": "x", "env": {"DB_PASSWORD": "hunter2"}},
            'env DB_PASSWORD is given in clear; write "DB_PASSWORD": "${DB_PASSWORD}"',
        ),
        (
            {"command": "x", "env": {"API_KEY": "${API_KEY:-hunter2}"}},
            'env API_KEY is given in clear; write "API_KEY": "${API_KEY}"',
        ),
        (
            {"command": "x", "args": ["--api-key", "hunter2"]},
            "argument 2 gives --api-key in clear; write ${ONE_TOKEN} in its place",
        ),
        (
            {"url": "https://a/mcp", "headers": {"Authorization": "Bearer hunter2hunter2"}},
            'write "Authorization": "Bearer ${ONE_TOKEN}" and set that variable',
        ),
        (
            {"url": "https://a/mcp", "headers": {"X-Api-Key": "hunter2"}},
            'header X-Api-Key is given in clear; write "X-Api-Key": "${ONE_TOKEN}"',
        ),
        ({"url": "https://a/mcp?api_key=hunter2"}, "its url gives api_key in clear"),
        ({"url": "https://me:hunter2@a/mcp"}, "its url has a user or password before the host"),
        ({"url": "https://a/mcp?x=${X}"}, "its url would have the value of ${X}"),
        ({"url": "https://a/${API_KEY}/mcp"}, "its url would have the value of ${API_KEY}"),
        ({"url": "https://${X}@a/mcp"}, "its url would have the value of ${X}"),
        ({"url": "${URL}"}, "its url, filled in, has a user or password before the host"),
    ],
)
def test_secrets_in_clear_are_refused_with_what_to_write(
    members: dict[str, Any], told: str
) -> None:
    said = unfillable(
        one(**members), X="x", API_KEY="k", URL="https://me:hunter2@a/mcp", ONE_TOKEN="t"
    )
    assert told in said
    assert "hunter2" not in said
    assert "ghp_" not in said


def test_what_only_looks_like_a_secret_is_taken() -> None:
    entry = one(
        command="x",
        args=[
            "--token",
            "${env:TOKEN}",
            "--auth",
            "none",
            "--header",
            "Authorization: Bearer ${TOKEN}",
        ],
        env={"DISABLE_AUTH": "true", "TOKEN": "${env:TOKEN}", "PATH": "/usr/bin"},
    )
    known = filled(entry, TOKEN="secret")
    assert (known.args[1], known.secrets) == ("secret", ("secret",))
    assert "'secret'" not in repr(known)
    assert filled(one(url="http://a", headers={"Authorization": "Bearer ${TOKEN:-none}"}))
    remote = one(url="https://${HOST}/mcp", headers={"authorization": "Token ${TOKEN}"})
    known = filled(remote, HOST="a.example", TOKEN="t")
    assert (known.url, known.headers) == ("https://a.example/mcp", {"authorization": "Token t"})

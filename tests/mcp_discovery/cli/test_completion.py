"""Completion: as bash does it when somebody presses Tab, and as it starts in other shells."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest

from tests.mcp_discovery.cli.cluster import Cluster
from tests.programs import ENVIRONMENT, ROOT, Ended, command, facade
from tests.servers.process import odd
from tests.stores.waiting import bounded

#: What bash does for Tab at the end of the words that it is given.
TAB = """
eval "$(mcp-discovery --show-completion)"
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_mcp_discovery_completion mcp-discovery
printf '%s\\n' "${COMPREPLY[@]}"
"""


async def bash(script: str, *words: str, **environment: str) -> Ended:
    """Runs ``script`` in bash, where ``mcp-discovery`` is this one."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    process = await asyncio.create_subprocess_exec(
        *("bash", "--norc", "-c", script, "bash", *words),
        cwd=ROOT,
        env=ENVIRONMENT | {"PATH": path} | environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await bounded(process.communicate(), 30)
    return Ended(process.returncode or 0, out.decode(), err.decode())


async def tab(url: str, *words: str) -> list[str]:
    ended = await bash(TAB, "mcp-discovery", *words, MCP_DISCOVERY_FACADE=url)
    assert (ended.code, ended.err) == (0, "")
    return ended.out.split()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("des",), ["describe"]),
        (("call", "ec"), ["echo"]),
        (("describe", ""), ["odd", "talker", "talker-1", "talker-2"]),
        (("describe", "--tool", "sh"), ["shout"]),
        (("servers", "--tag", ""), ["one", "strange", "talk", "two"]),
        (("servers", "--name", "t"), ["talker"]),
        (("servers", "--status", "d"), ["degraded", "down", "draining"]),
        (("doctor", "--server", "talker-"), ["talker-1", "talker-2"]),
        (("export", "--format", "v"), ["vscode"]),
        (("call", "--server-t"), ["--server-token", "--server-token-file"]),
    ],
    ids=lambda value: " ".join(value),
)
async def test_tab_in_bash(here: Cluster, words: tuple[str, ...], found: list[str]) -> None:
    assert sorted(await tab(here.facade.url, *words)) == sorted(found)


async def test_the_facade_that_was_typed_is_asked(here: Cluster) -> None:
    # In zsh: bash takes the URL's colons for ends of words.
    line = f"mcp-discovery call --facade {here.facade.url} ec"
    told = {"MCP_DISCOVERY_FACADE": "http://127.0.0.1:9", "_TYPER_COMPLETE_ARGS": line}
    ended = await bash("mcp-discovery", _MCP_DISCOVERY_COMPLETE="complete_zsh", **told)
    assert "echo" in ended.out


async def test_tab_without_a_facade_is_silent_and_soon_over() -> None:
    assert await tab("http://127.0.0.1:9", "call", "ec") == []
    assert await tab("nonsense", "call", "ec") == []

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    listener = await asyncio.start_server(mute, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    try:
        started = time.monotonic()
        assert await tab("http://127.0.0.1:9", "call", "ec") == []
        usual = time.monotonic() - started
        started = time.monotonic()
        assert await tab(f"http://127.0.0.1:{port}", "call", "ec") == []
        assert time.monotonic() - started < usual + 3
    finally:
        listener.close()


async def test_what_a_shell_could_take_for_its_own_is_not_offered(tmp_path: Path) -> None:
    names = ("fine-tool", "$(touch x)", "a;b", "`id`", "a b", "*", "\\u001b[2J")
    items = ",".join(f'{{"name": "{name}", "inputSchema": {{"type": "object"}}}}' for name in names)
    async with facade(tmp_path, "embedded:") as asked, odd("--items", f"[{items}]") as server:
        file = tmp_path / "odd.json"
        file.write_text(f'{{"id": "odd", "name": "odd", "url": "{server.url}"}}')
        assert (await command("register", str(file), "--facade", asked.url)).code == 0
        await asked.until_status("odd", "healthy", 15)
        ended = await command("tools", "--facade", asked.url)
        assert "$(touch x)" in ended.out
        assert "\\x1b[2J" in ended.out
        assert await tab(asked.url, "call", "") == ["fine-tool", "tool-0", "tool-1", "tool-2"]


@pytest.mark.parametrize(
    ("shell", "says"),
    [
        ("bash", "complete -o default"),
        ("zsh", "#compdef mcp-discovery"),
        ("fish", "complete --com"),
    ],
)
async def test_completion_for_each_shell(shell: str, says: str) -> None:
    ended = await bash("mcp-discovery", _MCP_DISCOVERY_COMPLETE=f"source_{shell}")
    assert ended.code == 0
    assert says in ended.out


async def test_zsh_and_fish_are_answered(here: Cluster) -> None:
    told = {
        "MCP_DISCOVERY_FACADE": here.facade.url,
        "_TYPER_COMPLETE_ARGS": "mcp-discovery call ec",
    }
    ended = await bash("mcp-discovery", _MCP_DISCOVERY_COMPLETE="complete_zsh", **told)
    assert ended.out.strip() == """_arguments '*: :(("echo"))'"""
    told |= {"_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    ended = await bash("mcp-discovery", _MCP_DISCOVERY_COMPLETE="complete_fish", **told)
    assert ended.out.strip() == "echo"


async def test_it_is_installed_for_bash(here: Cluster, tmp_path: Path) -> None:
    # The command looks for the shell among its own parents: bash has to wait for it.
    ended = await bash("mcp-discovery --install-completion; exit $?", HOME=str(tmp_path))
    assert ended.code == 0, ended
    script = f"""
    source {tmp_path}/.bashrc
    complete -p mcp-discovery
    {TAB.partition("COMP_WORDS")[1]}{TAB.partition("COMP_WORDS")[2]}
    """
    told = {"HOME": str(tmp_path), "MCP_DISCOVERY_FACADE": here.facade.url}
    ended = await bash(script, "mcp-discovery", "call", "sho", **told)
    assert ended.out.splitlines()[1:] == ["shout"], ended


async def test_help_names_what_can_be_done() -> None:
    ended = await command("--help")
    for word in ("tools", "call", "describe", "export", "import", "doctor", "--install-completion"):
        assert word in ended.out
    for word in ("7 the tool answered", "8 no answer", "130 Ctrl-C"):
        assert word in " ".join(ended.out.split())

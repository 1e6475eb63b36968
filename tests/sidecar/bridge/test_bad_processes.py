"""What a sidecar's process does with a command that speaks stdio: signals, exit codes, orphans."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from mcp import Client

from tests.sidecar.bridge.test_bad_servers import SERVER, gone
from tests.sidecar.test_process import Process, running
from tests.stores.waiting import until

pytestmark = pytest.mark.slow


def settings(*command: str, **more: Any) -> dict[str, Any]:
    return {"command": command, "name": "bad", "child_grace": 1.0, **more}


async def url_of(process: Process) -> str:
    await process.wrote("seen healthy")
    found = re.search(r"advertising (\S+)", process.output)
    assert found is not None
    return found[1]


async def call(url: str, tool: str) -> Any:
    async with asyncio.timeout(15), Client(url) as client:
        result = await client.call_tool(tool, {})
        return json.loads(result.content[0].text)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (["no-such-command-anywhere"], 127, "command not found"),
        (["/etc/passwd"], 126, "is not executable"),
        (["npx -y server-memory"], 127, "no such program; give its arguments as words of their"),
        (["cat"], 1, "bad refuses to speak MCP"),
        (
            ["sh", "-c", "echo no key >&2; exit 3"],
            3,
            "before it spoke MCP, bad ended with exit code 3: no key; see which arguments it "
            "wants, and which variables: it is given those that --env names",
        ),
        (
            ["sh", "-c", "echo 'Usage: it [-h]'; echo ' -h help'"],
            1,
            "before it spoke MCP, bad ended with exit code 0; it printed 'Usage: it [-h]'; see",
        ),
        (["sh", "-c", "echo npm error code E404 >&2; exit 1"], 1, "there is no such package"),
        (["sh", "-c", "test -t 0 || { echo stdin is no tty >&2; exit 1; }"], 1, "no terminal"),
        (["sh", "-c", "kill -9 $$"], 137, "before it spoke MCP, bad was ended by SIGKILL"),
    ],
    ids=[
        "missing",
        "no program",
        "quoted",
        "echo",
        "no key",
        "usage",
        "package",
        "terminal",
        "killed",
    ],
)
async def test_a_command_that_never_spoke(
    tmp_path: Path, command: list[str], code: int, said: str
) -> None:
    with running(settings(*command), tmp_path) as process:
        assert await process.code(30.0) == code
        assert said in process.output
        assert "Traceback" not in process.output


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"env": ["API_KEY=secret"]}, "--env API_KEY=… shows a value to all"),
        ({"env": ["SURELY_UNSET"]}, "--env SURELY_UNSET: it is not set here; set it"),
        ({"env_file": "/no/file"}, "cannot read /no/file: No such file or directory"),
        ({"cwd": "/no/folder"}, "'/no/folder' is no directory to run the command in"),
        ({"memory_max": 512}, "--memory-max 512 bytes is too little; write 512m or 2g"),
        ({"url": "http://127.0.0.1:1/mcp", "cwd": "/"}, "--cwd is for a command that speaks stdio"),
    ],
)
async def test_wrong_settings(tmp_path: Path, wrong: dict[str, Any], said: str) -> None:
    with running(settings(*SERVER, **wrong), tmp_path) as process:
        await process.code(30.0)
        assert said in process.output
        assert "secret" not in process.output
        assert "started" not in process.output


async def test_passes_signals_on_but_the_one_for_its_own_files(tmp_path: Path) -> None:
    with running(settings(*SERVER, "catches-signals"), tmp_path) as process:
        await process.wrote("seen healthy")
        for number in signal.SIGHUP, signal.SIGUSR1:
            process.process.send_signal(number)
        await process.wrote(f"bad: caught {signal.SIGUSR1.value}")
        assert f"caught {signal.SIGHUP.value}\n" not in process.output
        assert "seen down" not in process.output


async def test_what_was_started_ends_with_the_sidecar(tmp_path: Path) -> None:
    with running(settings(*SERVER, "ignores-sigterm", drain=0.0), tmp_path) as process:
        url = await url_of(process)
        server = (await call(url, "environment"))["pid"]
        left = [server, *await call(url, "start-worker"), int(await call(url, "orphan"))]
        process.process.terminate()
        assert await process.code(10.0) == 0
        for pid in left:
            assert not Path(f"/proc/{pid}").exists()


async def test_what_was_started_ends_with_its_server(tmp_path: Path) -> None:
    with running(settings(*SERVER), tmp_path) as process:
        url = await url_of(process)
        left = [*await call(url, "start-worker"), int(await call(url, "orphan"))]
        server = (await call(url, "environment"))["pid"]
        with pytest.raises(ExceptionGroup):
            await call(url, "crash")
        await process.wrote("seen down ended with exit code 7: Error: it broke")
        for pid in left:
            await gone(pid)

        async def again() -> bool:
            return process.output.count("seen healthy") == 2

        await until(again, timeout=15, what="its next process")
        assert (await call(url, "environment"))["pid"] != server


async def test_what_a_session_started_ends_with_its_process(tmp_path: Path) -> None:
    with running(settings(*SERVER, sessions="each"), tmp_path) as process:
        url = await url_of(process)
        async with asyncio.timeout(30), Client(url, mode="legacy") as client:
            left = []
            for tool in ("start-worker", "orphan"):
                result = await client.call_tool(tool, {})
                found = json.loads(result.content[0].text)  # type: ignore[union-attr]
                left += found if isinstance(found, list) else [found]
            assert all(Path(f"/proc/{pid}").exists() for pid in left)
        for pid in left:
            await gone(pid)
        assert await call(url, "environment")  # the process that all share was not touched


async def test_what_cannot_be_passed_on_is_an_error(tmp_path: Path) -> None:
    with running(settings(*SERVER), tmp_path) as process:
        url = await url_of(process)
        for tool, said in (("deep", "is not JSON"), ("rather-deep", "is nested too deeply")):
            request = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": tool}}
            headers = {"Accept": "application/json, text/event-stream"}
            initialize = {
                "jsonrpc": "2.0",
                "id": 1,
                "method": "initialize",
                "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {}},
            }
            async with aiohttp.ClientSession() as http:
                async with http.post(url, json=initialize, headers=headers) as begun:
                    headers["Mcp-Session-Id"] = begun.headers["Mcp-Session-Id"]
                async with http.post(url, json=request, headers=headers) as response:
                    assert said in await response.text()


async def test_a_killed_sidecar_leaves_no_server(tmp_path: Path) -> None:
    # Its worker has its input and output, and ends as these do.
    script = f"{sys.executable} {SERVER[1]}; :"
    with running(settings("sh", "-c", script), tmp_path) as process:
        url = await url_of(process)
        server = (await call(url, "environment"))["pid"]
        process.process.kill()
        await gone(server)

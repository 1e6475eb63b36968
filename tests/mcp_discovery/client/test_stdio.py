"""Commands that the library starts: what they say of themselves, their variables, their end."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from mcp_discovery import Discovery, NoReplicaError
from mcp_discovery.program import INHERITED
from tests.programs import ROOT, AskedFacade, facade
from tests.stores.waiting import until

HANDMADE = ("-m", "tests.servers.stdio")


@pytest.fixture
async def asked(tmp_path: Path) -> AsyncIterator[AskedFacade]:
    async with facade(tmp_path, "embedded:") as found:
        yield found


async def discovery(asked: AskedFacade, *args: str, command: str = sys.executable) -> Discovery:
    """What may start one command, which is registered as ``local``."""
    endpoint = {"command": command, "args": args}
    body = {"id": "local", "name": "local", "endpoint": endpoint, "capabilities": ["add"]}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{asked.url}/connections", json=body) as response,
    ):
        assert response.status == 201, await response.text()
    environment = {"PYTHONPATH": str(ROOT), "GIVEN": "x"}
    return Discovery(asked.url, allow_stdio=["local"], environment=environment, patience=0.2)


async def test_its_log_goes_to_ours_and_not_to_the_terminal(
    asked: AskedFacade, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO, "mcp_discovery")
    capfd.readouterr()
    expected = {
        "local: got tools/call red",
        "local: no message on its output: Handmade server, listening",
    }

    async def is_said() -> bool:
        return expected <= {each.getMessage() for each in caplog.records}

    async with await discovery(asked, *HANDMADE, "chatty", "banner") as found:
        assert not (await found.call("add", {})).is_error
        await until(is_said, timeout=10, what="what it says")
    said = [each for each in caplog.records if each.getMessage().startswith("local: ")]
    assert {each.levelno for each in said} == {logging.INFO}
    captured = capfd.readouterr()
    assert "got" not in captured.err + captured.out


async def test_it_is_given_few_variables(
    asked: AskedFacade, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MCP_DISCOVERY_FACADE_TOKEN", "ours")
    async with await discovery(asked, *HANDMADE) as found:
        (content,) = (await found.call("add", {})).content
    names = {*getattr(content, "text", "").split()}
    assert {"PATH", "GIVEN", "PYTHONPATH"} <= names
    assert names <= {*INHERITED, "GIVEN", "PYTHONPATH", "LC_CTYPE"}


@pytest.mark.parametrize(
    ("command", "args", "says"),
    [
        ("sh", ("-c", "echo no key >&2; exit 3"), "its command ended with exit code 3: no key"),
        ("sh", ("-c", "kill -9 $$"), "its command was ended by SIGKILL"),
        ("no-such-command", (), "'no-such-command': command not found"),
    ],
)
async def test_why_it_ended_is_in_the_error(
    command: str, args: tuple[str, ...], says: str, asked: AskedFacade
) -> None:
    async with await discovery(asked, *args, command=command) as found:
        with pytest.raises(NoReplicaError) as raised:
            await found.call("add", {})
    assert says in str(raised.value)


async def test_it_ends_with_the_client(asked: AskedFacade, tmp_path: Path) -> None:
    file = tmp_path / "pid"
    line = f"echo $$ > {file}; trap '' TERM; {sys.executable} {' '.join(HANDMADE)}; :"
    async with await discovery(asked, "-c", line, command="sh") as found:
        assert not (await found.call("add", {})).is_error
        pid = int(file.read_text())
        os.kill(pid, 0)
    assert not Path(f"/proc/{pid}").exists()


async def test_one_that_ends_at_the_modern_question_is_asked_in_the_other_era(
    asked: AskedFacade,
) -> None:
    async with await discovery(asked, *HANDMADE, "ends-at-discover") as found:
        assert not (await found.call("add", {})).is_error

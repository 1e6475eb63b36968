"""MCP servers that mean harm: the sidecar beside one stays small, quiet and registered."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.faults.hostile.processes import FacadeProcess, Program, facade, measured, program
from tests.servers.process import McpServer, odd
from tests.stores.waiting import until

_INTERVAL = 1.0
#: What a server does, and what of it the log says; ``None``: that it changed, and no more.
_HARM: Mapping[str, tuple[dict[str, Any], str]] = {
    "gigabytes": ({"huge": 4 * 2**30, "delay_method": "tools/list"}, "more than"),
    "endless pages": ({"endless": True}, "over the limit|pages|no answer within"),
    "a loop of cursors": ({"cursor_loop": True}, "twice, so it never ends"),
    "deep and mistyped items": (
        {"items": json.dumps([1, None, {"name": ["a"]}, {"name": "a" * 10_000}])},
        "dropped an item",
    ),
    "errors for ever": ({"error": -32603, "delay_method": "tools/list"}, "tools/list"),
    "garbage": ({"garbage": True, "delay_method": "tools/list"}, "not MCP|not JSON"),
}


@dataclass
class Line:
    """A facade, a server that means harm, and one that does not, each with its sidecar."""

    at: FacadeProcess
    evil: McpServer
    watcher: Program
    fine: McpServer


def _sidecar(folder: Path, at: FacadeProcess, server: McpServer, id: str) -> Any:
    given = ("--store", at.url, "--url", server.url, "--id", id, "--name", id)
    return program(
        folder, id, "sidecar", *given, "--ttl", "6", "--probe-interval", f"{_INTERVAL:g}"
    )


@asynccontextmanager
async def _line(folder: Path) -> AsyncIterator[Line]:
    async with (
        facade(folder, "embedded:") as at,
        odd() as evil,
        odd() as fine,
        _sidecar(folder, at, evil, "evil") as watcher,
        _sidecar(folder, at, fine, "fine"),
    ):
        await at.until_listed("evil", timeout=20)
        await at.until_listed("fine", timeout=20)
        yield Line(at, evil, watcher, fine)


async def _tools(at: FacadeProcess, id: str) -> list[str]:
    found: list[str] = (await at.servers())[id]["capabilities"].get("tools", [])
    return found


async def _suffer(line: Line, number: int, wishes: dict[str, Any], said: str) -> None:
    """One harm: until it is told of, and a change of the neighbour is seen meanwhile."""
    before = len(line.watcher.lines("WARNING"))

    async def told() -> bool:
        lines = line.watcher.lines("WARNING")[before:]
        return any(each in " ".join(lines) for each in said.split("|"))

    async def seen() -> bool:
        return len(await _tools(line.at, "fine")) == number + 5

    async with (
        measured(line.watcher.pid) as meanwhile,
        measured(line.at.program.pid, f"{line.at.url}/health") as at,
    ):
        await line.evil.control(**wishes, version=f"1.0.{number}")
        await until(told, timeout=40, what=f"{said} being told")
        await line.fine.control(tools=number + 5, notify=True)
        await until(seen, timeout=5, what="the change of a neighbour")
    at.check(pause=1.5)
    meanwhile.check(megabytes=300)
    assert (await line.at.servers())["fine"]["status"] == "healthy"
    assert len(line.watcher.lines("WARNING")) - before <= 5, line.watcher.lines("WARNING")


@pytest.mark.asyncio
async def test_what_a_server_answers_is_bounded_and_told_of_once(tmp_path: Path) -> None:
    async with _line(tmp_path) as line:
        for number, (wishes, said) in enumerate(_HARM.values()):
            await _suffer(line, number, wishes, said)
            harmless = {name: type(value)() for name, value in wishes.items()}
            await line.evil.control(**harmless)
            await line.at.until_listed("evil")
        await line.watcher.quiet(2, most=4)
        assert not line.watcher.lines("Traceback")


@pytest.mark.asyncio
@pytest.mark.soak
async def test_a_server_that_changes_at_every_call_does_not_fill_the_store(tmp_path: Path) -> None:
    async with _line(tmp_path) as line:
        await line.evil.control(churn=True)

        async def settled() -> bool:
            return bool(line.watcher.lines("changes are registered 15 s apart"))

        await until(settled, timeout=25, what="the sidecar having had enough")
        at_first = await _tools(line.at, "evil")
        async with measured(line.watcher.pid) as meanwhile:
            await line.watcher.quiet(4)
        meanwhile.check(megabytes=50)
        assert await _tools(line.at, "evil") == at_first
        assert len(line.watcher.lines("changed:")) <= 10
        await line.evil.control(churn=False)
        # What it offers in the end is registered all the same.

        async def registered() -> bool:
            return await _tools(line.at, "evil") == ["tool-0", "tool-1", "tool-2"]

        await until(registered, timeout=20, what="its last tools being registered")
        assert (await line.at.servers())["fine"]["status"] == "healthy"

"""Servers that behave badly: what their clients are told, and that the next process is there."""

from __future__ import annotations

import asyncio
import json
import math
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from mcp_discovery.mcp_messages import INVALID_PARAMS, JsonRpcError, encoded
from mcp_discovery.program import INHERITED, Program
from mcp_discovery.sidecar.bridge import bridge as bridges
from mcp_discovery.sidecar.bridge.bridge import Bridge
from mcp_discovery.sidecar.bridge.connection import Exchange
from tests.sidecar.bridge import wire
from tests.stores.waiting import until

pytestmark = pytest.mark.slow

SERVER = (sys.executable, str(Path(__file__).with_name("bad_server.py")))
PROGRAM = Program(command=SERVER, grace=1.0)


@asynccontextmanager
async def bridged(program: Program = PROGRAM) -> AsyncIterator[Bridge]:
    """A bridge whose process has been greeted."""
    bridge = Bridge(program, "bad")
    async with bridge.running():
        await spoken(bridge)
        yield bridge
    assert not bridge._children


async def spoken(bridge: Bridge) -> None:
    """Waits until ``bridge`` can be asked."""

    async def there() -> bool:
        return bridge.why_not is None

    await until(there, timeout=15, what="its being greeted")


async def call(bridge: Bridge, tool: str) -> dict[str, Any]:
    """What a tool answers."""
    async with asyncio.timeout(30):
        return await bridge.spoken().connection.request("tools/call", {"name": tool})


async def text(bridge: Bridge, tool: str) -> str:
    found = (await call(bridge, tool))["content"][0]["text"]
    assert isinstance(found, str)
    return found


async def down(bridge: Bridge, within: float = 5) -> str:
    """Waits until it cannot be asked, and says why."""

    async def not_there() -> str | None:
        return bridge.why_not

    found = await until(not_there, timeout=within, what="its being down")
    assert found
    return found


async def gone(pid: int) -> None:
    """Waits until a process has ended; its parent may not have waited for it yet."""

    async def ended() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            return True

    await until(ended, timeout=10, what=f"the end of {pid}")


@pytest.mark.parametrize(
    ("tool", "said"),
    [
        ("crash", "ended with exit code 7: Error: it broke"),
        ("crash-with-worker", "ended with exit code 5: Error: it broke"),
        ("raise-error", "ended with exit code 1: ValueError: no such thing"),
        ("close-output", "closed its output and was ended"),
    ],
)
async def test_a_request_under_way_and_the_reason_say_how_it_ended(tool: str, said: str) -> None:
    async with bridged() as bridge:
        with pytest.raises(JsonRpcError) as raised:
            await call(bridge, tool)
        assert raised.value.message == f"the MCP server {said}"
        assert await down(bridge) == said
        await spoken(bridge)
        assert bridge.restarts == 1


async def test_pauses_grow_between_processes_that_end(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(bridges, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(bridges, "_LONGEST_PAUSE", 0.05)

    def took(record: Any) -> bool:
        if "starting it again in" in record.msg:
            slept.append(record.args[-1])
        return True

    bridges.log.addFilter(took)
    try:
        bridge = Bridge(Program(command=("sh", "-c", "exit 3")), "bad")
        async with bridge.running():

            async def often() -> bool:
                return len(slept) >= 5

            await until(often, timeout=15, what="five ends")
    finally:
        bridges.log.removeFilter(took)
    assert slept[:5] == [0.01, 0.02, 0.04, 0.05, 0.05]


@pytest.mark.parametrize(
    ("tool", "found"),
    [
        ("split", {"text": "ö✓𝄞"}),
        ("odd-text", {"text": "odd"}),
        ("latin", {"text": "sch\ufffdn", "big": 10**30}),
        ("factorial", {"number": -(math.factorial(30)), "digits": "1" * 40, "part": 0.5}),
    ],
)
async def test_what_is_read_as_it_is_meant(tool: str, found: dict[str, Any]) -> None:
    async with bridged() as bridge:
        assert await call(bridge, tool) == found
        assert bridge.restarts == 0


@pytest.mark.parametrize(
    ("tool", "said"), [("huge", "is over 67108864 bytes"), ("deep", "is not JSON")]
)
async def test_an_answer_that_is_not_read_is_an_error(tool: str, said: str) -> None:
    async with bridged() as bridge:
        with pytest.raises(JsonRpcError) as raised:
            await call(bridge, tool)
        assert raised.value.message == f"the answer of the MCP server {said}"
        assert len((await call(bridge, "large"))["text"]) == 8 * 2**20
        assert bridge.restarts == 0


async def test_a_last_answer_needs_no_end_of_its_line() -> None:
    async with bridged() as bridge:
        found = await call(bridge, "last-words")
    assert found == {"text": "half \ud83d"}
    assert encoded(found) == rb'{"text": "half \ud83d"}'


async def test_noise_is_skipped_and_logged_in_bounds(caplog: pytest.LogCaptureFixture) -> None:
    async with bridged() as bridge:
        assert await text(bridge, "noise") == "after noise"
        assert await text(bridge, "two-answers") == "first"
        assert await text(bridge, "noise") == "after noise"
    said = [each.getMessage() for each in caplog.records]
    assert "bad: no message on its output: not JSON at all" in said
    assert len(said) < 800
    assert sum(int(each.split()[1]) for each in said if each.endswith("are left out")) > 39_000


async def test_a_flood_in_its_log_fills_nothing_and_holds_nothing_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with bridged() as bridge:
        loop, slowest = asyncio.get_running_loop(), 0.0
        calling = asyncio.create_task(call(bridge, "flood-log"))
        while not calling.done():
            before = loop.time()
            await asyncio.sleep(0.001)
            slowest = max(slowest, loop.time() - before)
        await calling
        assert slowest < 0.3  # of a busy machine; it is some 5 ms
        lines = [each.getMessage() for each in caplog.records if "xxx" in each.getMessage()]
        assert 100 < len(lines) < 1000
        assert max(map(len, lines)) < 1100
        assert await text(bridge, "environment")


async def test_messages_without_sense_are_dropped() -> None:
    async with bridged() as bridge:
        assert await text(bridge, "cancels-and-asks") == "asked"
        assert await text(bridge, "two-answers") == "first"
        assert bridge.restarts == 0


async def test_a_command_that_prints_without_end_is_read_at_leisure() -> None:
    bridge = Bridge(replace(PROGRAM, command=("yes",)), "bad")
    async with bridge.running():
        began, used = time.monotonic(), time.process_time()
        await asyncio.sleep(2)
        assert time.process_time() - used < (time.monotonic() - began) / 2


async def test_a_command_that_repeats_what_it_is_sent_is_no_server() -> None:
    bridge = Bridge(replace(PROGRAM, command=("cat",)), "bad", gives_up=True)
    async with bridge.running(), asyncio.timeout(10):
        assert await bridge.given_up() == 1
        assert bridge.why_not is not None
        assert bridge.why_not.startswith("refuses to speak MCP (")


async def test_it_may_ask_before_it_is_asked() -> None:
    async with bridged(replace(PROGRAM, command=(*SERVER, "asks-first"))) as bridge:
        assert await text(bridge, "environment")


@pytest.mark.parametrize(
    ("tool", "said"),
    [
        ("stop", "answered nothing for 2 s and was ended"),
        ("spin", "answered nothing for 2 s and was ended"),
        ("close-input", "closed its input and was ended"),
    ],
)
async def test_one_that_hangs_is_started_anew(tool: str, said: str) -> None:
    async with bridged(replace(PROGRAM, restart_after=2.0)) as bridge:
        assert await text(bridge, tool)
        assert await down(bridge, within=10) == said
        await spoken(bridge)


async def test_one_that_works_has_longer() -> None:
    async with bridged(replace(PROGRAM, restart_after=1.0)) as bridge:
        client = cast(Exchange, object())  # whom nothing is said to
        with pytest.raises(JsonRpcError, match="answered nothing for 5 s"):
            async with asyncio.timeout(20):
                connection = bridge.spoken().connection
                await connection.request("tools/call", {"name": "wait"}, client)


@pytest.mark.parametrize(
    ("limits", "tool", "said"),
    [
        ({"memory_max": 100 * 2**20}, "take-memory", "used more than 100 MiB of memory"),
        ({"cpu_seconds": 1.0}, "spin", "used more than 1 s of processor time"),
    ],
)
async def test_one_that_takes_too_much_is_ended(
    limits: dict[str, Any], tool: str, said: str
) -> None:
    async with bridged(replace(PROGRAM, **limits)) as bridge:
        assert await text(bridge, tool)
        assert await down(bridge, within=15) == f"{said} and was ended"
        await spoken(bridge)


async def test_a_daemon_that_answers_is_the_server() -> None:
    async with bridged() as bridge:
        assert await text(bridge, "become-daemon") == "a daemon"
        pid = json.loads(await text(bridge, "environment"))["pid"]
        await asyncio.sleep(4)  # longer than a daemon has that does not answer
        assert json.loads(await text(bridge, "environment"))["pid"] == pid
        assert bridge.restarts == 0
    await gone(pid)


async def test_a_daemon_that_is_mute_is_none() -> None:
    async with bridged() as bridge:
        with pytest.raises(JsonRpcError) as raised:
            await call(bridge, "leave-mute-daemon")
        assert raised.value.message == "the MCP server ended with exit code 0"
        await spoken(bridge)


async def test_it_is_given_few_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCP_DISCOVERY_STORE_TOKEN", "ours")
    monkeypatch.setenv("OTHERS", "theirs")
    file = tmp_path / "its.env"
    file.write_text("# remark\nFILED=1\nBOTH=file\n")
    program = replace(PROGRAM, env={"BOTH": "given"}, env_file=str(file), cwd=str(tmp_path))
    async with bridged(program) as bridge:
        found = json.loads(await text(bridge, "environment"))
        assert found["cwd"] == str(tmp_path)
        env = found["env"]
        assert env.keys() <= {*INHERITED, "FILED", "BOTH", "LC_CTYPE"}
        assert (env["FILED"], env["BOTH"]) == ("1", "given")
        file.write_text("FILED=2\n")
        with pytest.raises(JsonRpcError):
            await call(bridge, "crash")
        await down(bridge)
        await spoken(bridge)
        assert json.loads(await text(bridge, "environment"))["env"]["FILED"] == "2"
        file.write_text("\nFILED\n")
        with pytest.raises(JsonRpcError):
            await call(bridge, "crash")
        await until(_says(bridge, f"{file}:2: is no NAME=VALUE"), timeout=10, what="the reason")


def _says(bridge: Bridge, reason: str) -> Callable[[], Any]:
    async def said() -> bool:
        return bridge.why_not == reason

    return said


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (
            "serves-http",
            "it seems to serve HTTP by itself: give its URL, such as --url "
            "http://127.0.0.1:3001/mcp; its last line: Server listening on "
            "http://127.0.0.1:3001/mcp",
        ),
        (
            "logs-in",
            "it may wait for a login or a terminal: run it by hand once; its last line: Open "
            "https://login.example/device and enter ABCD",
        ),
    ],
)
async def test_one_that_does_not_begin_says_what_it_waits_for(
    fault: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridges, "_HINTED_AFTER", 0.5)
    monkeypatch.setattr(bridges, "_PATIENCE", 1.0)
    bridge = Bridge(replace(PROGRAM, command=(*SERVER, fault)), "bad")
    async with bridge.running():
        waited = "0.5" if fault == "serves-http" else "1"
        reason = f"started, but has not answered initialize for {waited} s; {said}"
        await until(_says(bridge, reason), timeout=10, what=reason)


@pytest.mark.parametrize(
    ("tool", "times"), [("crash", 200), ("start-worker", 100), ("crash-with-worker", 20)]
)
async def test_many_starts_and_ends_leave_nothing(tool: str, times: int) -> None:
    def used() -> tuple[int, int]:
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        return len(os.listdir("/proc/self/fd")), len(children)

    workers: list[int] = []
    async with bridged() as bridge:

        async def one() -> None:
            async with bridge.own_process({}, {"name": "c", "version": "1"}, "2025-11-25") as own:
                with suppress(JsonRpcError):
                    async with asyncio.timeout(20):
                        found = await own.connection.request("tools/call", {"name": tool})
                    workers.extend(json.loads(found["content"][0]["text"]))

        await one()
        before, tasks = used(), len(asyncio.all_tasks())
        for _ in range(times // 4):
            await asyncio.gather(*(one() for _ in range(4)))

        async def nothing_more() -> bool:
            now, least = (*used(), len(asyncio.all_tasks())), (*before, tasks)
            return all(one <= other for one, other in zip(now, least, strict=True))

        await until(nothing_more, timeout=5, what=f"{before} and {tasks}, and not {used()}")
        for pid in workers:
            await gone(pid)


async def test_a_modern_server_that_talks_nonsense() -> None:
    server = (sys.executable, "-m", "tests.sidecar.bridge.nonsense_server")
    questions: list[Any] = [[1], "x", {"a": 5}, {"a": {"method": ["roots/list"]}}]
    agreements = ("[1]", "5", '{"resourceSubscriptions": 5}', '{"resourceSubscriptions": [[]]}')
    async with wire.bridged(*server) as bridge, wire.client(bridge, roots={}) as one:
        for asked in questions:
            answer = await one.call("ask", asked=asked)
            assert answer.status == 200, asked
            assert answer.content["error"]["message"].startswith("the MCP server"), asked
        for uri in agreements:
            answer = await one.ask("resources/subscribe", uri=uri)
            assert answer.content["error"]["code"] == INVALID_PARAMS, uri

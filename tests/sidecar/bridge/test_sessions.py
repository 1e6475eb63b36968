"""Sessions with a process of their own, how many there may be, and when each of them ends."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from tests.sidecar.bridge.wire import (
    Bridged,
    WireClient,
    bridged,
    client,
    events,
    listening,
)
from tests.stores.waiting import bounded, until, until_holds

pytestmark = pytest.mark.slow

ROOTS = {"roots": [{"uri": "file:///here"}]}


async def test_whose_client_can_be_asked_has_a_process_of_its_own() -> None:
    async with bridged() as bridge, client(bridge) as one, client(bridge) as two:
        shared = (await one.call("pid")).text
        assert (await two.call("pid")).text == shared
        async with client(bridge, roots={}) as three, client(bridge, sampling={}) as four:
            pids = {(await each.call("pid")).text for each in (three, four)}
            assert len(pids | {shared}) == 3
            await four.end()
            await bridge.until_processes(2)


@pytest.mark.parametrize(("each", "processes"), [(True, 3), (False, 1)])
async def test_the_choice_can_be_made_for_all(each: bool, processes: int) -> None:
    async with bridged(each=each) as bridge, client(bridge), client(bridge, roots={}):
        assert len(bridge.processes) == processes


@pytest.mark.parametrize("each", [None, False])
async def test_the_client_is_asked_by_the_response_to_its_request(each: bool | None) -> None:
    async with bridged(each=each) as bridge, client(bridge, roots={}) as one:
        message = one.calling("roots")
        async with one.http.post(one.url, json=message, headers=one.headers) as response:
            seen = events(response)
            asked = await anext(each async for each in seen if each.data)
            assert asked.data["method"] == "roots/list"
            answer = {"jsonrpc": "2.0", "id": asked.data["id"], "result": ROOTS}
            assert (await one.send(answer)).status == 202
            last = await anext(each async for each in seen if each.data)
            assert "file:///here" in last.data["result"]["content"][0]["text"]


async def test_what_the_client_says_reaches_its_process_alone() -> None:
    async with (
        bridged() as bridge,
        client(bridge, roots={}) as one,
        client(bridge, roots={}) as two,
    ):
        await one.notify("notifications/roots/list_changed")
        message = one.calling("wait", seconds=20)
        waiting = asyncio.create_task(one.send(message))
        await one.call("pid")
        await one.notify("notifications/cancelled", requestId=message["id"])
        await bounded(waiting, 5)
        seen = (await one.call("seen")).text
        assert "roots/list_changed" in seen and "notifications/cancelled" in seen
        assert "roots/list_changed" not in (await two.call("seen")).text


async def test_a_session_ends_with_its_process() -> None:
    async with bridged(each=True) as bridge, client(bridge) as one, client(bridge) as two:
        waiting = asyncio.create_task(one.call("wait", seconds=30))
        await one.call("pid")
        answer = await one.call("end", code=9)
        for each in (answer, await bounded(waiting, 5)):
            assert "exit code 9" in each.content["error"]["message"]
        await bridge.until_sessions(1)
        assert (await one.call("pid")).status == 404
        assert (await two.call("pid")).status == 200


async def test_one_over_the_limit_is_refused_and_one_that_left_makes_room() -> None:
    async with bridged(each=True, most_own=2) as bridge, client(bridge) as one:
        two, three = WireClient(bridge.url), WireClient(bridge.url)
        await two.begin()
        refused = await three.begin()
        assert (refused.status, refused.headers["Retry-After"]) == (503, "5")
        assert "2 sessions with a process" in refused.content["error"]["message"]
        await two.leave()
        await bridge.until_absent(1)
        assert (await three.begin()).status == 200
        assert len(bridge) == 2
        assert (await one.call("pid")).status == 200
        await bridge.until_processes(3)
        await three.end()
        await three.begin()
        assert (await three.call("pid")).status == 200
        await three.leave()


async def test_shared_ones_are_limited_as_well() -> None:
    async with bridged(most=2) as bridge, client(bridge), client(bridge) as two:
        three = WireClient(bridge.url)
        waiting = asyncio.create_task(two.call("wait", seconds=60))  # which holds no place for it
        await two.call("pid")
        assert (await three.begin()).status == 503
        await two.leave()
        await asyncio.wait({waiting})
        waiting.exception()
        await bridge.until_absent(1)
        assert (await three.begin()).status == 200
        await three.leave()


async def test_a_client_that_is_gone_frees_its_process() -> None:
    async with bridged(each=True, grace=0.3, long_grace=0.8) as bridge:
        async with client(bridge) as one:
            async with listening(one):
                await bridge.until_processes(2)
            async with listening(one):  # it comes back in time
                await asyncio.sleep(0.5)
                assert len(bridge) == 1
        await bridge.until_processes(1, within=2)
        silent = WireClient(bridge.url)  # it opens no stream, so that nothing can be said of it
        await silent.begin()
        await silent.http.close()
        silent.http = WireClient(bridge.url).http
        await asyncio.sleep(0.5)
        assert (await silent.call("pid")).status == 200
        await silent.leave()
        await bridge.until_processes(1, within=3)


async def test_a_client_that_is_gone_in_the_middle_of_a_call() -> None:
    async with bridged(each=True, grace=0.3, long_grace=0.3) as bridge, client(bridge) as one:
        waiting = asyncio.create_task(one.call("wait", seconds=60))
        await one.call("pid")
        await one.leave()
        await asyncio.wait({waiting})
        waiting.exception()
        await bridge.until_sessions(0, within=2)
        await bridge.until_processes(1)


async def test_idle_ones_end() -> None:
    async with (
        bridged(idle=0.4) as bridge,
        client(bridge) as one,
        client(bridge) as two,
        listening(two),
    ):
        await bridge.until_sessions(1, within=3)
        assert (await one.call("pid")).status == 404
        assert (await two.call("pid")).status == 200


async def test_an_initialize_that_fails_or_is_left_leaves_nothing(tmp_path: Path) -> None:
    slow = tmp_path / "slow.py"
    slow.write_text(
        "import os, sys, time\n"
        "from tests.sidecar.bridge.many_sided_server import Server\n"
        "import json\n"
        "server = Server()\n"
        "for line in sys.stdin:\n"
        "    message = json.loads(line)\n"
        "    name = message.get('params', {}).get('clientInfo', {}).get('name')\n"
        "    if message.get('method') == 'initialize' and name == 'wire':\n"
        "        if 'roots' in message['params']['capabilities']:\n"
        "            sys.exit(4)\n"
        "        time.sleep(60)\n"
        "    server.take(message)\n"
    )
    async with bridged(sys.executable, str(slow), each=True) as bridge:
        one = WireClient(bridge.url)
        answer = await one.begin(roots={})
        assert "exit code 4" in answer.content["error"]["message"]
        await bridge.until_processes(1)
        waiting = asyncio.create_task(one.begin())
        await bridge.until_processes(2)
        waiting.cancel()
        await asyncio.wait({waiting})
        await bridge.until_processes(1)
        assert len(bridge) == 0
        await one.leave()


async def _deleted(bridge: Bridged) -> None:
    async with client(bridge) as one:
        await one.call("pid")
        await one.end()


async def _listened(bridge: Bridged) -> None:
    async with client(bridge) as one, listening(one):
        await one.call("pid")


async def _greeted(bridge: Bridged) -> None:
    async with client(bridge):
        pass


async def _called(bridge: Bridged) -> None:
    async with client(bridge) as one:
        waiting = asyncio.create_task(one.call("wait", seconds=60))
        await one.call("pid")
    await asyncio.wait({waiting})
    waiting.exception()


@pytest.mark.parametrize("each", [False, True])
async def test_nothing_is_left_of_sessions_that_were_opened_and_dropped(each: bool) -> None:
    drops: tuple[Callable[[Bridged], Awaitable[None]], ...] = (
        *(_deleted, _listened, _greeted, _called),
    )
    times = 5 if each else 50
    limits = {"each": each, "grace": 0.2, "long_grace": 0.2, "idle": 0.5}
    async with bridged(**limits) as bridge:

        async def drop_all(times: int) -> None:
            for _ in range(times):
                await asyncio.gather(*(each(bridge) for each in drops))
            await bridge.until_sessions(0, within=10)
            await bridge.until_processes(1, within=30)
            # A call ends with its session, and the process has to take its cancellation.
            shared = bridge.bridge.spoken().connection
            await until_holds(lambda: not shared.exchanges, timeout=10, what="the end of all calls")

        def left() -> tuple[int, int]:
            gc.collect()
            return psutil.Process().num_fds(), len(asyncio.all_tasks())

        await drop_all(2)
        before = left()
        await drop_all(times)

        async def no_more() -> bool:
            return all(now <= then for now, then in zip(left(), before, strict=True))

        await until(no_more, timeout=5, what=f"{before}, and not {left()}")

"""Sessions that share a process: each gets what is for it, and nothing else."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from tests.sidecar.bridge.wire import Bridged, Event, WireClient, bridged, client, listening
from tests.stores.waiting import bounded

pytestmark = pytest.mark.slow


async def told(queue: asyncio.Queue[Event]) -> dict[str, Any]:
    event = await bounded(queue.get(), 5)
    assert isinstance(event.data, dict)
    return event.data


async def silent(*queues: asyncio.Queue[Event], after: WireClient) -> bool:
    """Whether nothing came by when the process has answered another call."""
    await after.call("pid")
    return all(each.empty() for each in queues)


async def test_requests_with_the_same_ids_are_not_mixed() -> None:
    async with bridged() as bridge, client(bridge) as one, client(bridge) as two:
        calls = [
            who.send(
                {
                    "jsonrpc": "2.0",
                    "id": 7 if number == 0 else f"a{number}",
                    "method": "tools/call",
                    "params": {
                        "name": "wait",
                        "arguments": {"seconds": 0.2, "text": f"{name}-{number}"},
                    },
                }
            )
            for number in range(10)
            for who, name in ((one, "one"), (two, "two"))
        ]
        answers = await asyncio.gather(*calls)
        expected = [f"{name}-{number}" for number in range(10) for name in ("one", "two")]
        assert [each.text for each in answers] == expected
        assert (await one.call("pid")).text == (await two.call("pid")).text


async def test_progress_and_cancellation_are_of_one_session() -> None:
    async with bridged() as bridge, client(bridge) as one, client(bridge) as two:
        first, second = await asyncio.gather(
            one.call("steps", count=2, pause=0.1), two.call("steps", count=3, pause=0.1)
        )
        for answer, number in ((first, 2), (second, 3)):
            params = [each.data["params"] for each in answer.events[:-1] if each.data]
            assert [each["progress"] for each in params] == list(range(1, number + 1))
            assert len({each["progressToken"] for each in params}) == 1
        message = one.calling("wait", seconds=20)
        waiting = asyncio.create_task(one.send(message))
        await one.call("pid")
        await two.notify("notifications/cancelled", requestId=message["id"])  # not its own
        other = asyncio.create_task(
            two.send({**two.calling("wait", seconds=0.3), "id": message["id"]})
        )
        await one.notify("notifications/cancelled", requestId=message["id"], reason="enough")
        answer = await bounded(waiting, 5)
        assert answer.content["error"]["code"] == -32800
        assert (await bounded(other, 5)).text == "waited"
        seen = orjson.loads((await one.call("seen")).text)
        cancelled = [params for method, params in seen if method == "notifications/cancelled"]
        assert [each["reason"] for each in cancelled] == ["enough"]


async def test_subscriptions_are_counted() -> None:
    async with bridged() as bridge, client(bridge) as one, client(bridge) as two:
        async with listening(one) as ones, listening(two) as twos:
            for who in (one, two):
                assert (await who.ask("resources/subscribe", uri="x://a")).content["result"] == {}
            await one.ask("resources/subscribe", uri="x://b")
            await two.call("update", uri="x://b/part")
            assert (await told(ones))["params"] == {"uri": "x://b/part"}
            await two.call("update", uri="x://beside")
            assert await silent(twos, ones, after=one)
            await one.ask("resources/unsubscribe", uri="x://a")
            await one.call("update", uri="x://a")
            assert (await told(twos))["params"] == {"uri": "x://a"}
            assert await silent(ones, after=two)
            await two.ask("resources/unsubscribe", uri="x://a")
            await one.call("change")
            for queue in (ones, twos):
                assert (await told(queue))["method"] == "notifications/tools/list_changed"
        seen = orjson.loads((await one.call("seen")).text)
        released = [params["uri"] for method, params in seen if method.endswith("unsubscribe")]
        assert released == ["x://a"]
        await one.end()
        await bridge.until_sessions(1)
        seen = orjson.loads((await two.call("seen")).text)
        assert ["resources/unsubscribe", {"uri": "x://b"}] in seen


async def test_levels_of_logs_are_kept_for_each_session() -> None:
    async with bridged() as bridge, client(bridge) as one, client(bridge) as two:
        await one.ask("logging/setLevel", level="error")
        await two.ask("logging/setLevel", level="debug")
        answer = await one.call("log", level="info", text="of one")
        assert answer.events == []
        answer = await two.call("log", level="debug", text="of two")
        assert answer.events[-2].data["params"] == {"level": "debug", "data": "of two"}
        answer = await one.call("log", level="error", text="bad")
        assert answer.events[-2].data["params"]["data"] == "bad"
        await two.end()
        await bridge.until_sessions(1)
        seen = orjson.loads((await one.call("seen")).text)
        levels = [params["level"] for method, params in seen if method == "logging/setLevel"]
        assert levels == ["error", "debug", "error"]
        assert (await one.ask("logging/setLevel", level="loud")).content.keys() >= {"result"}


@pytest.mark.parametrize("method", ["notifications/message", "notifications/acme/draft"])
async def test_what_is_said_during_a_request_reaches_its_session_alone(method: str) -> None:
    said = {"method": method, "params": {"level": "info", "data": "secret"}}
    async with (
        bridged() as bridge,
        client(bridge) as one,
        client(bridge) as two,
        listening(two) as twos,
        listening(one) as ones,
    ):
        answer = await one.call("tell", **said)
        assert answer.events[-2].data["params"]["data"] == "secret"
        assert await silent(twos, ones, after=two)
        # With requests of both it cannot be said whose it is.
        waiting = asyncio.create_task(two.call("wait", seconds=0.5))
        await two.call("pid")
        answer = await one.call("tell", **said)
        assert [each.data["method"] for each in answer.events[:-1] if each.data] == []
        assert (await waiting).text == "waited"
        assert twos.empty() and ones.empty()


async def restarted(bridge: Bridged, who: WireClient) -> None:
    before = bridge.bridge.restarts
    answer = await who.call("end", code=3)
    assert "exit code 3" in answer.content["error"]["message"]
    async with asyncio.timeout(15):
        while bridge.bridge.restarts == before or bridge.bridge.why_not is not None:
            await asyncio.sleep(0.02)


async def test_sessions_outlive_the_process_that_they_share() -> None:
    async with bridged() as bridge, client(bridge) as one:
        await one.ask("resources/subscribe", uri="x://a")
        await one.ask("logging/setLevel", level="warning")
        async with listening(one) as ones:
            await restarted(bridge, one)
            assert (await told(ones))["method"] == "notifications/tools/list_changed"
            seen = orjson.loads((await one.call("seen")).text)
            assert ["resources/subscribe", {"uri": "x://a"}] in seen
            assert ["logging/setLevel", {"level": "warning"}] in seen
            await one.call("update", uri="x://a")
            assert (await told(ones))["params"] == {"uri": "x://a"}

"""Calls: never twice where that could harm, and everything that passes through."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from mcp.client.context import ClientRequestContext
from mcp_types import ElicitRequestParams, ElicitResult, LoggingMessageNotificationParams

from mcp_discovery import Discovery, SyncDiscovery
from mcp_discovery.client.calls import OutcomeReporter
from mcp_discovery.client.source import CallOutcome, Source
from mcp_discovery.errors import (
    AmbiguousToolError,
    CallLostError,
    CallTimeoutError,
    InvalidInputError,
    NoReplicaError,
    StoreUnavailableError,
    ToolChangedError,
    UnknownToolError,
)
from mcp_discovery.instance import Instance
from tests.mcp_discovery.client.cluster import Cluster, cluster
from tests.stores.waiting import until


@pytest.fixture(scope="module", params=["both", "legacy"])
async def eras(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[str, Cluster]]:
    """Two replicas of each era that nobody harms."""
    async with cluster(tmp_path_factory.mktemp("pair")) as place:
        for id in ("a", "b"):
            await place.add(id, "--era", request.param)
        yield request.param, place


@pytest.fixture
def pair(eras: tuple[str, Cluster]) -> Cluster:
    """The cluster alone."""
    return eras[1]


def answered(result: Any) -> dict[str, Any]:
    """The structured result."""
    assert not result.is_error, result
    content = result.structured_content
    assert isinstance(content, dict)
    return content


# -- a call, and what passes through it --------------------------------------------------------


async def test_one_line_is_enough(pair: Cluster) -> None:
    async with Discovery(pair.url) as discovery:
        assert answered(await discovery.call("read", {"key": "one-line"}))["times"] == 1
        tools = {tool.name: tool for tool in await discovery.tools()}
    assert set(tools) == {"read", "write", "slow", "chat", "ask"}
    assert tools["read"].repeatable
    assert not tools["write"].repeatable
    assert tools["read"].replicas == 2
    assert tools["read"].server_id in ("a", "b")
    assert tools["read"].input_schema["required"] == ["key"]


async def test_progress_and_cancellation(pair: Cluster) -> None:
    place = pair
    seen: list[tuple[float, float | None, str | None]] = []

    async def told(progress: float, total: float | None, message: str | None) -> None:
        seen.append((progress, total, message))

    async with Discovery(place.url) as discovery:
        await discovery.call("slow", {"steps": 3}, on_progress=told)
        assert seen == [(1, 3, "step 1"), (2, 3, "step 2"), (3, 3, "step 3")]
        before = await place.total("slow:cancelled")
        seen.clear()
        call = asyncio.create_task(discovery.call("slow", {"steps": 1000}, on_progress=told))

        async def begun() -> bool:
            return bool(seen)

        await until(begun, timeout=10, what="progress")
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

        async def cancelled() -> bool:
            return await place.total("slow:cancelled") == before + 1

        await until(cancelled, timeout=10, what="the server seeing the cancellation")


async def test_logs_and_questions(eras: tuple[str, Cluster]) -> None:
    era, place = eras
    logged: list[tuple[str, Any]] = []

    async def log(server: Instance, params: LoggingMessageNotificationParams) -> None:
        logged.append((server.id, params.data))

    async def elicit(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        return ElicitResult(action="accept", content={"name": "Ada"})

    async with Discovery(place.url, on_log=log, log_level="info", on_elicit=elicit) as discovery:
        await discovery.call("chat")
        if era == "legacy":  # this server asks in the way of that era only
            result = await discovery.call("ask")
            assert "accept" in str(result.content)
            assert "Ada" in str(result.content)

        async def said() -> bool:
            return bool(logged)

        await until(said, timeout=5, what="a log message")
    assert logged[0][0] in ("a", "b")
    assert logged[0][1] == "hello from the server"


async def test_outcomes_reach_the_facade(pair: Cluster) -> None:
    async def requests() -> int:
        found = (await pair.facade.get("/capabilities"))["capabilities"]
        return int(next(each["totalRequests"] for each in found if each["name"] == "write"))

    before = await requests()
    async with Discovery(pair.url) as discovery:
        for number in range(5):
            await discovery.call("write", {"key": f"outcome-{number}"})
    assert await requests() == before + 5


async def test_the_environment_says_where(pair: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCP_DISCOVERY_FACADE", pair.url)
    async with Discovery() as discovery:
        assert {each.id for each in await discovery.servers()} == {"a", "b"}


def test_without_await(pair: Cluster) -> None:
    steps: list[float] = []
    with SyncDiscovery(pair.url) as discovery:
        assert [each.id for each in discovery.connect("tests")] == ["a", "b"]
        assert {each.id for each in discovery.servers(name="counting")} == {"a", "b"}
        assert answered(discovery.call("read", {"key": "sync"}))["times"] == 1
        discovery.call("slow", {"steps": 2}, on_progress=lambda at, *_: steps.append(at))
        assert {tool.name for tool in discovery.tools()} >= {"read"}
        watch = discovery.watch()
        assert {next(watch).id, next(watch).id} == {"a", "b"}
        watch.close()  # type: ignore[attr-defined]
    assert steps == [1, 2]


# -- where calls go ----------------------------------------------------------------------------


async def spread(discovery: Discovery, calls: int, **options: Any) -> Counter[int]:
    """Which processes answered so many calls, one after another."""
    pids: Counter[int] = Counter()
    for number in range(calls):
        result = await discovery.call("read", {"key": f"spread-{number}"}, **options)
        pids[answered(result)["pid"]] += 1
    return pids


async def test_modern_calls_spread_and_legacy_ones_stay(eras: tuple[str, Cluster]) -> None:
    era, place = eras
    async with Discovery(place.url, strategy="round-robin") as discovery:
        found = sorted((await spread(discovery, 10)).values())
        assert found == ([10] if era == "legacy" else [5, 5])
        assert len(await spread(discovery, 6, key="me")) == 1
    async with Discovery(place.url, strategy="random") as discovery:
        assert len(await spread(discovery, 40)) == (1 if era == "legacy" else 2)


async def test_an_instance_may_be_named(pair: Cluster) -> None:
    async with Discovery(pair.url) as discovery:
        for id in ("a", "b"):
            (pid,) = await spread(discovery, 5, server=id)
            assert pid == (await pair.counts(id))["pid"]


# -- what is not done twice --------------------------------------------------------------------


async def test_a_call_that_changes_things_is_never_made_twice(tmp_path: Path) -> None:
    async with cluster(tmp_path) as place:
        for id in ("a", "b"):
            await place.add(id, "--pause", "1.0")
        async with Discovery(place.url, strategy="round-robin") as discovery:
            calls = [
                asyncio.create_task(discovery.call("write", {"key": f"w{number}"}))
                for number in range(10)
            ]
            reads = [
                asyncio.create_task(discovery.call("read", {"key": f"r{number}"}))
                for number in range(10)
            ]

            async def all_there() -> bool:
                counts = [await place.counts(id) for id in ("a", "b")]
                return sum(len(each) - 1 for each in counts) == 20

            await until(all_there, timeout=10, what="all calls being under way")
            at_b = await place.counts("b")
            await place.servers["a"].kill()
            results = await asyncio.gather(*calls, return_exceptions=True)
            await asyncio.gather(*reads)  # these are made again, at the other
        lost = [each for each in results if isinstance(each, CallLostError)]
        done = [each for each in results if not isinstance(each, BaseException)]
        assert len(lost) + len(done) == 10, results
        assert len(done) == sum(1 for key in at_b if key.startswith("write"))
        assert lost, "no call was under way at the server that died"
        assert "may have done its work" in str(lost[0])
        counted = await place.counts("b")
        assert all(times == 1 for key, times in counted.items() if key.startswith("write"))


async def test_what_never_left_goes_to_another(tmp_path: Path) -> None:
    async with cluster(tmp_path) as place:
        for id in ("a", "b"):
            await place.add(id)
        async with Discovery(place.url, strategy="round-robin") as discovery:
            await discovery.connect()
            await place.servers["a"].kill()  # and nobody has noticed yet
            for number in range(6):
                result = answered(await discovery.call("write", {"key": f"n{number}"}))
                assert result["times"] == 1
            await place.servers["b"].kill()
            with pytest.raises(NoReplicaError, match="no instance can be called now"):
                await discovery.call("write", {"key": "nobody"}, timeout=1)


async def test_deadlines(tmp_path: Path) -> None:
    async with cluster(tmp_path) as place:
        await place.add("a", "--pause", "30")
        async with Discovery(place.url, deadlines={"counting": 0.5}) as discovery:
            with pytest.raises(CallTimeoutError, match=r"no answer within 0\.5 s"):
                await discovery.call("write", {"key": "x"})
            with pytest.raises(CallLostError, match="no answer within"):
                await discovery.call("read", {"key": "x"}, timeout=1)


# -- schemas and names -------------------------------------------------------------------------


async def test_replicas_of_another_schema_are_not_mixed(tmp_path: Path) -> None:
    async with cluster(tmp_path, known=True) as place:
        for id in ("a", "b"):
            await place.add(id)
        async with Discovery(place.url, strategy="round-robin") as discovery:
            (first,) = [tool for tool in await discovery.tools() if tool.name == "read"]
            await place.add("c", "--schema", "2")

            async def three() -> bool:
                found = await discovery.connect()
                return len(found) == 3

            await until(three, timeout=5, what="the third instance")
            pids = {(await place.counts(id))["pid"] for id in ("a", "b")}
            assert set(await spread(discovery, 9)) == pids, "most replicas offer the first schema"
            await place.add("d", "--schema", "2")
            await place.servers["a"].kill()
            await place.facade.until_status("a", "down", 10)

            async def second() -> bool:
                result = await discovery.call("read", {"key": "which"})
                return bool(answered(result)["schema"] == 2)

            await until(second, timeout=5, what="the schema that most offer now")
            assert answered(await discovery.call(first, {"key": "old"}))["schema"] == 1
            await place.servers["b"].kill()
            await place.sidecars["b"].stop()
            await place.sidecars["a"].stop()

            async def changed() -> bool:
                try:
                    await discovery.call(first, {"key": "gone"})
                except ToolChangedError:
                    return True
                except NoReplicaError:
                    pass
                return False

            await until(changed, timeout=10, what="nobody offering the old schema")
            (now,) = [tool for tool in await discovery.tools() if tool.name == "read"]
            assert "exactly" in now.input_schema["properties"]


async def test_calls_go_to_the_server_that_has_the_name_and_never_to_its_namesake(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with cluster(tmp_path) as place:
        await place.add("a", sidecar=("--registry-name", "a.example/counting"))
        await place.add("b", sidecar=("--registry-name", "b.example/counting"))
        pids = {id: (await place.counts(id))["pid"] for id in ("a", "b")}
        async with Discovery(place.url) as discovery:
            assert set(await spread(discovery, 10)) == {pids["a"]}
            assert "2 servers share the name counting" in caplog.text
            (listed,) = [tool for tool in await discovery.tools() if tool.name == "read"]
            assert listed.replicas == 1
            result = answered(await discovery.call("read", {"key": "b"}, server="b"))
            assert result["pid"] == pids["b"]
            async with discovery.session("counting") as client:
                told = await client.call_tool("read", {"key": "session"})
                assert answered(told)["pid"] == pids["a"]
            # The tool of the one that is away is not asked of the other.
            await place.servers["a"].kill()
            with pytest.raises((NoReplicaError, CallLostError)):
                await discovery.call("read", {"key": "gone"}, timeout=3)


async def test_two_servers_of_one_tool(tmp_path: Path) -> None:
    async with cluster(tmp_path) as place:
        await place.add("a", name="one")
        async with Discovery(place.url) as discovery:
            assert answered(await discovery.call("read", {"key": "first"}))
            await place.add("b", name="other")

            async def both() -> bool:
                return any("." in tool.name for tool in await discovery.tools())

            await until(both, timeout=5, what="the second server")
            names = {tool.name for tool in await discovery.tools()}
            assert {"one.read", "other.read"} <= names
            pid = (await place.counts("a"))["pid"]
            assert set(await spread(discovery, 4)) == {pid}, "a name keeps its meaning"
            with pytest.raises(AmbiguousToolError, match=r"one\.write, other\.write"):
                await discovery.call("write", {"key": "whose"})
            result = answered(await discovery.call("other.write", {"key": "x"}))
            assert result["pid"] == (await place.counts("b"))["pid"]
            result = answered(await discovery.call("write", {"key": "y"}, server="one"))
            assert result["pid"] == pid


# -- mistakes ----------------------------------------------------------------------------------


async def test_mistakes_are_told_in_words(pair: Cluster) -> None:
    with pytest.raises(InvalidInputError, match="did you mean 'round-robin'"):
        Discovery(pair.url, strategy="roundrobin")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="deadline=0"):
        Discovery(pair.url, deadline=0)
    with pytest.raises(InvalidInputError, match="allow_stdio takes names"):
        Discovery(pair.url, allow_stdio="files")
    async with Discovery(pair.url) as discovery:
        with pytest.raises(InvalidInputError, match="did you mean 'tags'"):
            await discovery.servers(tag="tests")
        with pytest.raises(InvalidInputError, match="'ill' is none of healthy"):
            await discovery.servers(status="ill")
        with pytest.raises(UnknownToolError, match="did you mean 'read'"):
            await discovery.call("reed", {})
        with pytest.raises(InvalidInputError, match="timeout=-1"):
            await discovery.call("read", {}, timeout=-1)
        wrong = await discovery.call("read", {})
        assert wrong.is_error
    with pytest.raises(RuntimeError, match="async with"):
        await Discovery(pair.url).call("read", {})
    with pytest.raises(RuntimeError, match="used once"):
        async with discovery:
            pass
    async with Discovery("http://127.0.0.1:9") as discovery:
        with pytest.raises(StoreUnavailableError, match="is the facade running there"):
            await discovery.connect()


async def test_a_failure_is_reported_sooner_than_the_rest() -> None:
    loop = asyncio.get_running_loop()
    reported: list[tuple[float, int]] = []

    class Asked:
        """What a reporter needs of a source."""

        async def report(self, outcomes: Sequence[CallOutcome]) -> None:
            reported.append((loop.time(), len(outcomes)))

    reporter = OutcomeReporter(cast(Source, Asked()))
    running = asyncio.create_task(reporter.run())
    began = loop.time()
    reporter.add(CallOutcome("a", "add", True, 0.01, None))
    await asyncio.sleep(0.3)
    assert not reported
    reporter.add(CallOutcome("a", "add", False, 0.01, "the call failed"))
    await asyncio.sleep(0.2)
    running.cancel()
    assert [number for _, number in reported] == [2]
    assert reported[0][0] - began < 0.5

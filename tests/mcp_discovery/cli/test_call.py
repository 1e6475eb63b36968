"""call: arguments, results, progress and ends, at real servers through a real facade."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.mcp_discovery.cli.cluster import INTERACTIVE_SERVER, Cluster, on_terminal
from tests.mcp_discovery.client.verbatim import failed, result, verbatim
from tests.programs import command, facade, running
from tests.servers import process
from tests.stores.waiting import until


async def counts(here: Cluster) -> dict[str, int]:
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{here.interactive_server.base_url}/counts") as response,
    ):
        told: dict[str, int] = await response.json()
        return told


async def test_the_result_is_the_output(here: Cluster) -> None:
    ended = await here.ask("call", "count", "to=3")
    assert (ended.code, ended.out) == (0, "counted to 3\n")
    assert "number 3" in ended.err
    assert "100%" in ended.err
    (result,) = await here.asked("call", "count", "to=3")
    assert result["structuredContent"] == {"result": "counted to 3"}
    assert result["content"] == [{"type": "text", "text": "counted to 3"}]


async def echoed(here: Cluster, *arguments: str) -> Any:
    (result,) = await here.asked("call", "echo", *arguments)
    return json.loads(result["content"][0]["text"])


async def test_arguments_are_read_by_the_schema(here: Cluster) -> None:
    found = await echoed(
        here,
        *("text=5", "number=5", "ratio=2.5", "flag=true", "tags=a", "tags=b", "numbers=[1,2]"),
        *("filter.colour=blue", "filter.size=3", "colour=green", 'anything={"x": 1}'),
    )
    assert found == {
        "text": "5",
        "number": 5,
        "ratio": 2.5,
        "flag": True,
        "tags": ["a", "b"],
        "numbers": [1, 2],
        "filter": {"colour": "blue", "size": 3},
        "colour": "green",
        "anything": {"x": 1},
    }


async def test_arguments_as_json(here: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "arguments.json"
    file.write_text('{"text": "from the file", "number": 1}')
    found = await echoed(here, "--json-args", f"@{file}", "number=2")
    assert (found["text"], found["number"]) == ("from the file", 2)
    found = await echoed(here, "--json-args", '{"text": "typed"}')
    assert found["text"] == "typed"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("ecko", "text=a"), "did you mean 'echo'"),
        (("echo", "txt=a"), "did you mean text"),
        (("echo",), "text (string) is missing"),
        (("echo", "text=a", "number=many"), "number='many' is not integer"),
        (("echo", "text=a", "number=1.5"), "number='1.5' is not integer"),
        (("echo", "text=a", "flag=maybe"), "is not boolean"),
        (("echo", "text=a", "colour=gren"), "did you mean green?"),
        (("echo", "text=a", "numbers=x"), "is not array of integer or null"),
        (("echo", "text=a", "text=b"), "given twice"),
        (("echo", "text"), "write key=value"),
        (("echo", "--json-args", "[1]"), "no JSON object"),
        (("echo", "--json-args", "@/no/such/file"), "cannot read /no/such/file"),
        (("echo", "text=a", "--server", "odd"), "server 'odd' does not offer it"),
        (("echo", "text=a", "--server", "nobody"), "there is no server 'nobody'"),
        (("echo", "text=a", "--timeout", "0"), "above 0"),
        (("echo", "text=a", "--server-token", "x"), "--server NAME"),
        (("echo", "text=a", "--server-token", "x", "--server", "odd"), "--server-origin http"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
async def test_what_cannot_be_called_is_one_sentence(
    here: Cluster, arguments: tuple[str, ...], says: str
) -> None:
    ended = await here.ask("call", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert says in ended.err
    assert "Traceback" not in ended.err


async def test_whose_tool_is_meant(here: Cluster) -> None:
    for server in ("talker", "talker-2"):
        ended = await here.ask("call", "count", "to=1", "--server", server)
        assert (ended.code, ended.out) == (0, "counted to 1\n")
    ended = await here.ask("call", "count", "to=1", "--tag", "two")
    assert ended.code == 0
    ended = await here.ask("call", "count", "to=1", "--tag", "strange")
    assert ended.code == 2


async def test_a_tool_that_fails_has_an_exit_code_of_its_own(here: Cluster) -> None:
    ended = await here.ask("call", "fail")
    assert ended.code == 7
    assert "the lamp is broken" in ended.out
    assert "fail of talker answered with an error" in ended.err
    ended = await here.ask("call", "fail", "--json")
    assert ended.code == 7
    assert json.loads(ended.out)["isError"] is True


async def test_a_tool_that_takes_too_long(here: Cluster) -> None:
    ended = await here.ask("call", "wait", "seconds=30", "--timeout", "1500ms")
    assert ended.code == 8, ended
    assert ended.out == ""
    assert len(ended.err.splitlines()) == 1


async def test_ctrl_c_cancels_the_call_at_the_server(here: Cluster, tmp_path: Path) -> None:
    before = await counts(here)

    async def waiting() -> bool:
        return (await counts(here))["waiting"] > before["waiting"]

    async def cancelled() -> bool:
        now = await counts(here)
        return now["cancelled"] > before["cancelled"] and now["waiting"] == before["waiting"]

    told = {"MCP_DISCOVERY_FACADE": here.facade.url}
    async with running(tmp_path, "call", "wait", "seconds=60", **told) as call:
        await until(waiting, timeout=20, what="the call being there")
        assert await call.stop(signal.SIGINT) == 130
        assert call.log == ""
    await until(cancelled, timeout=10, what="the call being cancelled")


async def test_no_control_character_of_a_result_reaches_the_terminal(here: Cluster) -> None:
    told = {"MCP_DISCOVERY_FACADE": here.facade.url, "NO_COLOR": "1"}
    for more in ((), ("--json",)):
        shown = await on_terminal("call", "shout", *more, environment=told)
        # What draws the progress, and takes it away again, is ours.
        text = shown[shown.index("red") :] if not more else shown[shown.index("{") :]
        assert not set(text) & set("\x1b\x07\x9b\u202e")
    ended = await here.ask("call", "shout")
    assert ended.out == (
        "red \\x1b[31mred\\x1b]0;title\\x07 \\x9b31m \\u202egnp.exe\\x0dforged\ttab\nnext\n"
    )
    (result,) = await here.asked("call", "shout")
    assert result["content"][0]["text"].startswith("red \x1b[31mred\x1b]0;title\x07 \x9b31m")


async def test_progress_is_a_bar_on_a_terminal(here: Cluster) -> None:
    told = {"MCP_DISCOVERY_FACADE": here.facade.url}
    shown = await on_terminal("call", "count", "to=5", environment=told)
    assert "━" in shown
    assert "counted to 5" in shown


async def test_two_servers_with_one_tool(tmp_path: Path) -> None:
    async with (
        facade(tmp_path, "embedded:") as asked,
        process.running(INTERACTIVE_SERVER) as talker,
    ):
        file = tmp_path / "two.json"
        two = [{"name": name, "url": talker.url} for name in ("first", "second")]
        file.write_text(json.dumps(two))
        assert (await command("register", str(file), "--facade", asked.url)).code == 0
        call = ("call", "--facade", asked.url)

        async def ambiguous() -> bool:
            ended = await command(*call, "count", "to=1")
            return ended.code == 2 and "first.count, second.count" in ended.err

        await until(ambiguous, timeout=20, what="both servers being there")
        for more in (("first.count",), ("count", "--server", "second")):
            ended = await command(*call, *more, "to=1")
            assert (ended.code, ended.out) == (0, "counted to 1\n"), ended
        await talker.kill()
        await asked.until_status(next(iter(await asked.servers("name=first"))), "down", 5)
        for more in (("first.count",), ("count", "--server", "second")):
            ended = await command(*call, *more, "to=1", "--timeout", "5s")
            assert ended.code == 3, ended
            assert "offers it and is down: connection refused" in ended.err
        ended = await command(*call, "cuont")
        assert (ended.code, "did you mean 'count'?" in ended.err) == (2, True), ended


async def test_a_command_has_to_be_allowed(tmp_path: Path) -> None:
    async with facade(tmp_path, "embedded:") as asked, aiohttp.ClientSession() as http:
        endpoint = {"command": "no-such-command", "args": []}
        entry = {"id": "here", "name": "here", "protocol": "stdio", "endpoint": endpoint}
        body = entry | {"capabilities": ["look"]}
        async with http.post(f"{asked.url}/connections", json=body) as response:
            assert response.status == 201
        for more in ((), ("--server", "here")):
            ended = await command("call", "look", *more, "--facade", asked.url)
            assert ended.code == 2
            assert "--allow-stdio here" in ended.err
        given = ("--allow-stdio", "here", "--timeout", "10s", "--facade", asked.url)
        ended = await command("call", "look", *given)
        assert ended.code == 3
        assert "cannot connect" in ended.err


async def test_what_a_server_says_itself_and_what_would_help(tmp_path: Path) -> None:
    async with (
        facade(tmp_path, "embedded:") as asked,
        verbatim("events") as server,
        aiohttp.ClientSession() as http,
    ):
        body = {"id": "a", "name": "verbatim", "url": server.url}
        async with http.post(f"{asked.url}/servers", json=body) as response:
            assert response.status == 201
        await asked.until_status("a", "healthy", 20)
        call = ("call", "say", "--facade", asked.url)

        error = {"code": -32001, "message": "so it is", "data": {"n": 2**70}}
        server.answer = lambda id: failed(id, json.dumps(error))
        ended = await command(*call, "--json")
        assert (ended.code, json.loads(ended.out)) == (7, {"error": error})
        assert "say of verbatim answered with error -32001: so it is ({" in ended.err

        server.answer = lambda id: result(id, "x" * 3 * 2**20)
        assert len((await command(*call)).out) == 3 * 2**20 + 1
        ended = await command(*call, MCP_DISCOVERY_MAX_ANSWER_BYTES="1048576")
        assert ended.code == 1
        assert "the answer is over 1 MiB; ask for less, or raise --max-answer-bytes" in ended.err

        server.status = 401
        ended = await command(*call)
        assert ended.code == 4
        assert "it wants other credentials (HTTP 401" in ended.err
        assert "give them with --server-token" in ended.err

        ended = await command(*call, "--server", "nobody")
        assert ended.code == 2
        assert "there is no server 'nobody'; it is offered by verbatim" in ended.err

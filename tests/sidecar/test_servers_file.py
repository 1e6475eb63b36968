"""A whole file of servers in one process: each registered by itself, the file followed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.cli import settings_file
from mcp_discovery.cli.sidecar import file_settings_of, sidecar
from mcp_discovery.credential_files import read_again
from mcp_discovery.errors import InvalidInputError
from mcp_discovery.health import Status
from mcp_discovery.instance import Instance
from mcp_discovery.sidecar.run_file import run_file
from mcp_discovery.sidecar.servers_file import ServersFileSettings
from mcp_discovery.sidecar.stopping import Stop
from tests.programs import ROOT, command, facade
from tests.programs import running as running_program
from tests.servers.recording import recording
from tests.sidecar.harness import Seen
from tests.stores import ports
from tests.stores.waiting import NotYet, until, until_holds

pytestmark = pytest.mark.slow

MIRROR = str(ROOT / "tests/sidecar/stdio_mirror.py")
NODE = ROOT / ".stores/foreign/node_modules/@modelcontextprotocol"


def mirror(name: str, *more: str, **members: Any) -> dict[str, Any]:
    """An entry of a server over stdio."""
    return {"command": sys.executable, "args": [MIRROR, name, *more], **members}


def settings(file: Path, **given: Any) -> ServersFileSettings:
    """What the command makes of ``--servers FILE`` and of options by their parameters."""
    usual = {each.parameter: each.default for each in settings_file.settings(sidecar).values()}
    quick = {"ttl": 3.0, "probe_interval": 1.0, "drain": 0.5}
    found = file_settings_of(usual | quick | {"servers": str(file), **given})
    assert found is not None
    return found


class Running:
    """The servers of a file, run as a task of this process."""

    def __init__(self, file: Path, store: EmbeddedStore, seen: Seen) -> None:
        self.file = file
        self.store = store
        self.seen = seen
        self.stop = Stop()
        self.task: asyncio.Task[int]

    def write(self, text: str | None = None, **entries: Any) -> None:
        """Writes the file, and has it read at once, as SIGHUP does."""
        self.file.write_text(json.dumps({"mcpServers": entries}) if text is None else text)
        read_again()

    def find(self, name: str) -> Instance | None:
        """The instance of this name."""
        return next((i for i in self.seen.instances.values() if i.record.name == name), None)

    async def until(
        self, name: str, holds: Callable[[Instance | None], object], *, within: float = 15
    ) -> Instance:
        """Waits for the state of one of them."""
        await until_holds(lambda: holds(self.find(name)), timeout=within, what=f"{name} so")
        return self.find(name)  # type: ignore[return-value]

    async def until_healthy(self, *names: str) -> list[Instance]:
        """Waits until they are."""
        return [
            await self.until(each, lambda one: one and one.health.status is Status.HEALTHY)
            for each in names
        ]


@asynccontextmanager
async def running(
    tmp_path: Path, store: EmbeddedStore, seen: Seen, entries: Any, **given: Any
) -> AsyncIterator[Running]:
    file = tmp_path / "mcp.json"
    one = Running(file, store, seen)
    one.write(**entries)
    environ = {**os.environ, **given.pop("environ", {})}
    one.task = asyncio.create_task(
        run_file(settings(file, **given), store, stop=one.stop, environ=environ)
    )
    try:
        yield one
        one.stop()
        async with asyncio.timeout(15):
            assert await one.task == 0
        assert seen.instances == {}
    finally:
        one.task.cancel()
        await asyncio.wait({one.task})


async def mirrored(instance: Instance) -> dict[str, Any]:
    """What the server behind ``instance`` shows of itself."""
    async with asyncio.timeout(15), Client(str(instance.record.endpoint.url)) as client:
        result = await client.call_tool("mirror", {})
    found: dict[str, Any] = json.loads(result.content[0].text)  # type: ignore[union-attr]
    return found


async def test_each_server_is_registered_by_itself(
    tmp_path: Path, store: EmbeddedStore, seen: Seen, caplog: pytest.LogCaptureFixture
) -> None:
    async with recording() as remote:
        url = f"http://127.0.0.1:{remote.port}/mcp"
        entries = {
            "plain": mirror("other"),
            "My Server": mirror(
                "x", "1.0.0", "${A_TOKEN}", env={"API_KEY": "${env:KEY}"}, tags=["own"]
            ),
            "far": {
                "url": url,
                "headers": {"Authorization": "Bearer ${KEY}", "X-Team": "shop"},
                "mcp-discovery": {"zone": "west", "metadata": {"team": "shop"}, "weight": 3},
            },
            "off": {"command": "no-such-command", "disabled": True},
        }
        environ = {"KEY": "hunter2hunter2", "A_TOKEN": "hunter2"}
        given = {"environ": environ, "tag": ["all"], "zone": "east"}
        async with running(tmp_path, store, seen, entries, **given) as one:
            plain, mine, far = await one.until_healthy("plain", "my-server", "far")
            assert set(seen.instances) == {plain.record.id, mine.record.id, far.record.id}
            there = str(plain.record.endpoint.url)
            assert there.endswith("/plain/mcp")
            assert str(mine.record.endpoint.url) == there.replace("/plain/", "/my-server/")
            assert (plain.record.title, mine.record.title) == (None, "My Server")
            assert (plain.record.tags, mine.record.tags) == (("all",), ("all", "own"))
            assert (plain.record.zone, far.record.zone, far.record.weight) == ("east", "west", 3)
            assert far.record.metadata == {"team": "shop"}
            assert (plain.record.auth.type, far.record.auth.type) == ("none", "bearer")
            assert far.record.endpoint.url == url
            found = await mirrored(mine)
            assert found["env"]["API_KEY"] == "hunter2hunter2"
            assert "KEY" not in found["env"]
            assert {each.get("X-Team") for each in remote.headers} == {"shop"}
            assert {each["Authorization"] for each in remote.headers} == {"Bearer hunter2hunter2"}
            async with Client(str(mine.record.endpoint.url)) as client:
                with pytest.raises(MCPError, match=r"cannot use \*\*\* and \*\*\*"):
                    await client.call_tool("end", {})
            down = await one.until("my-server", lambda it: it and it.health.status is Status.DOWN)
            assert down.health.reason == "ended with exit code 3: cannot use *** and ***"
            stored = orjson.dumps([each.record.to_dict() for each in seen.instances.values()])
            assert b"hunter2" not in stored
    assert "hunter2" not in caplog.text


async def test_the_file_is_followed_and_others_never_notice(
    tmp_path: Path, store: EmbeddedStore, seen: Seen, caplog: pytest.LogCaptureFixture
) -> None:
    entries = {"stays": mirror("stays"), "changes": mirror("changes"), "goes": mirror("goes")}
    async with running(tmp_path, store, seen, entries) as one:
        stays, changes, _ = await one.until_healthy("stays", "changes", "goes")
        before = (await mirrored(stays))["pid"]
        old = (await mirrored(changes))["pid"]
        one.write(stays=mirror("stays"), changes=mirror("changes", "2.0.0"), comes=mirror("comes"))
        await one.until("goes", lambda found: found is None)
        await one.until("changes", lambda found: found and found.record.version == "2.0.0")
        _, comes, changed = await one.until_healthy("stays", "comes", "changes")
        assert (await mirrored(stays))["pid"] == before
        assert (await mirrored(changed))["pid"] != old
        with pytest.raises(ProcessLookupError):
            os.kill(old, 0)
        of_stays = [i for _, id, i in seen.history if id == stays.record.id and i is not None]
        assert {each.health.status for each in of_stays} == {Status.HEALTHY}

        caplog.clear()
        one.write('{"mcpServers": {"stays": ')
        read_again()
        one.write('{"mcpServers": {"stays": ')
        told = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
        assert len(told) == 1
        assert told[0].startswith(f"what was read before stays in use: {one.file}: is not JSON")
        one.write(stays=mirror("stays"), comes={"command": "x", "env": {"TOKEN": "hunter2"}})
        await one.until("changes", lambda found: found is None)
        assert "'comes': env TOKEN is given in clear; write" in caplog.text
        assert await mirrored(comes)  # its last good entry counts
        assert (await mirrored(stays))["pid"] == before
        one.write("{}")
        assert "names no servers; write them below mcpServers, or servers" in caplog.text
        assert one.find("stays") is not None
        one.write(text='{"mcpServers": {}}')
        await one.until("stays", lambda found: found is None)
        await one.until("comes", lambda found: found is None)
        one.write(again=mirror("again"))
        await one.until_healthy("again")


async def test_a_file_without_servers_is_waited_with(
    tmp_path: Path, store: EmbeddedStore, seen: Seen
) -> None:
    port = ports.draw()
    async with running(tmp_path, store, seen, {}, health_port=port.number) as one:

        async def told() -> bool:
            async with (
                aiohttp.ClientSession() as http,
                http.get(f"http://127.0.0.1:{port.number}/readyz") as response,
            ):
                return bool((await response.json())["reason"] == "the file names no server")

        await until(told, timeout=10, what="saying so")
        one.write(comes=mirror("comes"))
        await one.until_healthy("comes")


async def test_a_file_that_is_replaced_is_seen_without_a_signal(
    tmp_path: Path, store: EmbeddedStore, seen: Seen
) -> None:
    async with running(tmp_path, store, seen, {"a": mirror("a")}) as one:
        await one.until_healthy("a")
        other = tmp_path / "other"
        other.write_text(json.dumps({"mcpServers": {"b": mirror("b")}}))
        other.rename(one.file)
        await one.until_healthy("b")
        await one.until("a", lambda found: found is None)


async def test_one_that_fails_takes_down_no_other(
    tmp_path: Path, store: EmbeddedStore, seen: Seen, caplog: pytest.LogCaptureFixture
) -> None:
    program = tmp_path / "later"
    port = ports.draw()
    entries = {
        "good": mirror("good"),
        "missing": {"command": str(program)},
        "ends": {"command": "sh", "args": ["-c", "echo usage >&2; exit 2"]},
        "asks": {"command": "npx", "env": {"KEY": "${input:key}"}},
        "unset": {"command": "npx", "args": ["${NOT_SET}"]},
        "My Good": mirror("a"),
        "my-good": mirror("b"),
    }
    async with running(tmp_path, store, seen, entries, health_port=port.number) as one:
        (good,) = await one.until_healthy("good")
        pid = (await mirrored(good))["pid"]

        async def ready() -> dict[str, Any]:
            async with (
                aiohttp.ClientSession() as http,
                http.get(f"http://127.0.0.1:{port.number}/readyz") as response,
            ):
                body: dict[str, Any] = await response.json()
                if response.status != 200:
                    raise NotYet(body)
                return body

        body = await until(ready, timeout=10, what="being ready")
        assert body["servers"]["good"] == "ready"
        assert "command not found" in body["servers"]["missing"]
        assert body["servers"]["ends"] == "ended with exit code 2: usage"
        for told in (
            "missing: ",
            "'asks': ${input:key} is what its host asks the user for",
            "'unset': the variable NOT_SET is not set",
            "'My Good' and 'my-good' are both 'my-good' as names of servers",
        ):
            assert told in body["problem"]
            assert told in caplog.text
        async with aiohttp.ClientSession() as http:
            url = f"http://127.0.0.1:{port.number}/metrics"
            text = await (await http.get(url)).text()
        assert 'mcp_discovery_sidecar_registered{server="good"} 1' in text
        assert 'mcp_discovery_sidecar_registered{server="missing"} 0' in text
        assert text.count("# TYPE mcp_discovery_sidecar_registered gauge") == 1

        program.write_text(f"#!/bin/sh\nexec {sys.executable} {MIRROR} later\n")
        program.chmod(0o755)
        (later,) = await one.until_healthy("missing")
        assert len([each for each in caplog.messages if "command not found" in each]) == 1
        os.kill((await mirrored(later))["pid"], signal.SIGKILL)
        down = await one.until("missing", lambda it: it and it.health.status is Status.DOWN)
        assert "SIGKILL" in down.health.reason
        await one.until_healthy("missing")
        assert (await mirrored(good))["pid"] == pid


async def test_who_may_come_in_has_to_be_said_for_commands_alone(
    tmp_path: Path, store: EmbeddedStore, seen: Seen, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "other.json"
    file.write_text(json.dumps({"mcpServers": {"a": mirror("a")}}))
    given = {"listen": "0.0.0.0:0"}
    assert await run_file(settings(file, **given), store, stop=Stop(), environ={}) == 2
    assert "--bridge-token-file" in caplog.text
    caplog.clear()
    async with recording() as remote:
        far = {"url": f"http://127.0.0.1:{remote.port}/mcp"}
        async with running(tmp_path, store, seen, {"far": far}, **given) as one:
            await one.until_healthy("far")
            assert "--bridge-token-file" not in caplog.text
            one.write(far=far, a=mirror("a"))

            async def told() -> bool:
                return "a: " in caplog.text and "--bridge-token-file" in caplog.text

            await until(told, timeout=10, what="what is missing")
            assert one.find("a") is None
            tokens = tmp_path / "tokens"
        tokens.write_text("a-token-of-many-letters\n")
        given |= {"bridge_token_file": str(tokens)}
        async with running(tmp_path, store, seen, {"far": far, "a": mirror("a")}, **given) as one:
            found, other = await one.until_healthy("a", "far")
            assert (found.record.auth.type, other.record.auth.type) == ("bearer", "none")


async def test_all_of_them_are_drained_as_asked_and_a_second_wish_to_end_hurries(
    tmp_path: Path, store: EmbeddedStore, seen: Seen
) -> None:
    port = ports.draw()
    entries = {"a": mirror("a"), "b": mirror("b")}
    given = {"health_port": port.number, "drain": 30.0}
    async with running(tmp_path, store, seen, entries, **given) as one:
        await one.until_healthy("a", "b")
        url = f"http://127.0.0.1:{port.number}/drain"
        async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(http.post(url))
            for name in entries:
                await one.until(name, lambda it: it and it.health.status is Status.DRAINING)
            one.stop()
            assert not asking.done()
            one.stop()
            assert (await asking).status == 200
        assert seen.instances == {}


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ({"a": {"command": "x", "env": {"A_TOKEN": "hunter2"}}}, "'a': env A_TOKEN is given in"),
        ({"a": {"command": "${input:x}"}}, "'a': ${input:x} is what its host asks"),
        ({"A b": mirror("a"), "a-b": mirror("b")}, "'A b' and 'a-b' are both 'a-b'"),
        ({"a": mirror("a", **{"mcp-discovery": {"sesions": "each"}})}, "did you mean sessions?"),
        ({"a": mirror("a", **{"mcp-discovery": {"store": "x"}})}, "store is of the whole process"),
        ({"a": mirror("a", **{"mcp-discovery": {"url": "x"}})}, "url is what the entry itself"),
        ({"a": mirror("a", tags=["A B"])}, "'a': tags"),
        ({"a": mirror("a", **{"mcp-discovery": {"ttl": "5"}})}, "'a': probe interval"),
    ],
)
async def test_a_file_of_which_nothing_can_be_run(
    tmp_path: Path,
    store: EmbeddedStore,
    caplog: pytest.LogCaptureFixture,
    entries: dict[str, Any],
    told: str,
) -> None:
    file = tmp_path / "mcp.json"
    file.write_text(json.dumps({"servers": entries}))
    given = {"probe_interval": 3.0, "ttl": 6.0}
    assert await run_file(settings(file, **given), store, stop=Stop(), environ={}) == 2
    assert told in caplog.text
    assert "hunter2" not in caplog.text


async def test_only_some_of_a_file(
    tmp_path: Path, store: EmbeddedStore, seen: Seen, caplog: pytest.LogCaptureFixture
) -> None:
    entries = {"a": mirror("a"), "B b": mirror("b"), "c": {"command": "${input:x}"}}
    async with running(tmp_path, store, seen, entries, only=["B b"]) as one:
        await one.until_healthy("b-b")
        assert len(seen.instances) == 1
        assert "input" not in caplog.text
        wrong = settings(one.file, only=["d"])
        assert await run_file(wrong, store, stop=Stop(), environ={}) == 2
        assert f"{one.file} has no server d; it has a, b-b, c" in caplog.text


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"url": "http://127.0.0.1/mcp"}, "--servers names the servers; leave --url out"),
        ({"command": ["npx"]}, "--servers names the servers; leave COMMAND out, or --servers"),
        ({"name": "a"}, "--name is of one server, and --servers names several; write it into the"),
        ({"advertise_url": "http://a/"}, '"mcp-discovery": {"advertise-url": …}'),
        ({"servers": None, "only": ["a"]}, "--only is for a file of servers; give --servers, too"),
        ({"health_port": 70000}, "health port 70000 is none"),
    ],
)
def test_options_that_do_not_go_together(tmp_path: Path, given: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        settings(tmp_path / "mcp.json", **given)
    assert told in str(caught.value)


async def test_ten_servers_in_one_process(tmp_path: Path) -> None:
    """The whole command: real servers of npm among them, memory, SIGHUP, SIGTERM."""
    file = tmp_path / ".vscode" / "mcp.json"
    file.parent.mkdir()
    script = "${workspaceFolder}/mirror.py"
    (tmp_path / "mirror.py").write_text(Path(MIRROR).read_text())
    entries: dict[str, Any] = {
        f"mirror-{number}": {"type": "stdio", "command": sys.executable, "args": [script, "m"]}
        for number in range(8)
    }
    (tmp_path / ".env").write_text("FROM_FILE=x\nBOTH=file\n")
    entries["mirror-0"] |= {"envFile": "${workspaceFolder}/.env", "env": {"BOTH": "entry"}}
    for name in ("memory", "everything"):
        started = NODE / f"server-{name}/dist/index.js"
        entries[name] = {"type": "stdio", "command": "node", "args": [str(started)]}
    text = "// of VS Code\n" + json.dumps({"inputs": [], "servers": entries}, indent=2)
    file.write_text(text)
    async with facade(tmp_path, "embedded:") as there:
        arguments = ("sidecar", "--store", there.url, "--servers", str(file), "--drain", "1")
        async with running_program(tmp_path, *arguments) as program:

            async def all_healthy() -> dict[str, Any]:
                found = await there.servers("status=healthy")
                if len(found) < len(entries):
                    raise NotYet(sorted(found))
                return found

            found = await until(all_healthy, timeout=60, what="all healthy")
            by_name = {each["name"]: each for each in found.values()}
            assert set(by_name) == set(entries)
            async with asyncio.timeout(15), Client(by_name["mirror-0"]["url"]) as client:
                result = await client.call_tool("mirror", {})
            seen = json.loads(result.content[0].text)  # type: ignore[union-attr]
            assert seen["cwd"] == str(tmp_path)
            assert (seen["env"]["FROM_FILE"], seen["env"]["BOTH"]) == ("x", "entry")
            status = Path(f"/proc/{program.pid}/status").read_text()
            resident = int(status.partition("VmRSS:")[2].split()[0]) / 1024
            assert resident < 90, f"{resident:.0f} MB"
            del entries["everything"]
            file.write_text(json.dumps({"servers": entries}))
            program.send(signal.SIGHUP)

            async def gone() -> bool:
                return by_name["everything"]["id"] not in await there.servers()

            await until(gone, timeout=10, what="everything gone")
            assert await program.stop() == 0
            assert await there.servers() == {}
            with pytest.raises(ProcessLookupError):
                os.kill(seen["pid"], 0)


async def test_bad_input_on_the_command_line(tmp_path: Path) -> None:
    store = ("--store", "http://127.0.0.1:9")
    ended = await command("sidecar", *store, "--servers", str(tmp_path / "none.json"))
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "cannot read" in ended.err
    ended = await command("sidecar", *store, "--servers", "a.json", "--", "npx", "b")
    assert ended.code == 2
    assert "--servers names the servers; leave COMMAND out" in ended.err

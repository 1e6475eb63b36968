"""The command line: what it prints, what it refuses, how it ends."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.programs import AskedFacade, command, facade, running
from tests.servers.process import odd
from tests.stores import ports
from tests.stores.waiting import until_holds


@pytest.fixture
async def asked(tmp_path: Path) -> AsyncIterator[AskedFacade]:
    async with facade(tmp_path, "embedded:") as one:
        yield one


SIDECAR = ("sidecar", "--url", "http://127.0.0.1:9/mcp", "--store", "http://127.0.0.1:9")
CONSUL = (*SIDECAR, "--store", "consul://127.0.0.1:9")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("facade", "--store", "redis://x"), 2, "unknown scheme; use embedded:"),
        (("facade", "--store", "consul://"), 2, "write consul://host:8500"),
        (
            ("facade", "--port", "0", "--store", "embedded:///no/such/folder/x.db"),
            3,
            "folder must exist",
        ),
        (("facade", "--host", "nowhere.invalid"), 2, "see --host and --port"),
        (("facade", "--port", "70000"), 2, "65535"),
        (("facade", "--cors-origin", "https://a.example/path"), 2, "is no origin"),
        (("facade", "--log-level", "loud"), 2, "debug, info, warning, error"),
        (("sidecar",), 2, "--store"),
        (("sidecar", "--url", "http://127.0.0.1:9"), 2, "--store"),
        ((*SIDECAR, "--store", "embedded:"), 2, "give the sidecar --store http://"),
        ((*SIDECAR, "--url", "nonsense"), 2, "absolute URL"),
        ((*SIDECAR, "--name", "My Server"), 2, "use 'my-server'"),
        ((*SIDECAR, "--id", "Bad_Id"), 2, "use 'bad-id'"),
        ((*SIDECAR, "--tag", "Foo"), 2, "use 'foo'"),
        ((*SIDECAR, "--ttl", "0"), 2, "at least 1 s"),
        ((*SIDECAR, "--ttl", "500ms"), 2, "ttl 0.5 s is too short"),
        ((*SIDECAR, "--ttl", "1m", "--reap-after", "30s"), 2, "at least the TTL"),
        ((*SIDECAR, "--ttl", "soon"), 2, "is no time; write 30"),
        ((*SIDECAR, "--ttl", "10", "--reap-after", "5"), 2, "at least the TTL"),
        ((*SIDECAR, "--metadata", "novalue"), 2, "KEY=VALUE"),
        ((*SIDECAR, "--metadata", "password=hunter2"), 2, "${NAME}"),
        ((*SIDECAR, "--consul-tag", "urlprefix-/x"), 2, "belong to Consul's catalog"),
        ((*SIDECAR, "--consul-meta", "a=b", "--store", "etcd://h"), 2, "register in consul://"),
        ((*CONSUL, "--consul-meta", "novalue"), 2, "--consul-meta takes KEY=VALUE"),
        ((*CONSUL, "--consul-meta", "version=1"), 2, "a key of the record's own"),
        ((*CONSUL, "--consul-meta", "token=hunter2"), 2, "everybody reads the catalog"),
        ((*CONSUL, "--consul-tag", "stock"), 2, "give it as --tag"),
        ((*SIDECAR, "--store-cert", "/no/such/file"), 2, "give both"),
        ((*SIDECAR, "--store-ca", "/no/such/file"), 2, "/no/such/file"),
        ((*SIDECAR, "--", "no-such-command"), 127, "command not found"),
        ((*SIDECAR, "--", "/etc/hostname"), 126, "/etc/hostname"),
        (("servers", "--facade", "http://127.0.0.1:9"), 3, "is it running"),
        (("servers", "--facade", "nonsense"), 2, "write http://nonsense:4000"),
        (("watch", "--facade", "http://127.0.0.1:9"), 3, "is it running"),
        (("register", "/no/such/file"), 2, "give a file of JSON or YAML"),
        (("register", "/dev/null"), 2, "is empty; write servers"),
        (("no-such-command",), 2, "No such command"),
    ],
    ids=lambda value: " ".join(value[:5]) if isinstance(value, tuple) else "",
)
async def test_bad_input_is_one_clear_sentence_and_an_exit_code(
    arguments: tuple[str, ...], code: int, says: str
) -> None:
    ended = await command(*arguments)
    assert (ended.code, ended.out) == (code, "")
    assert says in ended.err
    assert "Traceback" not in ended.err
    assert "hunter2" not in ended.err


@pytest.mark.parametrize(
    "name",
    [
        "facade",
        "sidecar",
        "servers",
        "tools",
        "skills",
        "describe",
        "history",
        "watch",
        "call",
        "ask",
        "query",
        "register",
        "export",
        "import",
        "audit",
        "webhooks",
        "sync",
        "login",
        "logout",
        "whoami",
        "doctor",
        "token",
        "demo",
    ],
)
async def test_help_teaches(name: str) -> None:
    ended = await command(name, "--help")
    assert ended.code == 0
    assert f"mcp-discovery {name}" in ended.out or "Usage" in ended.out
    whole = await command("--help")
    assert name in whole.out
    assert "Exit codes" in whole.out


async def test_a_port_in_use(asked: AskedFacade) -> None:
    port = asked.url.rpartition(":")[2]
    ended = await command("facade", "--port", port)
    assert ended.code == 6
    assert f"127.0.0.1:{port} is in use" in ended.err


async def test_options_come_from_the_environment_too(asked: AskedFacade) -> None:
    ended = await command("servers", MCP_DISCOVERY_FACADE=asked.url, MCP_DISCOVERY_JSON="1")
    assert (ended.code, ended.out) == (0, "")
    ended = await command(*SIDECAR, MCP_DISCOVERY_TAG="fine Not_Fine")
    assert "not-fine" in ended.err
    ended = await command(*SIDECAR, MCP_DISCOVERY_EXAMPLE_QUERY=f"is it there\n\n{'x' * 201}")
    assert "exampleQueries.1" in ended.err


async def test_a_file_without_servers_is_said_to_be_one(tmp_path: Path) -> None:
    file = tmp_path / "servers.json"
    file.write_text('{"servers": []}')
    ended = await command("register", str(file))
    assert (ended.code, ended.out) == (2, "")
    assert "names no server; give at least one" in ended.err


async def test_servers_and_register(asked: AskedFacade, tmp_path: Path) -> None:
    async with odd("--tools", "2") as server:
        file = tmp_path / "servers.json"
        good = {"id": "good", "name": "good", "url": server.url, "tags": ["a", "b"]}
        file.write_text(json.dumps([good, {"name": "Not Good", "url": server.url}]))
        ended = await command("register", str(file), "--facade", asked.url)
        assert ended.code == 2
        assert "good: registered" in ended.out
        assert "Not Good: refused: name:" in ended.err

        ended = await command("servers", "--facade", asked.url, "--tag", "a")
        assert ended.code == 0
        head, row = ended.out.splitlines()
        assert head.split() == ["NAME", "ID", "STATUS", "VERSION", "TAGS", "URL", "REASON"]
        assert row.split()[:4] == ["good", "good", "healthy", "1.0.0"]
        assert server.url in row
        assert "\x1b" not in ended.out  # colour is for terminals

        ended = await command("servers", "--facade", asked.url, "--json")
        (line,) = ended.out.splitlines()
        assert json.loads(line)["tags"] == ["a", "b"]
        ended = await command("servers", "--facade", asked.url, "--tag", "c")
        assert "No server matches" in ended.out
        assert ended.err == "No server has the tag 'c'.\n"
        ended = await command("servers", "--facade", asked.url, "--status", "well")
        assert (ended.code, "healthy, degraded" in ended.err) == (2, True)


async def test_watch_shows_changes_and_outlives_the_facade(tmp_path: Path) -> None:
    port = str(ports.draw().number)
    url = f"http://127.0.0.1:{port}"
    entry = {"id": "one", "name": "one", "url": url, "healthUrl": f"{url}/health"}
    file = tmp_path / "one.json"
    file.write_text(json.dumps(entry))
    serve = ("facade", "--port", port, "--store", f"embedded://{tmp_path}/store.db")

    async def said(watcher: object, text: str) -> None:
        await until_holds(
            lambda: text in watcher.log,  # type: ignore[attr-defined]
            timeout=15,
            what=f"{text!r} in the log",
        )

    async def listening(process: object) -> None:
        await said(process, "listening on")

    async with running(tmp_path, *serve) as first:
        await listening(first)
        async with running(tmp_path, "watch", "--facade", url, "--json") as watcher:
            ended = await command("register", str(file), "--facade", url)
            assert ended.code == 0
            await said(watcher, '"id":"one"')
            await first.stop()
            await said(watcher, "trying again")
            async with running(tmp_path, *serve) as second:
                await listening(second)
                file.write_text(json.dumps(entry | {"id": "two", "name": "two"}))
                await command("register", str(file), "--facade", url)
                await said(watcher, '"id":"two"')
                ended = await command("watch", "--once", "--facade", url)
                assert ended.code == 0
                assert [line.split()[2] for line in ended.out.splitlines()] == ["one", "two"]
            assert await watcher.stop(signal.SIGINT) == 130
            assert "Traceback" not in watcher.log


async def test_logs_are_a_line_for_each_event_and_json_on_request(tmp_path: Path) -> None:
    port = str(ports.draw().number)
    async with running(tmp_path, "facade", "--port", port, "--json") as process:
        await until_holds(lambda: "listening on" in process.log, timeout=15, what="its start")
        assert await process.stop() == 0
    events = [json.loads(line) for line in process.log.splitlines()]
    assert [event["message"] for event in events][-1] == "stopping"
    assert {"time", "level", "logger", "message"} == set(events[0])


async def test_the_demo() -> None:
    ended = await command("demo", "--once", "--port", str(ports.draw().number), timeout=90)
    assert ended.code == 0, ended.err
    for seen in (
        "The facade listens on http://127.0.0.1:",
        "Desk lamp",
        "Seen as down after",
        "Seen as healthy",
        "Everything is stopped.",
    ):
        assert seen in ended.out
    # It may be in the middle of an answer, or its kernel takes a connection that nobody answers.
    assert re.search(r"down .* (connection|no answer|the answer broke off)", ended.out)
    assert "Traceback" not in ended.out + ended.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_the_demo_ends_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    import psutil

    port = ports.draw().number
    async with running(tmp_path, "demo", "--port", str(port)) as process:
        await until_holds(
            lambda: "Ctrl-C ends everything" in process.log, timeout=60, what="all being started"
        )
        children = psutil.Process(process._process.pid).children(recursive=True)
        assert len(children) == 5
        assert await process.stop(number) == 0
        assert [child for child in children if child.is_running()] == []
        assert "Traceback" not in process.log

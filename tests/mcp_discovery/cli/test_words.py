"""What is typed wrong is told in the words of this project, wherever it is given; help is plain."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mcp_discovery.cli import exit_codes, service_links
from mcp_discovery.cli.main import _COMMANDS, main
from tests.programs import ENVIRONMENT, ROOT

Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Typed]:
    """Runs a command line in this process: its exit code, output and messages."""

    def run(*arguments: str, **environment: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mcp-discovery", *arguments])
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            main()
        for name in environment:
            monkeypatch.delenv(name)
        code = ended.value.code
        assert isinstance(code, int)
        return code, *capsys.readouterr()

    yield run


SIDECAR = ("sidecar", "--url", "http://127.0.0.1:9/mcp", "--store", "http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("role", "option", "value", "says"),
    [
        ("facade", "port", "http", "'http' is no whole number; give 0 to 65535"),
        ("facade", "port", "65536", "65536 is out of range; give 0 to 65535"),
        ("facade", "workers", "2.5", "'2.5' is no whole number; give 1 to 64"),
        ("facade", "mcp-max-answer-bytes", "12", "12 is out of range; give 1024 or more"),
        ("facade", "probe-interval", "0.2", "give 1 second to 1 day, such as 10s"),
        ("sidecar", "fail-after", "-1", "-1 is out of range; give 1 to 100"),
        ("sidecar", "health-port", "80a", "'80a' is no whole number; give 0 to 65535"),
        ("sidecar", "weight", "heavy", "'heavy' is no whole number; give 0 to 65535"),
        ("sidecar", "drain", "a while", "'a while' is no time; write 30 (seconds), 30s, 5m or 2h"),
        ("facade", "gateway", "perhaps", "'perhaps' is neither true nor false"),
        ("sidecar", "try-advertised", "maybe", "'maybe' is neither true nor false"),
    ],
)
def test_a_bad_value_is_refused_in_the_same_words_from_everywhere(
    typed: Typed, tmp_path: Path, role: str, option: str, value: str, says: str
) -> None:
    start = SIDECAR if role == "sidecar" else ("facade",)
    variable = f"MCP_DISCOVERY_{option.replace('-', '_').upper()}"
    told = typed(*start, **{variable: value})
    assert told == (2, "", f"mcp-discovery: {variable}: {says}\n")
    if option not in ("gateway", "try-advertised"):  # these two take no value
        told = typed(*start, f"--{option}", value)
        assert told == (2, "", f"mcp-discovery: --{option}: {says}\n")
    file = tmp_path / "config.yaml"
    file.write_text(f"{role}:\n  {option}: {value}\n")
    told = typed(*start, "--config", str(file))
    assert told == (2, "", f"mcp-discovery: {file}:2: {option}: {says}\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("facade", "--prot", "1"), "there is no option --prot; did you mean --port or --host?"),
        (("facade", "--gateway=yes"), "--gateway takes no value"),
        (("sidecar", "--ttl"), "--ttl needs a value"),
        (("sidecar",), "give --store; see mcp-discovery sidecar --help"),
        (("sidecar", "--store", "x"), "give --url with the MCP server's URL, or the command of a"),
        (("call",), "give TOOL; see mcp-discovery call --help"),
        (("tools", "--limit", "many"), "--limit: 'many' is no whole number; give 1 to 10000"),
        (("health", "--port", "0"), "--port: 0 is out of range; give 1 to 65535"),
        (("export", "all.json"), "mcp-discovery export takes no argument 'all.json'; see"),
        (("wach",), "No such command 'wach'. Did you mean 'watch'?"),
        (("config", "show"), "No such command 'show'"),
        (("servers", "--facade", "localhost:5000"), "HTTP URL; write http://localhost:5000"),
        (("watch", "--facade", "consul://127.0.0.1:8500"), "names a store, not a facade"),
        (("describe", "x", "--facade", "http://u:pw@h/p"), "write http://h/p, without user"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_is_typed_wrong_is_one_sentence(
    typed: Typed, arguments: tuple[str, ...], says: str
) -> None:
    code, out, err = typed(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("mcp-discovery: ")
    assert says in err


@pytest.mark.parametrize("option", ["tag", "cors-origin", "allow-stdio"])
def test_a_comma_list_is_told_to_be_given_otherwise(
    typed: Typed, tmp_path: Path, option: str
) -> None:
    start = {"tag": SIDECAR, "cors-origin": ("facade",), "allow-stdio": ("call", "x")}[option]
    told = typed(*start, f"--{option}", "one,two")
    again = f"--{option} one --{option} two"
    says = f"--{option} takes one value; give it again for more: {again}"
    assert told == (2, "", f"mcp-discovery: {says}\n")
    if option == "allow-stdio":  # of the command line alone
        return
    variable = f"MCP_DISCOVERY_{option.replace('-', '_').upper()}"
    told = typed(*start, **{variable: "one,two three"})
    assert told == (2, "", f"mcp-discovery: {variable}: separate the values with blanks: one two\n")
    file = tmp_path / "config.yaml"
    file.write_text(f"{start[0]}:\n  {option}: one,two\n")
    told = typed(*start, "--config", str(file))
    assert told == (2, "", f"mcp-discovery: {file}:2: {option}: write a list: [one, two]\n")


@pytest.mark.parametrize("name", _COMMANDS)
def test_help_is_plain_and_whole(typed: Typed, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    code, out, err = typed(name, "--help")
    assert (code, err) == (0, "")
    assert "…" not in re.sub(r"--\w+ …|since, …", "", out)
    assert re.search(r"<(bool|str|int|list|float)", out) is None, "a type of Python"
    assert "│" not in out
    assert max(map(len, out.splitlines())) <= 100
    for each in re.findall(r"^  (?:-\w, )?(--[a-z-]+)", out, re.MULTILINE):
        assert out.count(each), each


def test_every_exit_code_is_on_the_pages_and_no_other() -> None:
    codes = {
        each for name, each in vars(exit_codes).items() if name.isupper() and name != "EXPLAINED"
    }
    table = (ROOT / "docs/shell.md").read_text().partition("## Exit codes")[2].partition("## ")[0]
    assert {int(each) for each in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)} == codes
    readme = (
        (ROOT / "README.md").read_text().partition("## Exit codes")[2].partition("A sidecar")[0]
    )
    for text in (readme, exit_codes.EXPLAINED.partition("A sidecar")[0]):
        assert {int(each) for each in re.findall(r"(?:^|[\s·;])(\d+)\s[a-zA-Z]", text)} == codes


LINKS = {
    "MCP_DISCOVERY_PORT": "tcp://10.96.0.7:4000",
    "MCP_DISCOVERY_SERVICE_HOST": "10.96.0.7",
    "MCP_DISCOVERY_SERVICE_PORT": "4000",
    "MCP_DISCOVERY_SERVICE_PORT_HTTP": "4000",
    "MCP_DISCOVERY_PORT_4000_TCP": "tcp://10.96.0.7:4000",
    "MCP_DISCOVERY_PORT_4000_TCP_ADDR": "10.96.0.7",
    "MCP_DISCOVERY_HEALTH_PORT": "tcp://10.96.0.8:9090",  # of a Service mcp-discovery-health
    "MCP_DISCOVERY_FACADE_PORT_8500_UDP_PROTO": "udp",
}


def test_service_links_of_kubernetes_are_ignored_with_one_warning(
    typed: Typed,
) -> None:
    own = {"MCP_DISCOVERY_PORT": "4000", "MCP_DISCOVERY_HEALTH_PORT": "9090"}
    assert service_links.links_in(own | {"MCP_DISCOVERY_STORE": "consul://h"}) == {}
    assert service_links.links_in(LINKS).keys() == LINKS.keys()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, _, err = typed(
            "facade",
            "--host",
            "127.0.0.1",
            **LINKS,
            MCP_DISCOVERY_WORKERS="1",
            MCP_DISCOVERY_CONFIG="/dev/null",
        )
        assert (code, "is empty" in err) == (2, True)  # the links are no settings of the file's
        code, _, err = typed(*SIDECAR, "--health-port", port, **LINKS)
    assert code == 6
    assert err.count("ignoring ") == 1, err
    assert "for the Service mcp-discovery and mcp-discovery-facade and mcp-discovery-health" in err
    assert os.environ.get("MCP_DISCOVERY_PORT") is None
    code, _, err = typed("health", **LINKS)
    assert (code, "nobody listens at 127.0.0.1:4000" in err or not err) == (code, True)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--help",), 0),
        (("sidecar", "--help"), 0),
        (("--version",), 0),
        (("config", "schema"), 141),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_reader_that_is_gone(arguments: tuple[str, ...], code: int) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    program = [sys.executable, "-m", "mcp_discovery.cli", *arguments]
    ended = subprocess.run(
        program, stdout=writing, stderr=subprocess.PIPE, env=ENVIRONMENT, cwd=ROOT, check=False
    )
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (code, b"")


@pytest.mark.filterwarnings("error")
def test_ctrl_c_before_the_loop_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> int:
        return 0

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(asyncio, "run", interrupted)
    import typer

    with pytest.raises(typer.Exit) as ended:
        exit_codes.run(work())
    assert ended.value.exit_code == 130


def test_a_busy_port_is_told_before_the_store_is_tried(typed: Typed) -> None:
    away = ("--store", "etcd://127.0.0.1:9")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for more in ((), ("--workers", "2"), ("--store", "embedded:///no/folder/x.db")):
            code, _, err = typed("facade", "--port", port, *away, *more)
            assert (code, err.count("\n")) == (6, 1), err
            assert f"127.0.0.1:{port} is in use" in err
        beside = ("sidecar", "--url", "http://127.0.0.1:9/mcp", *away, "--health-port", port)
        code, _, err = typed(*beside, "--", "sleep", "100")
        assert (code, err.count("\n")) == (6, 1), err
        assert "give another --health-port" in err

"""The probe of a command over its pipes: both eras, and commands that are no such servers."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from mcp_discovery.child import ChildStartError
from mcp_discovery.probe import BadAnswerError, Limits, NoAnswerError, UnreachableError
from mcp_discovery.probe.stdio import StdioProbe
from mcp_discovery.program import INHERITED, Program
from tests.programs import ROOT
from tests.stores import until

pytestmark = pytest.mark.slow
MakeProbe = Callable[..., StdioProbe]


@pytest.fixture
async def probe_of() -> AsyncIterator[MakeProbe]:
    """Makes probes of commands, which leave no process and no task."""
    made: list[StdioProbe] = []

    def make(*command: str, **more: str) -> StdioProbe:
        env = {"PYTHONPATH": str(ROOT), **more}
        made.append(StdioProbe(Program(command=command, env=env), "tried"))
        return made[-1]

    yield make
    for probe in made:
        await probe.close()
    assert [each.get_name() for each in asyncio.all_tasks() if "mcp-probe" in each.get_name()] == []


def handmade(*faults: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "tests.servers.stdio", *faults)


@pytest.mark.parametrize(
    "faults",
    [
        *((), ("batch",), ("strings",), ("slow",), ("silent",), ("echo",)),
        *(("ends-at-discover",), ("modern",), ("modern", "slow")),
    ],
    ids="-".join,
)
async def test_a_server_of_either_era(faults: tuple[str, ...], probe_of: MakeProbe) -> None:
    found = await probe_of(*handmade(*faults)).introspect(15)
    assert found.era == ("modern" if "modern" in faults else "legacy")
    assert found.server_info == {"name": "handmade", "version": "1.4"}
    assert [each["name"] for each in found.tools] == ["add"]
    assert found.findings == (
        ("answers bear the requests' ids as strings instead of as numbers",)
        if "strings" in faults
        else ()
    )


async def test_the_sdks_server(probe_of: MakeProbe) -> None:
    found = await probe_of(sys.executable, "-m", "tests.servers.counting", "--stdio").introspect(15)
    assert (found.era, len(found.tools)) == ("modern", 5)


async def test_what_it_prints_beside_messages_is_said(probe_of: MakeProbe) -> None:
    found = await probe_of(*handmade("banner")).introspect(15)
    assert len(found.tools) == 1
    (finding,) = found.findings
    assert finding.endswith("no message of MCP to its output: 'Handmade server, listening'")


async def test_it_is_given_few_variables(
    probe_of: MakeProbe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MCP_DISCOVERY_STORE_TOKEN", "ours")
    monkeypatch.setenv("OTHERS", "theirs")
    found = await probe_of(*handmade("env"), GIVEN="x").introspect(15)
    names = {each["name"] for each in found.tools}
    assert {"PATH", "GIVEN", "PYTHONPATH"} <= names
    assert names <= {*INHERITED, "GIVEN", "PYTHONPATH", "LC_CTYPE"}  # the last one is Python's own


async def test_it_has_ended_when_the_probe_is_closed(probe_of: MakeProbe, tmp_path: Path) -> None:
    file = tmp_path / "pid"
    probe = probe_of("sh", "-c", f"echo $$ > {file}; trap '' TERM; {' '.join(handmade())}; :")
    await probe.introspect(15)
    pid = int(file.read_text())
    os.kill(pid, 0)
    await probe.close()

    async def gone() -> bool:
        return not Path(f"/proc/{pid}").exists()

    await until(gone, timeout=5, what="its end")


#: A shell's command, and what is said of it.
ENDS = {
    "echo no key >&2; exit 3": "the command ended with exit code 3: no key",
    "exit 0": "the command ended with exit code 0",
    "echo no licence >&2; sleep 2.5; exit 6": "the command ended with exit code 6: no licence",
    "kill -9 $$": "the command was ended by SIGKILL",
    "echo 'usage: it [-h]'; echo ' -h help'; exit 2": (
        "the command ended with exit code 2; it printed 'usage: it [-h]'"
    ),
    "test -t 0 || { echo stdin is no tty >&2; exit 1; }": (
        "the command ended with exit code 1: stdin is no tty"
    ),
    ": < /dev/tty": "the command ended with exit code",
    "head -n 1 > /dev/null; echo read >&2; exit 5": "the command ended with exit code 5: read",
    "echo $API_KEY >&2; exit 1": "the command ended with exit code 1: ***",
    "setsid sleep 6 & echo gone >&2; exit 7": "the command ended with exit code 7: gone",
    "echo $API_KEY; exit 1": "the command ended with exit code 1; it printed '***'",
    "exec >&-; sleep 60": "the command closed its output and went on running",
}


@pytest.mark.parametrize("line", ENDS, ids=range(len(ENDS)))
async def test_a_command_that_ends(line: str, probe_of: MakeProbe) -> None:
    with pytest.raises(UnreachableError) as raised:
        await probe_of("sh", "-c", line, API_KEY="value-of-the-key").introspect(15)
    assert str(raised.value).startswith(ENDS[line])
    assert "value-of-the-key" not in str(raised.value)


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("no-such-command", 127, "command not found"),
        ("/etc/passwd", 126, "is not executable"),
        ("/", 126, "is a directory"),
    ],
)
async def test_a_command_that_cannot_be_started(
    command: str, code: int, said: str, probe_of: MakeProbe
) -> None:
    with pytest.raises(ChildStartError, match=said) as raised:
        await probe_of(command).introspect(5)
    assert raised.value.code == code


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("login", "said last: Open https://login.example/device and enter ABCD"),
        ("mute", "no answer within 1.5 s"),
        ("deaf", "no answer within 1.5 s"),
    ],
)
async def test_a_command_that_waits(fault: str, said: str, probe_of: MakeProbe) -> None:
    with pytest.raises((NoAnswerError, UnreachableError)) as raised:
        await probe_of(*handmade(fault)).introspect(1.5)
    assert said in str(raised.value) or "reads nothing" in str(raised.value)


async def test_more_than_is_read(probe_of: MakeProbe) -> None:
    command = (sys.executable, "-c", "print('[' + '1,' * 600_000 + '1]', flush=True); input()")
    with pytest.raises(BadAnswerError, match="JSON values at once"):
        await probe_of(*command).introspect(15)
    with pytest.raises(
        BadAnswerError, match="printed 10,000 lines that are no message of MCP: 'y'"
    ):
        await probe_of("yes").introspect(30)
    program = Program(command=handmade(), env={"PYTHONPATH": str(ROOT)})
    probe = StdioProbe(program, "small", limits=Limits(body_bytes=20))
    try:
        with pytest.raises(BadAnswerError, match="more than 20 bytes"):
            await probe.introspect(15)
    finally:
        await probe.close()

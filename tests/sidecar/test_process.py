"""Signals, exit codes and children of a sidecar that is a process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from tests.servers.process import ROOT, McpServer, odd
from tests.sidecar.harness import QUICK
from tests.stores import ports
from tests.stores.waiting import until

STOPPED = 1.5
"""Seconds that a process is stopped for: longer than its TTL, whose end only the clock tells."""


class Process:
    """A sidecar's process and what it wrote."""

    def __init__(
        self, settings: dict[str, Any], log: Path, store: str | None, hangup: signal.Handlers
    ) -> None:
        self._log = log
        arguments = [json.dumps(QUICK | settings), *([store] if store else [])]
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.sidecar.runner", *arguments],
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # Inherited: whoever runs the tests under nohup has it ignored.
                preexec_fn=partial(signal.signal, signal.SIGHUP, hangup),
            )

    @property
    def output(self) -> str:
        """All that it wrote."""
        return self._log.read_text()

    async def wrote(self, text: str, *, within: float = 30.0) -> None:
        """Waits until it wrote ``text``."""

        async def written() -> bool:
            return text in self.output

        try:
            await until(written, timeout=within, what=f"writing {text!r}")
        except TimeoutError as error:
            raise TimeoutError(f"{error}; it wrote:\n{self.output}") from error

    async def code(self, within: float) -> int:
        """Waits for its exit code."""

        async def ended() -> bool:
            return self.process.poll() is not None

        try:
            await until(ended, timeout=within, what="its end")
        except TimeoutError as error:
            raise TimeoutError(f"{error}; it wrote:\n{self.output}") from error
        return int(self.process.returncode)

    def child(self) -> psutil.Process:
        """Its child."""
        (child,) = psutil.Process(self.process.pid).children()
        return child


@contextmanager
def running(
    settings: dict[str, Any],
    tmp_path: Path,
    store: str | None = None,
    *,
    hangup: signal.Handlers = signal.SIG_DFL,
) -> Iterator[Process]:
    """Runs a sidecar as a process until the block ends; ``hangup`` is what SIGHUP means before."""
    process = Process(settings, tmp_path / "sidecar.log", store, hangup)
    try:
        yield process
    finally:
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.process.pid).children(recursive=True):
                child.kill()
        process.process.kill()
        process.process.wait()


@pytest.fixture
def port() -> Iterator[int]:
    """A port for a child."""
    port = ports.draw()
    yield port.number
    port.release()


def server_as_child(port: int, *options: str) -> dict[str, Any]:
    """Settings of a sidecar that starts the odd server itself."""
    command = [sys.executable, "-m", "tests.servers.odd", "--port", str(port), *options]
    return {"url": f"http://127.0.0.1:{port}/mcp", "command": command}


async def control(port: int, **wishes: Any) -> None:
    """Tells the odd server at ``port`` what to do."""
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"http://127.0.0.1:{port}/control", json=wishes) as response,
    ):
        assert response.status == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_and_exits_zero(
    server: McpServer, tmp_path: Path, number: signal.Signals
) -> None:
    with running({"url": server.url, "drain": 1.0}, tmp_path) as process:
        await process.wrote("seen healthy")
        signalled = time.monotonic()
        process.process.send_signal(number)
        await process.wrote("seen draining")
        assert await process.code(30.0) == 0
        assert 1.0 <= time.monotonic() - signalled < 2.2  # with the interpreter's own end
        assert process.output.index("seen draining") < process.output.index("gone")


async def test_the_child_is_stopped_last(tmp_path: Path, port: int) -> None:
    with running(server_as_child(port) | {"drain": 2.0}, tmp_path) as process:
        await process.wrote("seen healthy")
        child = process.child()
        assert os.getpgid(child.pid) == child.pid
        process.process.terminate()
        await process.wrote("seen draining")
        assert child.is_running()
        assert await process.code(30.0) == 0
        assert not child.is_running()
        assert "gone" in process.output
        assert "seen down" not in process.output


@pytest.mark.parametrize("code", [0, 3])
async def test_exits_with_the_childs_code(tmp_path: Path, port: int, code: int) -> None:
    with running(server_as_child(port) | {"drain": 60.0}, tmp_path) as process:
        await process.wrote("seen healthy")
        await control(port, exit=code)
        assert await process.code(30.0) == code
        assert "gone" in process.output


async def test_exits_as_shells_do_when_the_child_was_killed(tmp_path: Path, port: int) -> None:
    with running(server_as_child(port), tmp_path) as process:
        await process.wrote("seen healthy")
        process.child().kill()
        assert await process.code(30.0) == 128 + signal.SIGKILL
        assert "gone" in process.output


async def test_a_child_that_ends_before_it_answers(tmp_path: Path, port: int) -> None:
    settings = {"url": f"http://127.0.0.1:{port}/mcp", "command": ["sh", "-c", "exit 7"]}
    with running(settings, tmp_path) as process:
        assert await process.code(30.0) == 7


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH])
async def test_passes_other_signals_on(tmp_path: Path, port: int, number: signal.Signals) -> None:
    # The shell waits in a loop, as a trap is only run between two commands.
    script = (
        f"trap 'echo caught; exit 9' {number.value}; echo waiting; while :; do sleep 0.05; done"
    )
    settings = {"url": f"http://127.0.0.1:{port}/mcp", "command": ["sh", "-c", script]}
    with running(settings, tmp_path) as process:
        await process.wrote("waiting\n")
        process.process.send_signal(number)
        assert await process.code(30.0) == 9
        assert "caught" in process.output


async def test_a_child_that_does_not_end_is_killed(tmp_path: Path, port: int) -> None:
    script = "trap '' TERM; echo waiting; while :; do sleep 0.05; done"
    settings = {
        "url": f"http://127.0.0.1:{port}/mcp",
        "command": ["sh", "-c", script],
        "child_grace": 0.3,
    }
    with running(settings, tmp_path) as process:
        await process.wrote("waiting\n")
        child = process.child()
        process.process.terminate()
        assert await process.code(5.0) == 0  # less than the default grace and the drain
        assert not child.is_running()


async def test_a_killed_sidecar_takes_its_child_along(tmp_path: Path, port: int) -> None:
    with running(server_as_child(port), tmp_path) as process:
        await process.wrote("seen healthy")
        child = process.child()
        process.process.kill()

        async def gone() -> bool:
            return not child.is_running() or child.status() == psutil.STATUS_ZOMBIE

        await until(gone, timeout=30.0, what="the child's end")


@pytest.mark.parametrize("hangup", [signal.SIG_DFL, signal.SIG_IGN], ids=["usual", "under nohup"])
async def test_hanging_up_reads_credential_files_again(
    tmp_path: Path, hangup: signal.Handlers
) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    async with odd("--token", "first") as server:
        settings = {"url": server.url, "server_token_file": str(token)}
        with running(settings, tmp_path, hangup=hangup) as process:
            await process.wrote("seen healthy")
            token.write_text("other\n")
            process.process.send_signal(signal.SIGHUP)
            await process.wrote(f"{token} has changed; it counts from now on")
            await server.control(token="other")
            process.process.terminate()
            assert await process.code(30.0) == 0
            assert "seen down" not in process.output
            assert not {"first", "other"} & set(process.output.split())


@pytest.mark.parametrize(
    ("command", "code", "sentence"),
    [
        (["no-such-command-anywhere"], 127, "command not found"),
        (["/etc/passwd"], 126, "is not executable"),
        (["false"], 1, "before the command ended; if the command speaks stdio, leave out --url"),
    ],
)
async def test_a_command_that_cannot_be_run(
    tmp_path: Path, port: int, command: list[str], code: int, sentence: str
) -> None:
    settings = {"url": f"http://127.0.0.1:{port}/mcp", "command": command}
    with running(settings, tmp_path) as process:
        assert await process.code(30.0) == code
        assert sentence in process.output
        assert "Traceback" not in process.output


async def test_a_stopped_process_is_registered_anew_when_it_goes_on(
    server: McpServer, tmp_path: Path
) -> None:
    with running({"url": server.url, "ttl": 1.0, "probe_interval": 0.5}, tmp_path) as process:
        await process.wrote("seen healthy")
        process.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(STOPPED)
        process.process.send_signal(signal.SIGCONT)
        await process.wrote("registering anew")

        async def twice() -> bool:
            return process.output.count("registered odd-") == 2

        await until(twice, timeout=30.0, what="being registered anew")


async def test_the_child_does_not_inherit_the_sidecars_credentials(
    tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STORE_TOKEN", "STORE_PASSWORD", "SERVER_TOKEN", "HEALTH_TOKEN"):
        monkeypatch.setenv(f"MCP_DISCOVERY_{name}", "s3cr3t")
    monkeypatch.setenv("ITS_OWN", "kept")
    with running(server_as_child(port), tmp_path) as process:
        await process.wrote("started")
        environment = process.child().environ()
        assert "s3cr3t" not in environment.values()
        assert environment["ITS_OWN"] == "kept"

"""Memory and processor time of real processes, against what the kernel says elsewhere."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mcp_discovery.health import Load
from mcp_discovery.sidecar import process_figures
from mcp_discovery.sidecar.process_figures import ProcessFigures, ProcessUse
from tests.stores.waiting import until

#: Starts as many processes, each below the one before, from a thread that is not the first; each
#: takes 20 MB and says so.
TREE = """
import subprocess, sys, threading
held = bytearray(20_000_000)
def start():
    if (left := int(sys.argv[1]) - 1) > 0:
        subprocess.Popen([sys.executable, "-c", sys.argv[2], str(left), sys.argv[2]])
threading.Thread(target=start).start()
print("there", flush=True)
threading.Event().wait()
"""
#: Starts a worker, says its id, and ends when it is told to.
PARENT = """
import subprocess, sys
print(subprocess.Popen(["sleep", "60"]).pid, flush=True)
sys.stdin.read()
"""
#: Works for as long as it is told, when it is told to.
WORKER = """
import sys, time
for line in sys.stdin:
    end = time.process_time() + float(line)
    while time.process_time() < end: pass
    print("done", flush=True)
"""


class Clock:
    """Goes on by a second each time that it is asked."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


@contextmanager
def started(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def tell(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{text}\n")
    process.stdin.flush()


def read(figures: ProcessFigures) -> ProcessUse:
    use = figures.read()
    assert use is not None
    return use


def test_all_descendants_count() -> None:
    with started(TREE, "3", TREE) as process:
        for _ in range(3):
            assert said(process) == "there"
        use = read(ProcessFigures(lambda: [process.pid], Clock()))
        assert (use.processes, use.running) == (3, True)
        listed = subprocess.check_output(["ps", "-o", "rss=", "-g", str(process.pid)], text=True)
        resident = sum(map(int, listed.split())) * 1024
        assert use.memory == pytest.approx(resident, rel=0.02)
        assert 60_000_000 < use.memory < 120_000_000


def test_the_processor_time_is_what_was_taken() -> None:
    with started(WORKER) as process:
        tell(process, "0")
        said(process)
        clock = Clock()
        figures = ProcessFigures(lambda: [process.pid], clock)
        before = read(figures)
        assert before.share is None
        tell(process, "0.4")
        assert said(process) == "done"
        after = read(figures)
        assert after.seconds - before.seconds == pytest.approx(0.4, abs=0.05)
        assert after.share == pytest.approx(0.4, abs=0.05)  # by this clock it took one second
        for _ in range(30):
            idle = read(figures)
        assert idle.share is not None and idle.share < 0.03
        assert idle.seconds == pytest.approx(after.seconds, abs=0.02)


async def test_one_that_its_parent_left_behind_still_counts() -> None:
    with started(PARENT) as process:
        worker = int(said(process))
        figures = ProcessFigures(lambda: [process.pid], Clock())
        seconds = read(figures).seconds
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait() == 0
        process.stdin = None
        use = read(figures)
        assert (use.processes, use.running) == (1, False)
        assert use.seconds >= seconds  # never less, though one is gone that nobody here waited for
        os.kill(worker, signal.SIGKILL)

        async def gone() -> bool:
            return read(figures).processes == 0

        await until(gone, timeout=5, what="the worker's end")
        assert read(figures).memory == 0


def test_one_that_has_ended_and_was_not_waited_for_does_not_run() -> None:
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        use = read(ProcessFigures(lambda: [process.pid], Clock()))
        assert (use.processes, use.running, use.memory) == (0, False, 0)


def test_a_name_with_blanks_and_parentheses(tmp_path: os.PathLike[str]) -> None:
    odd = os.path.join(tmp_path, "a) R (b")
    os.symlink("/bin/sleep", odd)
    with subprocess.Popen([odd, "60"]) as process:
        try:
            while (use := read(ProcessFigures(lambda: [process.pid], Clock()))).memory == 0:
                assert process.poll() is None  # it is being loaded
            assert use.running
        finally:
            process.kill()


def test_a_reading_is_given_again_for_a_moment() -> None:
    figures = ProcessFigures(lambda: [os.getpid()])
    assert figures.read() is figures.read()
    load = figures.load()
    assert load is not None and (load.running, load.cpu) == (True, None)
    assert load == Load(memory=load.memory, running=True)


def test_where_nothing_is_told_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a kernel that was built without the lists of children."""
    honest = process_figures._content
    monkeypatch.setattr(
        process_figures,
        "_content",
        lambda path: None if path.endswith("children") else honest(path),
    )
    figures = ProcessFigures(lambda: [os.getpid()])
    assert figures.read() is None and figures.load() is None
    monkeypatch.undo()
    monkeypatch.setattr(process_figures, "_TELLS", False)  # as on macOS
    assert figures.read() is None and figures.load() is None


def test_ten_processes_take_less_than_a_millisecond() -> None:
    with started(TREE, "10", TREE) as process:
        for _ in range(10):
            said(process)
        figures = ProcessFigures(lambda: [process.pid], Clock())
        assert read(figures).processes == 10
        took = []
        for _ in range(20):
            began = time.thread_time()
            figures.read()
            took.append(time.thread_time() - began)
        assert min(took) < 0.001


async def test_many_processes_hold_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_figures, "_MANY", 2)
    with started(TREE, "3", TREE) as process:
        for _ in range(3):
            said(process)
        figures = ProcessFigures(lambda: [process.pid], Clock())
        assert read(figures).processes == 3
        entered, go_on = threading.Event(), threading.Event()
        honest = figures._stats

        def slow(roots: Iterable[int]) -> dict[int, Any]:
            entered.set()
            go_on.wait(10)
            return honest(roots)

        monkeypatch.setattr(figures, "_stats", slow)
        before = figures.read()  # the last one, while a thread reads
        assert await asyncio.to_thread(entered.wait, 10)
        assert figures.read() is before
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        go_on.set()

        async def told() -> bool:
            return read(figures).processes == 0

        await until(told, timeout=5, what="the reading's end")

"""Programs that the benchmarks start, and the load that one of them makes."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

import psutil
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from benchmarks import data, processes, sidecar_processes
from benchmarks.harness import Scale, Unavailable
from benchmarks.load_generator import load, read
from benchmarks.processes import free_port, process, python, tool
from tests.programs import ROOT
from tests.stores.waiting import until_holds

_WRK = """
  Latency Distribution
     50%    2.00ms
     99%    1.50s
Requests/sec:  {rate}
{more}
"""
#: Tells its process id, and ends when it is told to with its words.
_TOLD = "import os, sys; print(os.getpid(), flush=True); sys.exit(sys.stdin.readline() or 0)"


async def test_what_a_program_said_last_is_told_when_it_ends_before_its_time() -> None:
    with pytest.raises(RuntimeError, match="ended with 1: too bad\n"):
        async with process(sys.executable, "-c", "import sys; sys.exit('too bad')"):
            pass
    with pytest.raises(RuntimeError, match="ended with 1: too bad\n"):
        async with process(sys.executable, "-c", _TOLD) as running:
            assert running.process.stdin is not None
            running.process.stdin.write(b"too bad\n")
            await running.process.wait()
            raise ConnectionError("it is not there")


async def test_children_end_with_the_block_whether_the_program_has_or_not() -> None:
    leaves = (
        "from subprocess import DEVNULL, Popen\n"
        "print(Popen(['sleep', '999'], stdin=DEVNULL, stdout=DEVNULL).pid, flush=True)"
    )
    async with process(sys.executable, "-c", leaves) as running:
        await running.process.wait()
        child = psutil.Process(int(running.first))
    gone, _ = psutil.wait_procs([child], timeout=5)
    assert gone


async def test_programs_die_with_their_parent() -> None:
    parent = (
        "import asyncio, sys\n"
        "from benchmarks.processes import process\n"
        "async def main():\n"
        "    async with process(sys.executable, '-c', sys.argv[1]) as running:\n"
        "        print(running.first, flush=True)\n"
        "        await asyncio.sleep(999)\n"
        "asyncio.run(main())\n"
    )
    started = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", parent, _TOLD), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert started.stdout is not None
    child = psutil.Process(int(await started.stdout.readline()))
    started.kill()
    await started.wait()
    gone, _ = psutil.wait_procs([child], timeout=5)
    assert gone


async def test_a_program_that_has_ended_has_no_processor_time() -> None:
    async with sidecar_processes.python("-c", "input()") as running:
        assert running.cpu() >= 0
        psutil.Process(running.pid).kill()
        with pytest.raises((RuntimeError, psutil.NoSuchProcess)):
            await until_holds(lambda: running.cpu() < 0, timeout=5, what="no processor time")


# -- load --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more",
    ["  Socket errors: connect 0, read 0, write 0, timeout 1", "  Non-2xx or 3xx responses: 7"],
)
def test_load_that_was_not_answered_counts_for_nothing(more: str) -> None:
    found = read(_WRK.format(rate="812.50", more=""), 0.5)
    assert (found.rate, found.p50, found.p99) == (812.5, 2.0, 1500.0)
    for said in (_WRK.format(rate="812.50", more=more), _WRK.format(rate="0.00", more="")):
        with pytest.raises(RuntimeError):
            read(said, 0.5)


async def test_load_on_nobody_fails() -> None:
    with pytest.raises(RuntimeError, match="ended with 1"):
        await load(f"http://127.0.0.1:{free_port()}/", Scale(quick=True))


@pytest.mark.parametrize("with_wrk", [True, False])
async def test_every_request_has_an_id_and_an_authorization_of_its_own(
    with_wrk: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if not with_wrk:
        monkeypatch.setattr(processes, "_TOOLS", tmp_path)
        monkeypatch.setenv("PATH", str(tmp_path))
    elif shutil.which("wrk") is None and not (processes._TOOLS / "wrk").exists():
        pytest.fail("wrk is missing: `make stores` brings it")
    ids: list[str] = []
    tokens: list[str] = []

    async def note(request: web.Request) -> web.Response:
        ids.append(request.headers["X-Request-Id"])
        tokens.append(request.headers["Authorization"])
        return web.Response(text=request.rel_url.raw_query_string)

    app = web.Application()
    app.router.add_get("/servers", note)
    async with TestServer(app) as server:
        await load(str(server.make_url("/servers?tags=a")), Scale(quick=True), connections=2)
    assert len(ids) > 2
    assert len(set(ids)) == len(set(tokens)) == len(ids)


async def test_only_a_quick_run_does_without_wrk(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(processes, "_TOOLS", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="wrk is missing"):
        await load("http://127.0.0.1:1/", Scale())
    async with python("benchmarks.filled_facade", "20") as (url, _):
        found = await load(f"{url}/servers?tags={data.WANTED}", Scale(quick=True))
        assert found.rate > 0
        with pytest.raises(RuntimeError, match="Non-2xx"):
            await load(f"{url}/nothing", Scale(quick=True))
    (tmp_path / "wrk").write_text("#!/bin/sh\n")
    (tmp_path / "wrk").chmod(0o755)
    assert tool("wrk") == str(tmp_path / "wrk")


# -- data --------------------------------------------------------------------------------------


def test_what_is_wanted_is_the_same_however_many_replicas_the_others_have() -> None:
    alone = [data.instance(number, 1) for number in range(60)]
    shared = list(data.instances(60))
    assert alone[: data.WANTED_COUNT] == shared[: data.WANTED_COUNT]
    assert len({each.record.name for each in alone}) == 41
    assert len({each.record.name for each in shared}) == 3

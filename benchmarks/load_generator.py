"""Load on one URL, and what comes of it: requests a second, latency, and the generator's own CPU.

Every request brings an ``X-Request-Id`` and an ``Authorization`` of its own, as behind every proxy.

wrk sends them (``scripts/fetch-bench-tools``). In a quick run a small generator of ours may stand
in for it: it is slower than what it measures, so that a full run does without the row instead.
"""

from __future__ import annotations

import asyncio
import os
import re
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import Scale, Unavailable
from benchmarks.processes import ROOT, tool
from tests.stores.process import die_with_parent

#: Makes the headers that wrk sends.
_OWN_HEADERS = Path(__file__).with_name("own_headers.lua")
_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}


@dataclass(frozen=True, slots=True)
class Load:
    """``p50`` and ``p99`` in milliseconds; ``cpu`` is the generator's share of one processor."""

    rate: float
    p50: float
    p99: float
    cpu: float


async def load(
    url: str, scale: Scale, *, connections: int = 32, tokens: Path | None = None
) -> Load:
    """Requests ``url`` over ``connections`` at once for 5 s, over each as soon as it is answered.
    The file ``tokens`` has a bearer token a line, which are used in turns.

    Raises :class:`RuntimeError` where one answer is anything but 2xx, a connection breaks, or no
    answer comes, and :class:`Unavailable` where a full run has no wrk.
    """
    seconds = scale.of(5, 1)
    try:
        command = [
            *(tool("wrk"), "-t1", f"-c{connections}", f"-d{seconds}s"),
            *("--latency", "--timeout", "10s", "-s", str(_OWN_HEADERS), url),
        ]
    except Unavailable:
        if not scale.quick:
            raise
        command = [
            *(sys.executable, "-m", "benchmarks.small_load_generator"),
            *(url, str(connections), str(seconds)),
        ]
    before, began = _children(), time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=ROOT,
        env=os.environ | ({} if tokens is None else {"LOAD_TOKENS": str(tokens)}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        preexec_fn=die_with_parent(),
    )
    try:
        out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    used = (_children() - before) / (time.monotonic() - began)
    if process.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}: {out.decode()[-1000:]}")
    return read(out.decode(), used)


def _children() -> float:
    """The seconds of processor time of all processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def read(said: str, cpu: float) -> Load:
    """What wrk said; raises :class:`RuntimeError` where not all was answered as it should be."""
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    p50, p99 = (re.search(rf"{share}%\s+([\d.]+)(us|ms|s|m)\b", said) for share in (50, 99))
    bad = "Non-2xx" in said or "Socket errors" in said
    if bad or rate is None or p50 is None or p99 is None or float(rate[1]) == 0:
        raise RuntimeError(f"the load was not answered as it should be: {said[-1000:]}")
    latencies = [float(found[1]) * _UNITS[found[2]] for found in (p50, p99)]
    return Load(float(rate[1]), latencies[0], latencies[1], cpu)

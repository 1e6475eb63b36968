"""Load on one URL, and what it says of who answers: requests a second, latency, and its own CPU.

wrk makes it where it is there (``scripts/fetch-bench-tools``); otherwise a small generator of ours,
which is slower than what it measures and says so by its own CPU.
"""

from __future__ import annotations

import asyncio
import re
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.harness import Unavailable
from benchmarks.processes import ROOT, tool

_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}


@dataclass(frozen=True, slots=True)
class Load:
    """``p50`` and ``p99`` in milliseconds; ``cpu`` is the generator's share of one processor."""

    rate: float
    p50: float
    p99: float
    cpu: float


async def load(
    url: str, seconds: float, *, connections: int = 32, headers: Mapping[str, str] | None = None
) -> Load:
    """Asks for ``url`` over ``connections`` at once, each as soon as it is answered.

    Raises :class:`RuntimeError` where answers are anything but 2xx, or none comes.
    """
    given = [f"-H{name}: {value}" for name, value in (headers or {}).items()]
    try:
        command = [
            *(tool("wrk"), "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s"),
            *("--latency", "--timeout", "10s", *given, url),
        ]
    except Unavailable:
        command = [
            *(sys.executable, "-m", "benchmarks.small_load"),
            *(url, str(connections), str(seconds), *given),
        ]
    before, began = _children(), time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    used = (_children() - before) / (time.monotonic() - began)
    return _read(out.decode(), used)


def _children() -> float:
    """The seconds of processor time of all processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _read(said: str, cpu: float) -> Load:
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    p50, p99 = (re.search(rf"{share}%\s+([\d.]+)(us|ms|s|m)\b", said) for share in (50, 99))
    if rate is None or p50 is None or p99 is None or "Non-2xx" in said or float(rate[1]) == 0:
        raise RuntimeError(f"the load was not answered as it should be: {said[-1000:]}")
    latencies = [float(found[1]) * _UNITS[found[2]] for found in (p50, p99)]
    return Load(float(rate[1]), latencies[0], latencies[1], cpu)

"""Samples memory and open files of our own processes, and judges whether they stay flat."""

from __future__ import annotations

import asyncio
import statistics
from collections import defaultdict
from dataclasses import dataclass

import psutil

from tests.faults.environment import Environment

#: Seconds between two samples, and of a process's life that count as its warm-up.
EVERY = 2.0
WARM_UP = 60.0
#: Samples after the warm-up below which nothing can be said of a process.
ENOUGH = 20
#: What may come on top: a share of the memory, and files (a request more, a watch that is resumed).
MEMORY_SHARE, MEMORY_BYTES, FILES = 0.10, 6 * 2**20, 12


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at one process: seconds since it was first seen, bytes, open files."""

    at: float
    memory: int
    files: int


class Growth:
    """Samples every sidecar and facade of an environment."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._samples: dict[tuple[str, int], list[Sample]] = defaultdict(list)

    async def run(self) -> None:
        """Samples until it is cancelled."""
        began: dict[tuple[str, int], float] = {}
        while True:
            now = asyncio.get_running_loop().time()
            programs = [(each.id, each.sidecar) for each in self._environment.instances]
            programs += [(each.id, each.sidecar) for each in self._environment.bridged]
            programs += [(each.name, each.program) for each in self._environment.facades]
            for name, program in programs:
                if not program.running:
                    continue
                key = name, program.pid
                first = began.setdefault(key, now)
                try:
                    process = psutil.Process(program.pid)
                    with process.oneshot():
                        files = process.num_fds()
                        memory = process.memory_info().rss
                except psutil.Error:
                    continue  # It was killed just now.
                self._samples[key].append(Sample(now - first, memory, files))
            await asyncio.sleep(EVERY)

    def judge(self) -> tuple[list[str], list[str]]:
        """What each process that lived long enough came to, and what of it is no longer flat."""
        seen, grown = [], []
        for (name, pid), samples in self._samples.items():
            warm = [each for each in samples if each.at >= WARM_UP]
            if len(warm) < ENOUGH:
                continue
            third = len(warm) // 3
            memory = _medians([each.memory for each in warm], third)
            files = _medians([each.files for each in warm], third)
            said = (
                f"{name} ({pid}): {memory[0] / 2**20:.1f} → {memory[1] / 2**20:.1f} MiB, "
                f"{files[0]:g} → {files[1]:g} open files in {warm[-1].at:.0f} s"
            )
            seen.append(said)
            much = memory[1] - memory[0] > max(MEMORY_BYTES, MEMORY_SHARE * memory[0])
            if much or files[1] - files[0] > FILES:
                grown.append(f"not flat: {said}")
        return seen, grown


def _medians(values: list[int], third: int) -> tuple[float, float]:
    """Of the first and of the last third."""
    return statistics.median(values[:third]), statistics.median(values[-third:])

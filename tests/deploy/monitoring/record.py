"""Records outages as Prometheus saw them: ``python -m tests.deploy.monitoring.record [NAME …]``.

Writes ``deploy/prometheus/tests/NAME.yml``, which promtool runs against the rules. All outages take
about 50 minutes, four of them at a time (``--at-once``).
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path

from tests.deploy.monitoring.files import PROMETHEUS
from tests.deploy.monitoring.outages import OUTAGES
from tests.deploy.monitoring.series import as_promtool_test

TESTS = PROMETHEUS / "tests"


async def record(name: str, folder: Path, free: asyncio.Semaphore) -> bool:
    """Lets one outage happen, and writes it down; whether that went well."""
    async with free:
        print(f"{name}: begins", flush=True)
        try:
            made = await OUTAGES[name](folder / name)
        except Exception as error:  # noqa: BLE001  the other outages go on
            print(f"{name}: FAILED: {type(error).__name__}: {error}", flush=True)
            return False
        for line in made.seen:
            print(f"{name}: {line}", flush=True)
        (TESTS / f"{name}.yml").write_text(
            as_promtool_test(name, OUTAGES[name].__doc__ or "", made)
        )
        return True


async def main() -> int:
    """Records the named outages, all where none is; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*OUTAGES, []])
    parser.add_argument("--at-once", type=int, default=4)
    given = parser.parse_args()
    free = asyncio.Semaphore(given.at_once)
    with tempfile.TemporaryDirectory(prefix="outages-", ignore_cleanup_errors=True) as folder:
        each = (record(name, Path(folder), free) for name in given.names or OUTAGES)
        return int(not all(await asyncio.gather(*each)))


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))

"""One target fed by coverage: ``python -m tests.faults.fuzz.guided TARGET --seconds N [--seed S]``.

Needs the package ``atheris``. Ends with exit code 1, and the input on standard error, at the
first finding.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import random
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

#: How many inputs that hypothesis makes are the ground to start from, and how long they may be.
_GROUND, _LONGEST = 200, 20_000


def main() -> None:
    """Fuzzes until the time is over. Leaves by ``os._exit``: atheris does not return."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    given_ = parser.parse_args()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")

    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["mcp_discovery"]):
        from tests.faults.fuzz.target import Finding
        from tests.faults.fuzz.targets import BY_NAME

    target = BY_NAME[given_.target]

    def one(data: bytes) -> None:
        try:
            target.judge(data)
        except Finding as finding:
            print(f"FINDING {finding}", file=sys.stderr, flush=True)
            os._exit(1)

    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        number = iter(range(10**9))

        @seed(given_.seed)
        @settings(
            max_examples=_GROUND,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(target.corpus)
        def sow(data: bytes) -> None:
            (Path(folder) / str(next(number))).write_bytes(data[:_LONGEST])

        sow()
        options = [f"-max_total_time={max(1, round(given_.seconds))}", f"-max_len={_LONGEST}"]
        options += [f"-seed={given_.seed % 2**31 or 1}", "-rss_limit_mb=2048", "-verbosity=0"]
        options += ["-print_final_stats=0", "-close_fd_mask=1", folder]
        random.seed(given_.seed)
        atheris.Setup([sys.argv[0], *options], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()

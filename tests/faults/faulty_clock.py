"""Runs ``mcp-discovery`` with a wall clock that is stepped while it runs, in that process alone.

``python -m tests.faults.faulty_clock FILE sidecar …``: FILE holds the seconds by which the clock is
off; it is read again each time that somebody asks for the time. The monotonic clock, by which all
waiting is done, cannot be stepped, neither here nor by an operator.
"""

from __future__ import annotations

import datetime
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True)
class Clock:
    """The clock of one process: right, until it is stepped."""

    file: Path

    def step(self, seconds: float) -> None:
        """From now on it is off by ``seconds``, 0 for right again."""
        self.file.write_text(f"{seconds:g}")


real = datetime.datetime


def install(file: Path) -> None:
    """Makes this process's wall clock follow ``file``."""
    real_time, real_ns = time.time, time.time_ns

    def off() -> float:
        try:
            return float(file.read_text() or 0)
        except OSError:
            return 0.0

    class _Kind(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, real)

        def __subclasscheck__(cls, subclass: type) -> bool:
            return issubclass(subclass, real)

    class FaultyDatetime(real, metaclass=_Kind):
        """The moments it makes are real ones; only what is "now" is off."""

        def __new__(cls, *args: Any, **named: Any) -> Self:
            return real(*args, **named)  # type: ignore[return-value]

        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Self:
            return real.now(tz) + datetime.timedelta(seconds=off())  # type: ignore[return-value]

        @classmethod
        def fromtimestamp(cls, timestamp: float, tz: datetime.tzinfo | None = None) -> Self:
            return real.fromtimestamp(timestamp, tz)  # type: ignore[return-value]

        @classmethod
        def fromisoformat(cls, text: str) -> Self:
            return real.fromisoformat(text)  # type: ignore[return-value]

    time.time = lambda: real_time() + off()
    time.time_ns = lambda: real_ns() + int(off() * 1e9)
    # Whatever imports it from here on has this one.
    datetime.datetime = FaultyDatetime  # type: ignore[misc]


def main() -> None:
    """Installs the clock, then is the command."""
    file = Path(sys.argv[1])
    sys.argv[1:2] = []
    install(file)
    from mcp_discovery.cli import main as command

    command()


if __name__ == "__main__":
    main()

"""What is measured on: its name, the time there, and how quick it is just now."""

from __future__ import annotations

import os
import platform
import time
from typing import Any

_BUSY = 200_000


def busy() -> float:
    """How many seconds a fixed piece of work takes now."""
    began = time.perf_counter()
    total = 0
    for number in range(_BUSY):
        total += number & 7
    return time.perf_counter() - began


def utc_now() -> str:
    """Date and time, in seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def machine() -> dict[str, Any]:
    """What the figures were measured on; starts no program, as :func:`platform.platform` does."""
    kernel = os.uname()
    return {
        "at": utc_now(),
        "system": f"{kernel.sysname}-{kernel.release}-{kernel.machine}",
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }

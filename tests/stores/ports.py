"""Draws ports on 127.0.0.1 that stay a server's own while it is stopped and started again."""

import contextlib
import random
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

LOWEST = 10_000
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Port:
    """A port that no other test process draws until `release` is called or this process ends."""

    number: int
    claim: socket.socket | None

    def release(self) -> None:
        """Let other test processes draw the port again."""
        if self.claim is not None:
            self.claim.close()


def draw() -> Port:
    """Draw a port on which nobody listens, neither by TCP nor by UDP, and claim it.

    It lies below the kernel's ephemeral range: while its server is down, no outgoing connection
    of this machine can land on it, nor connect to itself.
    """
    highest = _ephemeral_start() - 1
    for _ in range(1000):
        number = random.randint(LOWEST, highest)
        try:
            claim = _claim(number)
        except OSError:
            continue
        if _is_free(number):
            return Port(number, claim)
        if claim is not None:
            claim.close()
    raise RuntimeError(f"1000 draws found no free port on {LOOPBACK} in {LOWEST}-{highest}")


def _ephemeral_start() -> int:
    with contextlib.suppress(OSError):
        start = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
        if start > LOWEST + 1000:
            return start
    return 49_152  # The range's start by RFC 6335, and what macOS uses.


def _claim(number: int) -> socket.socket | None:
    # A name in Linux's abstract namespace: the kernel frees it when the process ends, however.
    if sys.platform != "linux":
        return None
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        claim.bind(f"\0mcp-discovery-test-port-{number}")
    except OSError:
        claim.close()
        raise
    return claim


def _is_free(number: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind((LOOPBACK, number))
            except OSError:
                return False
    return True

"""Hosts of their own for store members: network namespaces on a bridge, where the machine has them.

Wants Linux, root (or a user namespace's) and ``ip``. Who is cut off from whom is a matter of routes
inside the namespaces, so that members can be parted while their clients reach all of them.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

_numbers = itertools.count()


@dataclass(frozen=True)
class Host:
    """One namespace with its address."""

    name: str
    address: str

    @property
    def within(self) -> Sequence[str]:
        """What is put before a command to run it there."""
        return _ip(), "netns", "exec", self.name

    def part(self, others: Sequence[Host]) -> None:
        """Nothing passes between this one and ``others`` any more; their clients notice nothing."""
        for other in others:
            for one, way in ((self, other), (other, self)):
                _run("-n", one.name, "route", "add", "blackhole", f"{way.address}/32")

    def join(self, others: Sequence[Host]) -> None:
        """Undoes :meth:`part`."""
        for other in others:
            for one, way in ((self, other), (other, self)):
                _run("-n", one.name, "route", "del", "blackhole", f"{way.address}/32")


@dataclass(frozen=True)
class Network:
    """A bridge with hosts on it; ``address`` is this machine's own there."""

    address: str
    hosts: Sequence[Host]


def why_not() -> str | None:
    """Why there are no namespaces on this machine; ``None`` where there are."""
    if shutil.which("ip") is None:
        return "the command ip is missing (Debian: iproute2)"
    name = f"mcpd-try-{os.getpid()}"
    tried = subprocess.run([_ip(), "netns", "add", name], capture_output=True, text=True)
    if tried.returncode:
        return f"network namespaces are not allowed here: {tried.stderr.strip()}"
    _run("netns", "del", name)
    return None


@asynccontextmanager
async def network(count: int) -> AsyncGenerator[Network, None]:
    """``count`` hosts that reach each other and this machine, in the range for benchmarks
    (RFC 2544), until the block ends. Raises RuntimeError with what ``ip`` said."""
    number = next(_numbers)
    tag = f"{os.getpid()}-{number}"
    net = f"198.{18 + number % 2}.{os.getpid() % 256}"
    bridge = f"mb{tag}"[:15]
    async with AsyncExitStack() as undo:
        _run("link", "add", bridge, "type", "bridge")
        undo.callback(_run, "link", "del", bridge)
        _run("addr", "add", f"{net}.1/24", "dev", bridge)
        _run("link", "set", bridge, "up")
        hosts = []
        for n in range(1, count + 1):
            host = Host(f"mcpd-{tag}-{n}", f"{net}.{10 + n}")
            outside = f"mv{n}-{tag}"[:15]
            _run("netns", "add", host.name)
            undo.callback(_run, "netns", "del", host.name)
            _run("link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", host.name)
            _run("link", "set", outside, "master", bridge, "up")
            _run("-n", host.name, "link", "set", "lo", "up")
            _run("-n", host.name, "addr", "add", f"{host.address}/24", "dev", "eth0")
            _run("-n", host.name, "link", "set", "eth0", "up")
            hosts.append(host)
        yield Network(f"{net}.1", hosts)


def _ip() -> str:
    found = shutil.which("ip")
    if found is None:
        raise RuntimeError("the command ip is missing (Debian: iproute2)")
    return found


def _run(*arguments: str) -> None:
    done = subprocess.run([_ip(), *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")

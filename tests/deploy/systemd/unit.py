"""Reads unit files, and puts a process into a unit's sandbox without systemd."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.tools import program
from tests.programs import ROOT

FOLDER = ROOT / "deploy/systemd"
_ALLOW = 0x7FFF0000  # SCMP_ACT_ALLOW, seccomp_init(3)
_ERRNO = 0x00050000  # SCMP_ACT_ERRNO(0)
_UNKNOWN = -1  # __NR_SCMP_ERROR


@dataclass(frozen=True)
class Unit:
    """The settings of a unit by section; what is given several times is a list in order."""

    sections: Mapping[str, Mapping[str, list[str]]]

    def all(self, name: str, section: str = "Service") -> list[str]:
        """All values of one setting; an empty one clears those before it."""
        found: list[str] = []
        for value in self.sections[section].get(name, []):
            found = [*found, value] if value else []
        return found

    def one(self, name: str, section: str = "Service") -> str:
        """The value that counts; raises IndexError where there is none."""
        return self.all(name, section)[-1]

    def command(self) -> list[str]:
        """The words of its ``ExecStart=``."""
        return shlex.split(self.one("ExecStart"))


def read(name: str) -> Unit:
    """The unit file ``name`` of deploy/systemd."""
    sections: dict[str, dict[str, list[str]]] = {}
    section: dict[str, list[str]] = {}
    for line in (FOLDER / name).read_text().splitlines():
        if line.startswith("["):
            section = sections.setdefault(line.strip("[]"), {})
        elif line and not line.startswith(("#", ";")):
            key, _, value = line.partition("=")
            section.setdefault(key.strip(), []).append(value.strip())
    return Unit(sections)


def environment_file(name: str) -> dict[str, str]:
    """The variables of an ``EnvironmentFile=`` of deploy/systemd."""
    lines = [
        line
        for line in (FOLDER / name).read_text().splitlines()
        if line and not line.startswith(("#", ";"))
    ]
    return dict(line.partition("=")[::2] for line in lines)


def system_calls(unit: Unit) -> set[str]:
    """The names of the system calls that its ``SystemCallFilter=`` lines leave."""
    allowed: set[str] = set()
    for value in unit.all("SystemCallFilter"):
        names = {each for group in value.lstrip("~").split() for each in _group(group)}
        allowed = allowed - names if value.startswith("~") else allowed | names
    return allowed | _group("@default")


def _group(name: str) -> set[str]:
    """The system calls of a group, the groups inside of it included."""
    if not name.startswith("@"):
        return {name}
    done = subprocess.run(
        ["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True
    )
    lines = [line.strip() for line in done.stdout.splitlines()[1:]]
    return {each for line in lines if line and not line.startswith("#") for each in _group(line)}


def sandbox(unit: Unit, filter_file: Path, *bound: tuple[Path, str]) -> tuple[list[str], int]:
    """The words before a command that confine it as ``unit`` says, and the filter's descriptor.

    Of the unit's settings that is the read-only root, no home, private /tmp and /dev, no
    capability, a user of its own, no new privileges, and the filter of system calls. The
    descriptor is to be passed on and closed.
    """
    with filter_file.open("wb") as file:
        _write_filter(system_calls(unit), file.fileno())
    descriptor = os.open(filter_file, os.O_RDONLY)
    words = [
        *(program("bwrap"), "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"),
        *("--tmpfs", "/tmp", "--tmpfs", "/run"),
        *("--ro-bind", str(ROOT), str(ROOT)),  # it may lie in /tmp itself
        *(word for here, there in bound for word in ("--bind", str(here), there)),
        *("--unshare-user", "--unshare-pid", "--unshare-ipc", "--uid", "65000", "--gid", "65000"),
        *("--cap-drop", "ALL", "--die-with-parent", "--seccomp", str(descriptor)),
    ]
    return words, descriptor


def _write_filter(names: set[str], descriptor: int) -> None:
    found = ctypes.util.find_library("seccomp")
    if found is None:
        raise RuntimeError("libseccomp is missing (Debian: libseccomp2)")
    library = ctypes.CDLL(found, use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(_ERRNO | 1))  # EPERM, as the units say
    for name in sorted(names):
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number != _UNKNOWN:
            # A call of another architecture is refused with an error, and is no loss.
            library.seccomp_rule_add(context, ctypes.c_uint32(_ALLOW), number, 0)
    if library.seccomp_export_bpf(context, descriptor):
        raise RuntimeError("libseccomp could not write the filter")
    library.seccomp_release(context)

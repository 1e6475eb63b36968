"""A base image out of this machine's own Python: a folder that stands for ``python:3.11-slim``, or
for a distribution's.

Python with pip beside it, and the shared libraries that it wants: nothing else, no shell among it.
"""

from __future__ import annotations

import compileall
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

import pip

#: Large parts of the standard library that the official images leave out too, or that are no
#: library. Of its tests some stay: files that are no Python on purpose are among them.
_LEFT_OUT = ("__pycache__", "test", "idlelib", "tkinter", "turtledemo", "site-packages",
             "dist-packages", "config-*", "idle_test")  # fmt: skip
NO_PYTHON = "print 'a module of the distribution that this Python does not understand'\n"
#: Loaded by name: what compiled wheels and threads want beyond what ldd tells of Python.
_ALSO = ("libgcc_s.so.1", "libstdc++.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1")


def furnish(root: Path, *, distribution: bool = False) -> None:
    """Fills the empty folder ``root``: with Python at /usr/local, as in the official images, or, as
    a ``distribution`` has it, at /usr, called ``python3`` alone, and closed to other packages.

    Raises RuntimeError where Python's parts are not found.
    """
    prefix = root / ("usr" if distribution else "usr/local")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for each in (
        "dev",
        "etc",
        "proc",
        "tmp",
        "usr/bin",
        "usr/lib",
        "usr/local/bin",
        "lib64",
        "root",
    ):
        (root / each).mkdir(parents=True, exist_ok=True)
    (root / "etc/passwd").write_text("root:x:0:0:root:/:/nowhere\n")
    (root / "etc/group").write_text("root:x:0:\n")
    (root / "etc/hosts").touch()
    program = Path(os.path.realpath(sys.executable))
    shutil.copy2(program, prefix / "bin" / version)
    for name in ("python3",) if distribution else ("python", "python3"):
        (prefix / "bin" / name).symlink_to(version)
    (prefix / "bin" / "pip3.11").touch()
    library = Path(sysconfig.get_path("stdlib"))
    there = prefix / "lib" / version
    shutil.copytree(library, there, ignore=shutil.ignore_patterns(*_LEFT_OUT), symlinks=False)
    if distribution:
        (there / "EXTERNALLY-MANAGED").write_text("[externally-managed]\nError=ask apt\n")
        (there / "no_python.py").write_text(NO_PYTHON)
    packages = there / "site-packages"
    packages.mkdir()
    home = Path(pip.__path__[0])
    for part in (home, *home.parent.glob("pip-*.dist-info")):
        shutil.copytree(part, packages / part.name, ignore=shutil.ignore_patterns("__pycache__"))
    compileall.compile_dir(packages / home.name, quiet=1)  # pip starts six times
    modules = sorted((there / "lib-dynload").glob("*.so"))
    if not modules:
        raise RuntimeError(f"{library} has no lib-dynload: this Python cannot be copied")
    copy_libraries([program, *modules], root, also=_ALSO)


def copy_libraries(programs: Iterable[Path], root: Path, *, also: Iterable[str] = ()) -> None:
    """Copies the loader and every shared library that ``programs`` want to where they are found."""
    told = subprocess.run(
        ["ldd", *map(str, programs)], capture_output=True, text=True, check=False
    ).stdout
    found = dict(re.findall(r"^\s+(\S+) => (/\S+)", told, re.MULTILINE))
    beside = Path(found["libc.so.6"]).parent
    found |= {name: str(beside / name) for name in also if (beside / name).exists()}
    for name, path in found.items():
        shutil.copy2(path, root / "usr/lib" / name)
    for loader in set(re.findall(r"^\s+(/\S*ld-linux\S*) ", told, re.MULTILINE)):
        target = root / loader.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(loader, target)

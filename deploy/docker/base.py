"""What the Dockerfile does differently on each base: where Python stands, and what is beside it.

``base.py tools FOLDER`` makes an environment that has pip, whether the base has pip itself or the
standard library's ensurepip. ``base.py lean`` removes what installs, and gives the standard library
its bytecode.
"""

import compileall
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from py_compile import PycInvalidationMode

#: What installs and builds, as modules and as programs.
MODULES = ("pip", "setuptools", "wheel", "ensurepip", "pkg_resources", "_distutils_hack")
METADATA = re.compile(r"(pip|setuptools|wheel)-.+\.(dist|egg)-info|distutils-precedence\.pth")
PROGRAMS = re.compile(r"(pip|wheel|easy_install)[0-9.-]*")
#: Folders of tests, some files of which are no Python on purpose, and of others' packages.
NOT_COMPILED = "test|tests|idle_test|site-packages|dist-packages"


def tools(folder: str) -> None:
    """Makes the environment ``folder``; ends with a sentence where there is no pip for it."""
    venv.create(folder, system_site_packages=True, symlinks=True)
    python = f"{folder}/bin/python"
    for attempt in ("pip", "ensurepip"):
        if not subprocess.run([python, "-m", attempt, "--version"], capture_output=True).returncode:
            break
    else:
        sys.exit("this base has neither pip nor ensurepip; install pip in it (python3-pip)")
    if attempt == "ensurepip":
        subprocess.run([python, "-m", "ensurepip"], check=True)


def lean() -> None:
    """Removes what installs from this Python, and from the one that it is an environment of."""
    paths = sysconfig.get_paths()
    stdlib = Path(paths["stdlib"])
    for folder in {stdlib, *map(Path, sys.path), Path(paths["purelib"])}:
        for found in folder.iterdir() if folder.is_dir() else ():
            if found.name in MODULES and found.is_dir():
                shutil.rmtree(found)
            elif METADATA.fullmatch(found.name):
                shutil.rmtree(found) if found.is_dir() else found.unlink()
    if wheels := sysconfig.get_config_var("WHEEL_PKG_DIR"):
        shutil.rmtree(wheels, ignore_errors=True)
    for folder in {paths["scripts"], *os.get_exec_path()}:
        for found in Path(folder).glob("*"):
            if PROGRAMS.fullmatch(found.name):
                found.unlink()
    if sys.prefix != sys.base_prefix:
        subprocess.run([sys._base_executable, __file__, "lean"], check=True)
        return
    # A file that cannot be compiled cannot be imported either: it is told, and left as it is.
    compileall.compile_dir(
        stdlib,
        force=True,
        quiet=1,
        rx=re.compile(rf"^{re.escape(str(stdlib))}/(.+/)?({NOT_COMPILED})/"),
        invalidation_mode=PycInvalidationMode.UNCHECKED_HASH,
    )


if __name__ == "__main__":
    {"tools": tools, "lean": lean}[sys.argv[1]](*sys.argv[2:])

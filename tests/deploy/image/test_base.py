"""deploy/docker/base.py on bases that lack what the build wants."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.deploy.image.building import ROOT, Image
from tests.deploy.tools import program

pytestmark = pytest.mark.xdist_group("image")


@pytest.fixture
def base(image: Image, tmp_path: Path) -> Path:
    """A copy of the base of the image, with the script in it and without pip."""
    copy = tmp_path / "base"
    origin = image.root.parent / "base"
    shutil.copytree(origin, copy, symlinks=True, copy_function=os.link)
    shutil.copy2(ROOT / "deploy/docker/base.py", copy)
    for found in copy.rglob("site-packages/pip*"):
        shutil.rmtree(found)
    return copy


def inside(base: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs ``words`` with ``base`` as their root."""
    confined: Sequence[str] = (
        *(program("bwrap"), "--bind", str(base), "/", "--dev", "/dev", "--tmpfs", "/tmp"),
        *("--unshare-user", "--uid", "0", "--gid", "0", "--clearenv"),
        *("--setenv", "PATH", "/usr/bin", "--setenv", "PIP_NO_COMPILE", "1"),
    )
    return subprocess.run([*confined, *words], capture_output=True, text=True)


def test_pip_comes_from_ensurepip_or_is_asked_for(base: Path) -> None:
    made = inside(base, "python3", "/base.py", "tools", "/tools")
    assert made.returncode == 0, made.stderr
    assert inside(base, "/tools/bin/python", "-m", "pip", "--version").returncode == 0
    for found in base.rglob("ensurepip"):
        shutil.rmtree(found)
    refused = inside(base, "python3", "/base.py", "tools", "/others")
    assert (refused.returncode, refused.stderr) == (
        1,
        "this base has neither pip nor ensurepip; install pip in it (python3-pip)\n",
    )

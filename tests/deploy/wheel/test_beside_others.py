"""The wheel beside other distributions that are named like folders of this repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.deploy.wheel.environment import PINS, Environment
from tests.programs import command

# pip installs some twenty distributions: under load that takes its time.
pytestmark = [pytest.mark.xdist_group("wheel"), pytest.mark.timeout(400)]

OTHERS = ("adapters", "sidecar", "facade")
#: Prints for each whether its files are as they were installed, and how its import ends: what
#: they need themselves is not installed, so some of them end with an ImportError of their own.
_EXAMINE = """
import base64, hashlib, importlib
from importlib.metadata import distribution
from importlib.util import find_spec
for name in ("adapters", "sidecar", "facade"):
    for file in distribution(name).files:
        if file.hash and file.suffix == ".py":
            digest = hashlib.new(file.hash.mode, file.read_binary()).digest()
            same = base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == file.hash.value
            assert same, f"{file} is not what {name} installed"
    assert find_spec(name).origin == str(distribution(name).locate_file(f"{name}/__init__.py"))
    try:
        importlib.import_module(name)
    except ImportError as error:
        print(name, repr(error))
    else:
        print(name, "imported")
"""


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> str:
    """How the others are imported where the wheel is not."""
    made = Environment.made(tmp_path_factory.mktemp("others") / "alone")
    made.install("--no-deps", *OTHERS)
    done = made.run("-c", _EXAMINE)
    assert done.returncode == 0, done.stderr
    assert "facade imported" in done.stdout
    return done.stdout


@pytest.mark.parametrize("first", ["ours", "theirs"])
async def test_both_work_whichever_is_installed_first(
    first: str, wheel: Path, alone: str, tmp_path: Path
) -> None:
    made = Environment.made(tmp_path / "both")
    ours = ("--constraint", str(PINS), str(wheel))
    theirs = ("--no-deps", *OTHERS)
    for words in (ours, theirs) if first == "ours" else (theirs, ours):
        made.install(*words)
    done = made.run("-c", _EXAMINE)
    assert (done.returncode, done.stdout) == (0, alone), done.stderr

    nobody = "http://127.0.0.1:9"
    for arguments, code, part in (
        (("--help",), 0, "sidecar"),
        (("sidecar", "--help"), 0, "--store"),
        (("facade", "--help"), 0, "--store"),
        (("servers", "--facade", nobody), 3, "connection refused"),
        (("sidecar", "--store", "redis://x", "--url", nobody), 2, "unknown scheme"),
    ):
        ended = await command(*arguments, program=made.program, cwd=tmp_path)
        assert ended.code == code, ended
        assert part in ended.out + ended.err
        assert "Traceback" not in ended.err

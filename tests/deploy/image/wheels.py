"""The wheels that the image's pins name: taken from .stores/wheels, or fetched into it by pip."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
PINS = (
    ROOT / "deploy/docker/requirements.txt",
    ROOT / "deploy/docker/requirements-build.txt",
)
_FOLDER = ROOT / ".stores" / "wheels"


def wheels() -> Path:
    """The folder that holds them. Raises RuntimeError, with pip's words, where pip gets none."""
    _FOLDER.mkdir(parents=True, exist_ok=True)
    wanted = "".join(path.read_text() for path in PINS)
    made_for = _FOLDER / "made-for"
    with (_FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made_for.exists() or made_for.read_text() != wanted:
            for path in PINS:
                _fetch(path)
            made_for.write_text(wanted)
    return _FOLDER


def _fetch(path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes"),
            *("--only-binary=:all:", "--dest", str(_FOLDER), "--requirement", str(path)),
        ],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(
            f"pip could not fetch the wheels of {path.relative_to(ROOT)}; it said:\n{done.stderr}"
        )

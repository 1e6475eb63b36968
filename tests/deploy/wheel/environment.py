"""The wheel of this checkout, and virtual environments that pip installs it into."""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
PINS = ROOT / "requirements.txt"


def pip(*words: str, python: Path | str = sys.executable) -> None:
    """Runs pip for ``python``; raises RuntimeError with what pip said where it fails."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--python", str(python), "--quiet"),
            *("--disable-pip-version-check", *words),
        ],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise RuntimeError(
            f"pip {' '.join(words)} failed; these tests need the package index that pip is set up "
            f"for. pip said:\n{done.stderr}"
        )


@functools.cache
def built_wheel(folder: Path) -> Path:
    """The wheel of this checkout, built into ``folder``."""
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT))
    (wheel,) = folder.glob("mcp_discovery-*.whl")
    return wheel


@dataclass(frozen=True)
class Environment:
    """A virtual environment in ``folder``, without pip in it."""

    folder: Path

    @classmethod
    def made(cls, folder: Path) -> Environment:
        """A new one, with nothing installed; of one that a test run left there nothing stays."""
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, symlinks=True, with_pip=False)
        return cls(folder)

    @property
    def python(self) -> Path:
        """The path of its Python."""
        return self.folder / "bin" / "python"

    @property
    def program(self) -> tuple[str, ...]:
        """The path of its ``mcp-discovery``."""
        return (str(self.folder / "bin" / "mcp-discovery"),)

    def install(self, *words: str) -> None:
        """``pip install WORDS``; raises RuntimeError where pip cannot."""
        pip("install", "--no-compile", *words, python=self.python)

    def check(self) -> None:
        """``pip check``; raises RuntimeError where a requirement is not met."""
        pip("check", python=self.python)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Runs its Python with ``words``, outside of the checkout."""
        return subprocess.run(
            [str(self.python), "-I", *words],
            cwd=self.folder,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
        )

    def versions(self) -> dict[str, str]:
        """What is installed: names and versions of distributions."""
        script = (
            "from importlib.metadata import distributions\n"
            "for each in distributions(): print(each.name.lower(), each.version)"
        )
        done = self.run("-c", script)
        assert done.returncode == 0, done.stderr
        return dict(line.split(" ", 1) for line in done.stdout.splitlines())

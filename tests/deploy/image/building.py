"""Carries a Dockerfile out in folders, its RUN lines in a namespace of their own, without a daemon.

A stage is a folder, each RUN a process whose root that folder is (bubblewrap). What a daemon does
beyond that, such as owners of files, is for the tests that have one.
"""

from __future__ import annotations

import json
import posixpath
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from docker.utils.build import exclude_paths

from tests.deploy.image import dockerfile
from tests.deploy.image.dockerfile import Instruction, Stage, filled_in
from tests.deploy.tools import program

ROOT = Path(__file__).parents[3]
DOCKERFILE = ROOT / "deploy/docker/Dockerfile"


@dataclass(frozen=True)
class Image:
    """What was built: the root folder, and what a container of it is started with."""

    root: Path
    entrypoint: Sequence[str]
    command: Sequence[str]
    environment: Mapping[str, str]
    labels: Mapping[str, str]
    user: str
    health: Sequence[str]


def context(folder: Path, wheels: Path) -> None:
    """Copies into ``folder`` what a daemon is sent of the repository, and ``wheels`` beside it."""
    patterns = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    for name in sorted(exclude_paths(str(ROOT), patterns)):
        source, target = ROOT / name, folder / name
        if source.is_file() or source.is_symlink():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    target = folder / "deploy/docker/wheels"
    for wheel in wheels.glob("*.whl"):
        shutil.copy2(wheel, target / wheel.name)
    shutil.copy2(ROOT / ".dockerignore", folder / ".dockerignore")
    shutil.copy2(DOCKERFILE, folder / "deploy/docker/Dockerfile")


def build(base: Path, sent: Path, work: Path, **arguments: str) -> Image:
    """Builds the Dockerfile over ``base`` from the context ``sent``; its stages go into ``work``.

    ``arguments`` are build arguments. Raises RuntimeError with what a step said when it fails.
    """
    read = dockerfile.read(sent / "deploy/docker/Dockerfile")
    built: dict[str, Path] = {}
    image = None
    for number, stage in enumerate(read.stages):
        root = work / (stage.name or str(number))
        shutil.copytree(base, root, symlinks=True)
        given = {**read.arguments, **arguments}
        image = _Building(stage, root, sent, built, given).image()
        built[stage.name or str(number)] = root
    assert image is not None
    return image


class _Building:
    """One stage while its instructions are carried out."""

    def __init__(
        self,
        stage: Stage,
        root: Path,
        sent: Path,
        built: Mapping[str, Path],
        given: Mapping[str, str],
    ) -> None:
        self._stage = stage
        self._root = root
        self._sent = sent
        self._built = built
        self._given = given
        self._arguments: dict[str, str] = {}
        self._environment = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
        self._labels: dict[str, str] = {}
        self._directory = "/"

    def image(self) -> Image:
        for each in self._stage.instructions:
            match each.name:
                case "ARG":
                    name, _, value = each.text.partition("=")
                    if name in self._given or value:
                        self._arguments[name] = self._given.get(name, value)
                case "ENV":
                    self._environment |= self._filled(each).pairs()
                case "LABEL":
                    self._labels |= self._filled(each).pairs()
                case "WORKDIR":
                    self._directory = each.text
                    self._inside(each.text).mkdir(parents=True, exist_ok=True)
                case "COPY":
                    self._copy(each)
                case "RUN":
                    self._run(each.exec_form())
        return Image(
            root=self._root,
            entrypoint=self._words("ENTRYPOINT"),
            command=self._words("CMD"),
            environment=self._environment,
            labels=self._labels,
            user=self._text("USER"),
            health=self._health(),
        )

    def _filled(self, each: Instruction) -> Instruction:
        return Instruction(each.name, filled_in(each.text, self._arguments | self._environment))

    def _words(self, name: str) -> list[str]:
        return self._stage.last(name).exec_form() if self._stage.all(name) else []

    def _text(self, name: str) -> str:
        return self._stage.last(name).text if self._stage.all(name) else ""

    def _health(self) -> list[str]:
        if not self._stage.all("HEALTHCHECK"):
            return []
        _, rest = self._stage.last("HEALTHCHECK").options()
        words: list[str] = json.loads(rest.removeprefix("CMD "))
        return words

    def _inside(self, path: str) -> Path:
        return self._root / posixpath.join(self._directory, path).lstrip("/")

    def _copy(self, each: Instruction) -> None:
        options, text = each.options()
        *names, last = text.split()
        target = self._inside(last)
        origin = self._built[options["from"]] if "from" in options else self._sent
        for name in names:
            source = origin / name.lstrip("/")
            if source.is_dir():
                shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
            else:
                target.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target / source.name)

    def _run(self, words: Sequence[str]) -> None:
        environment = self._environment | self._arguments
        done = subprocess.run(
            [
                *(program("bwrap"), "--bind", str(self._root), "/"),
                *("--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"),
                *("--unshare-user", "--unshare-pid", "--uid", "0", "--gid", "0"),
                *("--die-with-parent", "--chdir", self._directory, "--clearenv"),
                *(word for pair in environment.items() for word in ("--setenv", *pair)),
                *words,
            ],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode:
            said = (done.stdout + done.stderr)[-2000:]
            raise RuntimeError(f"RUN {json.dumps(words)} ended with {done.returncode}:\n{said}")

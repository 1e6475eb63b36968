"""The images that tests with a Docker daemon use; none is pulled unless its name is given.

Environment: ``PYTHON_IMAGE``, ``CONSUL_IMAGE`` and ``ETCD_IMAGE`` name images to use. Without them
the base is made of this machine's Python, and the stores of its programs.
"""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

from testcontainers.core.docker_client import DockerClient

from tests.deploy.image import base, building
from tests.deploy.image.wheels import wheels

IMAGE = "mcp-discovery:test"


def build(folder: Path) -> str:
    """Has the daemon build deploy/docker/Dockerfile, and returns the image's name."""
    building.context(folder / "context", wheels())
    client = DockerClient().client
    named = os.environ.get("PYTHON_IMAGE")
    client.images.build(
        path=str(folder / "context"),
        dockerfile="deploy/docker/Dockerfile",
        tag=IMAGE,
        network_mode="default" if named else "none",
        buildargs={
            "PYTHON_IMAGE": named or _base(folder / "base"),
            "PIP_NO_INDEX": "1",
            "REVISION": "abc123",
        },
        rm=True,
    )
    return IMAGE


def store(name: str, root: Path) -> str:
    """The image of ``consul`` or ``etcd``: the named one, or one made in the empty ``root``."""
    return os.environ.get(f"{name.upper()}_IMAGE") or _imported(root, f"local-{name}:test", "/bin")


def _base(root: Path) -> str:
    root.mkdir()
    base.furnish(root)
    # Of another user, in a folder of root's, and with packages of its own elsewhere.
    more = ("USER 1001", "WORKDIR /root", "ENV PYTHONPATH=/nowhere")
    return _imported(root, "local-python:test", "/usr/local/bin:/usr/bin:/bin", *more)


def _imported(root: Path, name: str, path: str, *more: str) -> str:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(root, arcname=".", filter=_owned_by_root)
    repository, _, tag = name.partition(":")
    DockerClient().client.api.import_image_from_data(
        packed.getvalue(), repository=repository, tag=tag, changes=[f"ENV PATH={path}", *more]
    )
    return name


def _owned_by_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    return entry


def compose(*words: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Runs Compose, ``DOCKER_COMPOSE`` or else ``docker compose``, and returns how it ended."""
    program = os.environ.get("DOCKER_COMPOSE", "docker compose").split()
    return subprocess.run(
        [*program, *words],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=170,
    )

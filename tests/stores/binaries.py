"""Decides where the tests' Consul and etcd come from, for all tests and in this one place.

The order: `CONSUL_BIN` or `ETCD_BIN`; `PATH`; the folder `.stores/` that `make stores` fills; a
container, where a Docker daemon answers. When there is none, the run fails and says what to do.

Environment: `CONSUL_BIN`, `ETCD_BIN` name a binary; `CONSUL_IMAGE`, `ETCD_IMAGE` an image that has
`consul` or `etcd` on its path.
"""

import functools
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.stores import container

StoreName = Literal["consul", "etcd"]

STORES_FOLDER = Path(__file__).parents[2] / ".stores"

DEFAULT_IMAGES: dict[StoreName, str] = {
    "consul": "consul:1.8.7",
    "etcd": "bitnamilegacy/etcd:3.5.16",
}


class StoreNotFound(Exception):
    """There is no such store on this machine. Fails the run: a store's test is never skipped."""


@dataclass(frozen=True)
class Binary:
    """A server program on this machine."""

    path: str


@dataclass(frozen=True)
class Image:
    """A server program in a container image; `command` is its name on the image's path."""

    name: str
    command: str


Program = Binary | Image


@functools.cache
def find(store: StoreName) -> Program:
    """Where this run takes `store` from.

    Raises `StoreNotFound` with what to do about it.
    """
    variable = f"{store.upper()}_BIN"
    if named := os.environ.get(variable):
        path = shutil.which(named)
        if path is None:
            raise StoreNotFound(f"{variable} names {named!r}, which is no executable file")
        return Binary(path)
    for path in (shutil.which(store), shutil.which(STORES_FOLDER / store / store)):
        if path is not None:
            return Binary(str(path))
    if container.daemon_answers():
        return image(store)
    raise StoreNotFound(
        f"the tests need a real {store} and found none: run `make stores` (Debian), or install "
        f"{store} on PATH, or set {variable} to its binary, or start a Docker daemon"
    )


def image(store: StoreName) -> Image:
    """The image of `store`, by `CONSUL_IMAGE` or `ETCD_IMAGE` or the default."""
    return Image(os.environ.get(f"{store.upper()}_IMAGE") or DEFAULT_IMAGES[store], store)


@functools.cache
def version(program: Program) -> tuple[int, int]:
    """Major and minor version of a Consul, for settings that only some versions know."""
    if isinstance(program, Image):
        printed = container.output(program.name, program.command, "version")
    else:
        printed = subprocess.run(
            [program.path, "version"], check=True, capture_output=True, text=True, timeout=30
        ).stdout
    major, minor = printed.split()[1].lstrip("v").split(".")[:2]
    return int(major), int(minor)

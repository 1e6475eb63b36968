"""Decides where the tests' Consul and etcd come from, for all tests and in this one place.

Each store is tried in two releases: `debian`, which Debian packages, and `recent`, which
`scripts/fetch-newer-stores` builds. A test asks for one of them, or takes the one in force.

`debian` is looked for in this order: `CONSUL_BIN` or `ETCD_BIN`; `PATH`; the folder `.stores/` that
`make stores` fills; a container, where a Docker daemon answers. `recent` is looked for in the cache
that `make stores` fills. When there is none, the run fails and says what to do.

Environment: `CONSUL_BIN`, `ETCD_BIN` name a binary; `CONSUL_IMAGE`, `ETCD_IMAGE` an image that has
`consul` or `etcd` on its path; `STORES_MATRIX=debian` leaves `recent` out; `MCP_DISCOVERY_CACHE`,
`XDG_CACHE_HOME` say where the cache is.
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
Release = Literal["debian", "recent"]

RELEASES: tuple[Release, ...] = ("debian", "recent")
RECENT_VERSIONS: dict[StoreName, str] = {"consul": "1.16.3", "etcd": "3.6.16"}

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

in_force: Release = "debian"
"""The release that servers run which were not told another; the fixture `release` changes it."""


def matrix() -> tuple[Release, ...]:
    """The releases that this run tries, by `STORES_MATRIX`.

    Raises `ValueError` for a value that means nothing.
    """
    match os.environ.get("STORES_MATRIX", ""):
        case "":
            return RELEASES
        case "debian":
            return ("debian",)
        case other:
            raise ValueError(
                f"STORES_MATRIX is {other!r}: set it to `debian` to leave {_recent()} out, "
                "or unset it to test over these as well"
            )


def left_out() -> str | None:
    """What this run does not try and how it would, in a sentence; None when it tries all."""
    if matrix() == RELEASES:
        return None
    return f"STORES_MATRIX=debian left {_recent()} out: unset it to test over these as well"


def _recent() -> str:
    return f"Consul {RECENT_VERSIONS['consul']} and etcd {RECENT_VERSIONS['etcd']}"


def find(store: StoreName, release: Release | None = None) -> Program:
    """Where this run takes `store` of a release from, by default of the one in force.

    Raises `StoreNotFound` with what to do about it.
    """
    return _find_recent(store) if (release or in_force) == "recent" else _find_debian(store)


def _find_recent(store: StoreName) -> Binary:
    wanted = f"{store}-{RECENT_VERSIONS[store]}"
    path = shutil.which(cache() / "stores" / wanted / store)
    if path is None:
        raise StoreNotFound(
            f"the tests need {wanted} in {cache() / 'stores'}, where it is not: run `make stores`, "
            "or set STORES_MATRIX=debian to go without"
        )
    return Binary(str(path))


def cache() -> Path:
    """The folder for what takes long to make, which clones share and `make clean` leaves alone."""
    if named := os.environ.get("MCP_DISCOVERY_CACHE"):
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "mcp-discovery"


@functools.cache
def _find_debian(store: StoreName) -> Program:
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


def tool(store: Program, *names: str) -> str:
    """The path of a store's command-line tool: the first of `names` that is there.

    It is looked for beside the server `store`, then on the `PATH`. Raises `StoreNotFound`.
    """
    folder = [str(Path(store.path).parent)] if isinstance(store, Binary) else []
    where = os.pathsep.join([*folder, os.environ.get("PATH", "")])
    for name in names:
        if path := shutil.which(name, path=where):
            return path
    raise StoreNotFound(f"there is no {' or '.join(names)}: run `make stores`")


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

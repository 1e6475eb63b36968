"""deploy/compose/compose.yaml as Compose itself reads it: parsed, interpolated, by profile."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.deploy.tools import program

FOLDER = Path(__file__).parents[3] / "deploy/compose"
FILE = FOLDER / "compose.yaml"
#: What chooses the store: the profile and the URL, as .env.example pairs them.
STORES = {
    "embedded": (None, None),
    "consul": ("consul", "consul://consul:8500"),
    "etcd": ("etcd", "etcd://etcd:2379"),
}


def project(
    *profiles: str, file: Path = FILE, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The project with ``profiles`` on. Raises ValueError with what is wrong with the file."""
    known = {k: v for k, v in os.environ.items() if not k.startswith(("COMPOSE_", "MCP_"))}
    done = subprocess.run(
        [program("deploy-parser"), "compose", str(file), *profiles],
        env={key: value for key, value in known.items() if key != "STORE"}
        | dict(environment or {}),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise ValueError(done.stderr)
    read: dict[str, Any] = json.loads(done.stdout)
    return read


def of_store(store: str, *more: str, **environment: str) -> dict[str, Any]:
    """The project over one of :data:`STORES`, as the sample file pairs profile and URL."""
    profile, url = STORES[store]
    profiles = [profile, *more] if profile else [*more]
    return project(*profiles, environment=environment | ({"STORE": url} if url else {}))


def in_order(services: dict[str, Any]) -> Sequence[str]:
    """Their names, each behind what it depends on."""
    order: list[str] = []

    def add(name: str) -> None:
        for before in services[name].get("depends_on", {}):
            if before in services:
                add(before)
        if name not in order:
            order.append(name)

    for name in sorted(services):
        add(name)
    return order

"""The store of another distribution, installed by pip from the folder third_party."""

from __future__ import annotations

import functools
import sqlite3
import sys
import tempfile
from pathlib import Path

import orjson

from mcp_discovery.health import healthy
from mcp_discovery.instance import health_to_dict
from tests.contract.environments import MALFORMED, StoreEnvironment
from tests.deploy.wheel.environment import pip

_SOURCE = Path(__file__).with_name("third_party")


@functools.cache
def installed() -> tempfile.TemporaryDirectory[str]:
    """The folder that tiny-store is installed into, for this test run: it is on the path."""
    folder = tempfile.TemporaryDirectory(prefix="tiny-store-")
    pip(
        *("install", "--no-deps", "--no-index", "--no-build-isolation"),
        *("--target", folder.name, str(_SOURCE)),
    )
    sys.path.append(folder.name)
    return folder


class TinyEnvironment(StoreEnvironment):
    """A file of tiny-store's, which every party opens for itself."""

    def __init__(self, path: Path) -> None:
        installed()
        super().__init__(f"tiny://{path}")
        self._path = path

    def _rows(self, query: str) -> list[tuple[str, int]]:
        file = sqlite3.connect(self._path)
        try:
            return list(file.execute(query))
        finally:
            file.close()

    async def writes(self) -> object:
        return self._rows("SELECT id, revision FROM instances ORDER BY id")

    async def digests(self) -> set[str]:
        return {row[0] for row in self._rows("SELECT digest FROM documents")}

    async def put_foreign(self) -> dict[str, bytes]:
        await (await self.open()).close()
        health = orjson.dumps(health_to_dict(healthy()))
        file = sqlite3.connect(self._path)
        with file:
            for number, (key, value) in enumerate(MALFORMED.items(), 1):
                row = (key, value, health, 0.0, -number)
                file.execute("INSERT INTO instances VALUES (?, ?, ?, ?, ?)", row)
        file.close()
        return MALFORMED

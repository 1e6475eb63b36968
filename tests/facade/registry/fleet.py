"""Instances made for tests, a registry index over a list that a test changes, and the schemas."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import orjson
from jsonschema import Draft7Validator, Draft202012Validator  # type: ignore[import-untyped]

from mcp_discovery.adapters.catalog import Catalog
from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.adapters.store import Change, Snapshot
from mcp_discovery.facade.registry.entries import OFFICIAL, ServerVersion
from mcp_discovery.facade.registry.index import RegistryIndex, RegistryQuery
from mcp_discovery.facade.registry.server_json import Addresses
from mcp_discovery.health import Health, Status
from mcp_discovery.instance import Holder, Instance, Lease
from tests.records import record

HERE = Path(__file__).parent
SERVER_JSON = Draft7Validator(orjson.loads((HERE / "server.schema.json").read_bytes()))
SERVER_CARD = Draft202012Validator(orjson.loads((HERE / "server-card.schema.json").read_bytes()))
#: When the tests' clock begins.
START = datetime(2026, 8, 1, 12, tzinfo=UTC)
NAME = "com.example/weather"


def instance(
    id: str = "a",
    *,
    status: Status = Status.HEALTHY,
    by: Literal["sidecar", "facade"] = "sidecar",
    age: float = 0.0,
    **fields: Any,
) -> Instance:
    """An instance registered ``age`` seconds before :data:`START`; ``fields`` are its record's."""
    at = START - timedelta(seconds=age)
    fields = {"name": "weather", "registryName": NAME, "registeredAt": at.isoformat()} | fields
    lease = Lease(Holder("h", "host", by), 10, 60)
    return Instance(record(id, **fields), Health(status, f"is {status}", at, at), lease)


class Fleet:
    """A list, the index over it, and the clock of the index.

    The catalog is a real one, told of changes as its store's watch would tell it; its clock is
    that of the fleet.
    """

    def __init__(self, *first: Instance, address: str = "instance", base: str = "") -> None:
        self.now = START
        self.catalog = Catalog(EmbeddedStore(), hold=0)
        self.catalog.apply(Snapshot({each.id: each for each in first}))
        addresses = Addresses.parse(address, base or None, gateway=True)
        self.index = RegistryIndex(self.catalog, addresses, now=lambda: self.now)
        self.index.refresh()

    def wait(self, seconds: float) -> None:
        """Lets time pass."""
        self.now += timedelta(seconds=seconds)

    def put(self, *instances: Instance) -> None:
        """Lets the list have these, and the index see it."""
        self._apply(*(Change(each.id, each) for each in instances))

    def remove(self, *ids: str) -> None:
        """Lets the list have these no more, and the index see it."""
        self._apply(*(Change(each, None) for each in ids))

    def replace(self, instances: Iterable[Instance]) -> None:
        """Lets the list be just these, as after a watch that had to start over."""
        self._apply(Snapshot({each.id: each for each in instances}))

    def come_and_go(self, *instances: Instance) -> None:
        """Lets the list have these for a moment, too short for the index to see them there."""
        came = (Change(each.id, each) for each in instances)
        self._apply(*came, *(Change(each.id, None) for each in instances))

    def _apply(self, *changes: Change | Snapshot) -> None:
        with patch("mcp_discovery.adapters.catalog.utcnow", lambda: self.now):
            for each in changes:
                self.catalog.apply(each)
        self.index.refresh()

    def one(
        self, version: str = "latest", name: str = NAME, *, deleted: bool = False
    ) -> ServerVersion:
        """One entry; fails where there is none."""
        found = self.index.version(name, version, deleted=deleted)
        assert found is not None, (name, version)
        return found

    def everything(self, most: int = 1000) -> list[ServerVersion]:
        """All entries, deleted ones, too."""
        return self.index.page(RegistryQuery(deleted=True), None, most)[0]

    def told(self, version: str = "latest", *, deleted: bool = False) -> dict[str, Any]:
        """What the registry says itself of one entry."""
        found: dict[str, Any] = shown(self.one(version, deleted=deleted), self.now)["_meta"][
            OFFICIAL
        ]
        return found


def shown(entry: ServerVersion, now: datetime = START) -> Any:
    """The entry as hosts read it."""
    return orjson.loads(entry.json(now))

"""Names in the list that more than one server has: logged once each, counted, explained."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from mcp_discovery.adapters.catalog import Catalog
from mcp_discovery.adapters.view import View
from mcp_discovery.errors import OutdatedRevisionError
from mcp_discovery.namesakes import by_server, why_different
from mcp_discovery.query.query import Query

log = logging.getLogger(__name__)

#: Seconds between two looks at the names of what has changed: replicas often change together.
_PAUSE = 1.0


@dataclass(frozen=True, slots=True)
class SharedName:
    """A name with the ids of each server that has it, the one first that calls go to, and why they
    are taken for several."""

    name: str
    servers: tuple[tuple[str, ...], ...]
    why: str

    def to_dict(self) -> dict[str, Any]:
        """The JSON object that ``explain`` shows."""
        return {"name": self.name, "servers": self.servers, "why": self.why}


def shared_name(view: View, name: str) -> SharedName | None:
    """Who shares ``name``; ``None`` where no two servers do."""
    if view.number("name", name) < 2:
        return None
    servers = by_server(view.select(Query(name=name, status=())), attrgetter("instance"))
    if len(servers) < 2:
        return None
    why = why_different(servers[0][0].record, servers[1][0].record) or ""
    ids = tuple(tuple(sorted(each.id for each in server)) for server in servers)
    return SharedName(name, ids, why)


class SharedNames:
    """The names of one catalog that several servers share, found while :meth:`run` runs."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._revision = 0
        self._found: dict[str, SharedName] = {}

    def __len__(self) -> int:
        return len(self._found)

    @property
    def found(self) -> Mapping[str, SharedName]:
        """By name."""
        return self._found

    async def run(self) -> None:
        """Follows the list, for ever."""
        while True:
            view = self._catalog.view
            for name in self._changed(view):
                self._look(view, name)
            self._revision = view.revision
            await self._catalog.after(view)
            await asyncio.sleep(_PAUSE)

    def _changed(self, view: View) -> Iterable[str]:
        try:
            events = self._catalog.since(view.epoch, self._revision)
        except OutdatedRevisionError:
            return {*view.keys("name"), *self._found}
        entries = (entry for event in events for entry in (event.entry, event.before) if entry)
        return {entry.record.name for entry in entries}

    def _look(self, view: View, name: str) -> None:
        shared = shared_name(view, name)
        if shared is None:
            if self._found.pop(name, None) is not None:
                log.info("the name %s is one server's again", name)
            return
        if name not in self._found:
            log.warning(
                "%d servers share the name %s: %s; what is asked for by that name goes to %s "
                "alone: give the others another name",
                *(len(shared.servers), name, shared.why, _some(shared.servers[0])),
            )
        self._found[name] = shared


def _some(ids: tuple[str, ...]) -> str:
    more = f" and {len(ids) - 3} more" if len(ids) > 3 else ""
    return ", ".join(ids[:3]) + more

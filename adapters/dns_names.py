"""The DNS names of an instance, which Consul and SkyDNS serve alike.

They stand below the store's service. A server's name and its tags live apart:
``<name>.server.<service>…`` and ``<tag>.tag.<service>…`` are always served, and so is
``_<name>.server.<service>…``, for programs that ask for SRV records only behind an underscore, as
HAProxy does. The labels alone,
``<name>.<service>…`` and ``<tag>.<service>…``, are served while they are unambiguous: one that is
the name of a server and a tag of another one would lead to either, so it leads to neither.

An A2A agent has ``<name>.agent.<service>…`` and ``_<name>.agent.<service>…``, and nothing else: no
name leads to an agent that could be meant for an MCP server.

Each registrant decides for its own instance, by what the store lists: when it registers or changes
its record, soon after that, and about once a minute, since others may register later.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Awaitable, Callable, Set

from mcp_discovery.record import Record

log = logging.getLogger(__name__)

#: The labels behind a server's name, behind a tag and behind an agent's name.
SERVER, TAG, AGENT = "server", "tag", "agent"

#: Seconds until the second look, which sees who registered at the same time, and between any
#: further two on average.
_SECOND_LOOK = 5.0
_LOOK_EVERY = 60.0


def dns_names(record: Record, ambiguous: Set[str] = frozenset()) -> list[str]:
    """The names of ``record``'s instance relative to its service; the labels ``ambiguous`` stand in
    none of them alone. The server's own names are the first ones."""
    if record.kind == AGENT:
        return [f"{record.name}.{AGENT}", f"_{record.name}.{AGENT}"]
    names: dict[str, None] = {}
    for kind, labels in ((SERVER, (record.name,)), (TAG, record.tags)):
        for label in labels:
            if label not in ambiguous:
                names[label] = None
            names[f"{label}.{kind}"] = None
            if kind == SERVER:
                names[f"_{label}.{kind}"] = None
    return list(names)


def server_in(name: str) -> str:
    """The server's or agent's name in the first of its names by :func:`dns_names`."""
    return name.removesuffix(f".{SERVER}").removesuffix(f".{AGENT}")


class AmbiguousLabels:
    """The ambiguous ones of an instance's labels, as they were found last.

    ``find`` finds them for a record: its name where another server has it for a tag, and those of
    its tags that are another server's name.
    """

    def __init__(self, find: Callable[[Record], Awaitable[Set[str]]]) -> None:
        self._find = find
        self._looks = 0
        self._next = 0.0
        self.found: Set[str] = frozenset()

    @property
    def due(self) -> bool:
        """Whether it is time to look again."""
        return time.monotonic() >= self._next

    async def look(self, record: Record) -> bool:
        """Finds them again; whether they differ from before. Raises what ``find`` does."""
        found = await self._find(record)
        self._looks += 1
        pause = _SECOND_LOOK if self._looks == 1 else _LOOK_EVERY * random.uniform(0.75, 1.25)
        self._next = time.monotonic() + pause
        for label in sorted(found - self.found):
            log.warning(
                "%s: %r is the name of one server and a tag of another, so DNS serves it for "
                "neither; resolve %s.%s… or %s.%s…, or rename one of them",
                *(record.id, label, label, SERVER, label, TAG),
            )
        changed, self.found = found != self.found, found
        return changed

"""Where the client learns of servers: a facade, or a store without one, behind one seam."""

from __future__ import annotations

import difflib
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Protocol

from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import InvalidInputError
from mcp_discovery.health import Status
from mcp_discovery.instance import Instance

#: What a caller may give for a filter that takes several values.
Several = str | Iterable[str] | None


@dataclass(frozen=True, slots=True)
class Selection:
    """Which instances are meant; what is empty leaves its field open.

    The fields are the facade's filters: ``tags`` (one of them, or with ``match="all"`` all),
    ``tools`` and ``capabilities`` (all of them), ``names``, ``versions`` (ranges such as ``^1.2``),
    ``transports``, ``zones``, ``owners`` and ``statuses`` (one of them; empty: every status).
    """

    tags: tuple[str, ...] = ()
    match: str = "any"
    names: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    transports: tuple[str, ...] = ()
    zones: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()

    def with_status(self, *statuses: str) -> Selection:
        """The same, of these statuses."""
        given = {each.name: getattr(self, each.name) for each in fields(self)}
        return Selection(**given | {"statuses": statuses})

    @property
    def params(self) -> tuple[tuple[str, str], ...]:
        """The query string of a facade's lists."""
        named = (
            ("capability", self.capabilities),
            ("tool", self.tools),
            ("name", self.names),
            ("version", self.versions),
            ("transport", self.transports),
            ("zone", self.zones),
            ("owner", self.owners),
            ("status", self.statuses or ("all",)),
            ("tags", self.tags),
        )
        pairs = [(name, value) for name, values in named for value in values]
        return (*pairs, *([("match", self.match)] if self.match != "any" else []))


#: What a caller calls a filter → the field of :class:`Selection`.
_FILTERS = {
    "tags": "tags",
    "name": "names",
    "tool": "tools",
    "capability": "capabilities",
    "version": "versions",
    "transport": "transports",
    "zone": "zones",
    "owner": "owners",
    "status": "statuses",
}
_CHOICES = {
    "match": ("any", "all"),
    "transport": ("streamable-http", "sse", "websocket", "stdio"),
    "status": tuple(each.value for each in Status),
}


def selection(filters: Mapping[str, Any]) -> Selection:
    """The selection that a caller's keyword arguments name.

    Each filter is one string or several. Raises :class:`InvalidInputError` for an unknown filter or
    value, naming the nearest.
    """
    given: dict[str, Any] = {}
    for name, value in filters.items():
        if value is None:
            continue
        if name == "match":
            given[name] = _known("match", value)
        elif name in _FILTERS:
            values = (value,) if isinstance(value, str) else tuple(value)
            if not all(isinstance(each, str) and each for each in values):
                raise InvalidInputError(
                    f"{name}={value!r} is not a string or several; write {name}='a'"
                )
            if values == ("all",) and name == "status":
                values = ()
            given[_FILTERS[name]] = tuple(_known(name, each) for each in values)
        else:
            near = difflib.get_close_matches(name, (*_FILTERS, "match"), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InvalidInputError(f"unknown filter {name!r}{hint}")
    return Selection(**given)


def _known(name: str, value: str) -> str:
    choices = _CHOICES.get(name)
    if choices is not None and value not in choices:
        raise InvalidInputError(f"{name}={value!r} is none of {', '.join(choices)}")
    return value


@dataclass(frozen=True, slots=True)
class Everything:
    """All instances of the selection, by id."""

    instances: Mapping[str, Instance]


@dataclass(frozen=True, slots=True)
class One:
    """One instance as it is now; ``None`` when it is gone or no longer in the selection."""

    id: str
    instance: Instance | None


@dataclass(frozen=True, slots=True)
class Staleness:
    """Since when the list cannot be kept up to date, and why; ``since`` is ``None``: it can be."""

    since: datetime | None
    problem: str = ""


News = Everything | One | Staleness


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one call went: ``latency`` in seconds; ``error`` is a sentence without secrets."""

    instance: str
    tool: str
    success: bool
    latency: float
    error: str | None = None


class Source(Protocol):
    """Where the client learns of servers.

    ``StoreUnavailableError`` and ``StoreDeniedError`` are raised by every method but :meth:`watch`
    after its first :class:`Everything`.
    """

    @property
    def name(self) -> str:
        """Its address, for messages; without secrets."""

    async def open(self) -> None:
        """Connects, as far as that is needed."""

    async def servers(self, wanted: Selection) -> list[Instance]:
        """The instances of ``wanted`` now, by name and id."""

    def watch(self, wanted: Selection) -> AsyncGenerator[News, None]:
        """First :class:`Everything`, then what changes; for ever.

        Raises before the first news where nothing is to be had. After it, it tells of a source
        that is away with :class:`Staleness`, and of its return likewise.
        """

    async def document(self, digest: str) -> CapabilityDocument:
        """The document; raises :class:`~mcp_discovery.errors.DocumentNotFoundError`."""

    async def report(self, outcomes: Sequence[Outcome]) -> None:
        """Tells how calls went, where there is somebody to be told."""

    async def close(self) -> None:
        """Gives up every connection."""

"""ARD entries: what the manifest publishes and the registry finds, one for each server.

Section 4 of https://github.com/ards-project/ard-spec, spec/ard.md, version 0.91 of 2026-08-26.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import chain
from typing import Any, NamedTuple, Self
from urllib.parse import quote

import orjson

from mcp_discovery.facade.access.parts import Part
from mcp_discovery.facade.http.pauses import sliced
from mcp_discovery.facade.registry.cards import (
    AGENT_CARD,
    CARD,
    OWN_CARD,
    OWN_DESCRIPTION,
    agent_card_path,
    own_identifier,
)
from mcp_discovery.facade.registry.entries import ServerVersion, live_state
from mcp_discovery.facade.registry.identifiers import identifier, registry_name
from mcp_discovery.facade.registry.index import LATEST, RegistryIndex
from mcp_discovery.facade.registry.server_json import shortened
from mcp_discovery.health import Status, rfc3339
from mcp_discovery.probe.offer import RECOMMENDED
from mcp_discovery.record import AGENT, LONGEST_QUERY, SERVER, Record
from mcp_discovery.version import installed_version

REGISTRY = "application/ai-registry+json"
#: Where this facade is a registry. With the slash a client may append a route in either way.
PATH = "/api/ard/"
#: The context that ARD's own terms are of, and the namespace of those that it does not have.
BASE_CONTEXT = "https://agenticresourcediscovery.org/context/v1"
OWN_TERMS = "https://mcp-discovery.github.io/ns#"
#: How a server is: its status, why, and since when.
HEALTH_TERMS = ("health", "healthReason", "healthSince")
_CONTEXT = [BASE_CONTEXT, {term: OWN_TERMS + term for term in HEALTH_TERMS}]
#: That of a result, which says why it was found.
RESULT_CONTEXT = [BASE_CONTEXT, {term: OWN_TERMS + term for term in (*HEALTH_TERMS, "why")}]
#: How many entries are kept made; then it is begun anew, without those of servers that are gone.
_MOST_KEPT = 50_000
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s")


@dataclass(frozen=True, eq=False)
class ArdEntry:
    """One entry.

    ``terms`` are all that it carries but its ``url``, which is ``place``: below the URL of the
    facade, where it begins with a slash. ``ids`` are the instances that are as healthy as the
    server is.
    """

    terms: Mapping[str, Any]
    place: str
    published: datetime | None = None
    ids: frozenset[str] = frozenset()

    @property
    def identifier(self) -> str:
        """The URN."""
        urn: str = self.terms["identifier"]
        return urn

    @cached_property
    def _start(self) -> bytes:
        return orjson.dumps(self.terms)[:-1] + b',"url":"'

    @cached_property
    def digest(self) -> bytes:
        """12 bytes that change when anything in it does."""
        return hashlib.blake2b(self._start + self.place.encode(), digest_size=12).digest()

    def json(self, base: str) -> bytes:
        """The entry as JSON, in a facade that is reached at ``base``."""
        return self._start + orjson.dumps(self.url(base))[1:] + b"}"

    def url(self, base: str) -> str:
        """Where its artifact is, for who reaches the facade at ``base``."""
        return base + self.place if self.place.startswith("/") else self.place


class ArdEntries:
    """The entries of one list: of the latest version of every server with an address, and of every
    agent."""

    def __init__(self, servers: RegistryIndex, agents: RegistryIndex) -> None:
        self._indexes: Mapping[str, RegistryIndex] = {SERVER: servers, AGENT: agents}
        self._domain = servers.addresses.domain
        #: By kind and registry name, with what each was made of.
        self._made: dict[tuple[str, str], tuple[ServerVersion, ArdEntry | None]] = {}

    async def all(self) -> Sequence[ArdEntry]:
        """All of them, whatever their health; this facade's own come first.

        However many there are, others have the event loop meanwhile.
        """
        found = [*self._own]
        await self.refreshed()
        async for listed in sliced(chain(*(each.latest() for each in self._indexes.values()))):
            if (entry := self._entry(listed)) is not None:
                found.append(entry)
        return found

    async def refreshed(self) -> Self:
        """Itself, with what is listed now; a first list is read without holding the event loop."""
        for each in self._indexes.values():
            await each.refreshed()
        return self

    def one(self, urn: str) -> ArdEntry | None:
        """The entry of ``urn``, which begins with ``urn:air:``; ``None`` where there is none."""
        for entry in self._own:
            if entry.identifier == urn:
                return entry
        name = registry_name(urn, self._domain)
        for kind in self._indexes if name is not None else ():
            found = self._latest(kind, name or "")
            if found is not None and found[1].identifier == urn:
                return found[1]
        return None

    def of(self, record: Record) -> ArdEntry | None:
        """The entry of ``record``; ``None`` where that is of no latest version."""
        found = self._latest(record.kind, record.registry_name)
        return found[1] if found is not None and found[0].key[1] == record.version else None

    def _latest(self, kind: str, name: str) -> tuple[ServerVersion, ArdEntry] | None:
        listed = self._indexes[kind].version(name, LATEST)
        entry = None if listed is None else self._entry(listed)
        return None if listed is None or entry is None else (listed, entry)

    def _entry(self, listed: ServerVersion) -> ArdEntry | None:
        was, entry = self._made.get(_key(listed), (None, None))
        if was is not listed:
            entry = entry_of(listed, self._domain)
            if len(self._made) >= _MOST_KEPT:
                self._made.clear()
            self._made[_key(listed)] = listed, entry
        return entry

    @cached_property
    def _own(self) -> tuple[ArdEntry, ...]:
        return own_entries(self._domain)


ARD_ENTRIES: Part[ArdEntries] = Part("ARD entries")


def _key(listed: ServerVersion) -> tuple[str, str]:
    return listed.server.record.kind, listed.key[0]


def _server_card(listed: ServerVersion) -> str:
    return f"/servers/{quote(listed.key[0], safe='')}/server-card"


class _Artifact(NamedTuple):
    """What is published of one kind of record.

    ``namespace`` stands in its identifiers; ``place`` is where it is: a URL, or a path here.
    """

    media: str
    namespace: str
    place: Callable[[ServerVersion], str]


_ARTIFACTS: Mapping[str, _Artifact] = {
    SERVER: _Artifact(CARD, "mcp", _server_card),
    AGENT: _Artifact(AGENT_CARD, "agent", agent_card_path),
}


def entry_of(listed: ServerVersion, domain: str) -> ArdEntry | None:
    """The entry of an agent or a server; ``None`` for a server without an address. ``domain`` is
    that of the facade, where it is known."""
    record = listed.server.record
    if record.kind == SERVER and listed.server.remote is None:
        return None
    artifact = _ARTIFACTS[record.kind]
    health = live_state(listed.instances)
    terms: dict[str, Any] = {
        "@context": _CONTEXT,
        "identifier": identifier(listed.key[0], domain, artifact.namespace),
        "displayName": record.title or record.name,
        "type": artifact.media,
        "description": record.description or f"The {record.kind} {record.title or record.name}",
        "capabilities": [*record.capabilities.tools, *record.capabilities.skills],
        "representativeQueries": representative_queries(record),
        "tags": record.tags,
        "version": record.version,
        "updatedAt": rfc3339(listed.updated),
        "metadata": dict(record.metadata),
        "health": health["status"],
        "healthReason": health["reason"],
        "healthSince": health["since"],
    }
    ids = frozenset(
        each.id for each in listed.instances if each.health.status.value == health["status"]
    )
    kept = {term: value for term, value in terms.items() if value}
    return ArdEntry(kept, artifact.place(listed), listed.published, ids)


def own_entries(domain: str) -> tuple[ArdEntry, ...]:
    """The entries of this facade itself: as a registry, and as an MCP server."""

    def own(last: str, media: str, place: str, **terms: object) -> ArdEntry:
        usual = {
            "@context": _CONTEXT,
            "identifier": own_identifier(domain, last),
            "displayName": "mcp-discovery",
            "type": media,
            "version": installed_version(),
            "health": Status.HEALTHY.value,
        }
        return ArdEntry(usual | terms, place)

    return (
        own(
            "registry",
            REGISTRY,
            PATH,
            description="Finds the MCP servers that are alive, by what they are asked for",
            representativeQueries=[
                "which MCP servers are alive",
                "find a server with a tool for this task",
            ],
        ),
        own(
            "mcp",
            CARD,
            OWN_CARD,
            description=OWN_DESCRIPTION,
            capabilities=["find_servers", "find_tools"],
            representativeQueries=[
                "which tool can do this task",
                "is this MCP server healthy",
            ],
        ),
    )


def representative_queries(record: Record) -> list[str]:
    """Two to five questions that the server answers, which other registries find it by.

    Those that it was registered with; where there are too few, what it says of itself goes behind
    them: the first sentence of its description, its title and what its tools are called.
    """
    found: dict[str, str] = {}
    for text in _sentences(record):
        found.setdefault(text.casefold(), text)
        if len(found) == RECOMMENDED[-1]:
            break
    return list(found.values())


def _sentences(record: Record) -> Iterable[str]:
    yield from record.example_queries
    if len(record.example_queries) in RECOMMENDED:
        return
    if record.description.strip():
        first = _SENTENCE_END.split(record.description.strip(), maxsplit=1)[0]
        yield shortened(first, LONGEST_QUERY)
    for tool in record.capabilities.tools:
        yield _in_words(tool)
    title = record.title or _in_words(record.name)
    yield title
    yield f"what {title} offers"


def _in_words(name: str) -> str:
    return " ".join(_HUMP.split(name)).strip().lower()

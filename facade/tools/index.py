"""Which servers offer which tools, or skills, under which definitions."""

from __future__ import annotations

import asyncio
import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, TypeAlias

from cachetools import LRUCache

from mcp_discovery.adapters.view import Entry
from mcp_discovery.document import KINDS, CapabilityDocument, Kind, text_of
from mcp_discovery.errors import DocumentNotFoundError, StoreError
from mcp_discovery.facade.documents.documents import Documents
from mcp_discovery.facade.http.pauses import sliced
from mcp_discovery.health import PREFERENCE, Status
from mcp_discovery.query.corpus import definitions_in
from mcp_discovery.vouching import NOBODY, Voice, together, voice

#: For how many seconds one request waits for documents that are not in the cache.
DOCUMENTS_TIMEOUT = 2.0
#: How much the cache holds, in bytes of the documents' canonical JSON.
_CACHE_BYTES = 64 * 2**20
#: More instances than these are looked through in a thread.
_MANY = 1_000


@dataclass(frozen=True)
class ToolDefinition:
    """One tool or skill of one document; ``digest`` is the SHA-256 of its canonical JSON."""

    digest: str
    tool: Mapping[str, Any]

    def text(self, member: str) -> str | None:
        """The value of ``member`` where it is a string, else ``None``."""
        return text_of(self.tool, member)


#: The tools and skills of one document by kind and name.
Tools: TypeAlias = Mapping[tuple[Kind, str], ToolDefinition]


class ToolDefinitions:
    """A cache of the tools and skills of each document, by the document's digest."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._cache: LRUCache[str, tuple[Tools, int]] = LRUCache(
            _CACHE_BYTES, getsizeof=lambda cached: cached[1]
        )

    async def of(self, digests: Iterable[str], *, timeout: float) -> dict[str, Tools]:
        """The tools by digest of the documents that could be read within ``timeout`` seconds."""
        found: dict[str, Tools] = {}
        missing = []
        async for digest in sliced(digests):
            if (cached := self._cache.get(digest)) is not None:
                found[digest] = cached[0]
            else:
                missing.append(digest)
        if not missing:
            return found

        def receive(document: CapabilityDocument) -> None:
            found[document.digest] = self._parse(document)

        # The response counts the documents that could not be read.
        ignored = (DocumentNotFoundError, StoreError)
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._documents.read_each(missing, receive, ignored=ignored)
        return found

    async def read(self, digest: str) -> Tools:
        """The tools of one document; raises what
        :meth:`mcp_discovery.adapters.store.Store.document` does."""
        if (cached := self._cache.get(digest)) is not None:
            return cached[0]
        return self._parse(await self._documents.get(digest))

    async def offer(
        self, name: str, entries: Sequence[Entry], kind: Kind = "tool"
    ) -> tuple[ToolOffer, int]:
        """The tool ``name``, or what else is of ``kind``, which ``entries`` offer, and how many
        documents could not be read."""
        if len(entries) > _MANY:
            groups = await asyncio.to_thread(instance_groups, entries, kind)
        else:
            groups = instance_groups(entries, kind)
        digests = digests_of(groups)
        known = await self.of(digests, timeout=DOCUMENTS_TIMEOUT)
        offers = tool_offers(groups, known, frozenset({name}), kind)
        return offers[name], len(digests - known.keys())

    def _parse(self, document: CapabilityDocument) -> Tools:
        tools = {key: ToolDefinition(*each) for key, each in definitions_in(document).items()}
        self._cache[document.digest] = tools, len(document.canonical)
        return tools


#: How many instance ids an item of the list has; ``/tools/{name}`` has all of them.
_LISTED_IDS = 20


@dataclass(slots=True)
class InstanceGroup:
    """Instances that offer the same tools from the same document; ``ids`` are sorted. ``voice`` is
    that of all, ``voices`` that of each server's, ``health`` the best of each server's."""

    digest: str | None
    ids: list[str] = field(default_factory=list)
    voice: Voice = NOBODY
    servers: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    voices: dict[str, Voice] = field(default_factory=lambda: defaultdict(lambda: NOBODY))
    health: dict[str, Status] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ToolOffer:
    """One tool and the groups that offer it, by the digest of its definition there.

    ``groups[None]`` are those whose definition could not be read.
    """

    name: str
    definitions: dict[str, ToolDefinition] = field(default_factory=dict)
    groups: dict[str | None, list[InstanceGroup]] = field(default_factory=lambda: defaultdict(list))

    @property
    def all_groups(self) -> list[InstanceGroup]:
        """All groups that offer it."""
        return list(chain.from_iterable(self.groups.values()))

    def ordered(self) -> list[ToolDefinition]:
        """Its definitions, that first of those who count most (:mod:`mcp_discovery.vouching`);
        equal ones by their number, and then by digest."""

        def rank(definition: ToolDefinition) -> tuple[object, ...]:
            groups = self.groups[definition.digest]
            return together(each.voice for each in groups), -count(groups), definition.digest

        return sorted(self.definitions.values(), key=rank)


def instance_groups(
    entries: Iterable[Entry], kind: Kind = "tool"
) -> dict[tuple[str, ...], list[InstanceGroup]]:
    """The groups of instances by the names of the tools, or what else is of ``kind``, that they
    offer.

    Instances of one version are equal, so the names are processed once for each version.
    """
    found: dict[tuple[tuple[str, ...], str | None], InstanceGroup] = {}
    for entry in entries:
        capabilities = entry.record.capabilities
        tools, digest = getattr(capabilities, KINDS[kind]), capabilities.digest
        group = found.setdefault((tools, digest), InstanceGroup(digest))
        group.ids.append(entry.id)
        own, name = voice(entry.instance), entry.record.name
        group.voice = together((group.voice, own))
        group.voices[name] = together((group.voices[name], own))
        group.servers[name].append(entry.id)
        status = entry.health.status
        group.health[name] = min(status, group.health.get(name, status), key=PREFERENCE.index)
    by_names: defaultdict[tuple[str, ...], list[InstanceGroup]] = defaultdict(list)
    for (names, _), group in found.items():
        group.ids.sort()
        by_names[names].append(group)
    return by_names


def digests_of(groups_by_names: Mapping[tuple[str, ...], list[InstanceGroup]]) -> set[str]:
    """The digests of the documents in which their tools are defined."""
    groups = chain.from_iterable(groups for names, groups in groups_by_names.items() if names)
    return {group.digest for group in groups if group.digest is not None}


def tool_offers(
    groups_by_names: Mapping[tuple[str, ...], list[InstanceGroup]],
    tools_by_digest: Mapping[str, Tools],
    only: frozenset[str],
    kind: Kind = "tool",
) -> dict[str, ToolOffer]:
    """The tools, or what else is of ``kind``, by name; ``only`` restricts the names where it is not
    empty."""
    offers: dict[str, ToolOffer] = {}
    for names, groups in groups_by_names.items():
        for name in dict.fromkeys(names):
            if only and name not in only:
                continue
            offer = offers.setdefault(name, ToolOffer(name))
            for group in groups:
                definition = tools_by_digest.get(group.digest or "", {}).get((kind, name))
                if definition is not None:
                    offer.definitions.setdefault(definition.digest, definition)
                offer.groups[definition.digest if definition else None].append(group)
    return offers


def count(groups: Iterable[InstanceGroup]) -> int:
    """How many instances are in ``groups``."""
    return sum(len(group.ids) for group in groups)


def _ids(groups: Iterable[InstanceGroup]) -> list[str]:
    return list(heapq.merge(*(group.ids for group in groups)))


def _servers(groups: Iterable[InstanceGroup]) -> list[str]:
    return sorted(set(chain.from_iterable(group.servers for group in groups)))


def _described(offer: ToolOffer, definition: ToolDefinition | None) -> dict[str, Any]:
    item: dict[str, Any] = {"name": offer.name}
    if definition is not None:
        texts = {member: definition.text(member) for member in ("title", "description", "uri")}
        item |= {member: text for member, text in texts.items() if text}
    return item


def listed(offer: ToolOffer, with_schema: bool) -> dict[str, Any]:
    """The tool as an item of ``GET /tools``, or the skill as one of ``GET /skills``."""
    groups, definitions = offer.all_groups, offer.ordered()
    first = definitions[0] if definitions else None
    item = _described(offer, first) | {
        "servers": len(_servers(groups)),
        "providers": count(groups),
        "instances": list(islice(heapq.merge(*(each.ids for each in groups)), _LISTED_IDS)),
        "variants": len(definitions),
    }
    if with_schema and first is not None and isinstance(first.tool.get("inputSchema"), dict | bool):
        item["inputSchema"] = first.tool["inputSchema"]
    return item


def detail(offer: ToolOffer, kind: Kind = "tool") -> dict[str, Any]:
    """The tool as ``GET /tools/{name}`` returns it, or the skill as ``GET /skills/{name}``."""
    groups, definitions = offer.all_groups, offer.ordered()
    first = definitions[0] if definitions else None
    others = [offer.groups[each.digest] for each in definitions[1:]]
    return _described(offer, first) | {
        "servers": _servers(groups),
        "providers": count(groups),
        "instances": _ids(groups),
        "consistent": len(definitions) < 2,
        "variants": [
            _variant(kind, each, definitions[0], offer.groups[each.digest]) for each in definitions
        ],
        "odd": _ids(chain.from_iterable(others)),
        "inconsistentServers": _inconsistent(offer),
        "unknown": _ids(offer.groups.get(None, ())),
    }


def _variant(
    kind: Kind, definition: ToolDefinition, first: ToolDefinition, groups: Sequence[InstanceGroup]
) -> dict[str, Any]:
    tool = definition.tool
    members = sorted({*tool, *first.tool})
    variant = {
        "digest": definition.digest,
        "differs": [each for each in members if tool.get(each) != first.tool.get(each)],
        "servers": _servers(groups),
        "instances": _ids(groups),
        kind: tool,
    }
    return variant | ({"schema": tool.get("inputSchema")} if kind == "tool" else {})


def _inconsistent(offer: ToolOffer) -> list[str]:
    """The names of servers whose own replicas have more than one definition of it."""
    by_server: defaultdict[str, set[str]] = defaultdict(set)
    for digest, groups in offer.groups.items():
        for name in chain.from_iterable(group.servers for group in groups) if digest else ():
            by_server[name].add(digest or "")
    return sorted(name for name, digests in by_server.items() if len(digests) > 1)

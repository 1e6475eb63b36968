"""Server cards (SEP-2127) and the AI catalog that names them.

A card, its place and how it is cached are those of docs/discovery.md in
https://github.com/modelcontextprotocol/experimental-ext-server-card, version 1; the catalog is a
"Discoverable Catalog" of https://github.com/Agent-Card/ai-catalog, version 1.0.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import orjson
from aiohttp import web
from cachetools import LRUCache

from mcp_discovery.adapters.view import View
from mcp_discovery.facade.access.caller import caller_of
from mcp_discovery.facade.access.parts import Part, parts_of
from mcp_discovery.facade.documents.documents import DOCUMENTS
from mcp_discovery.facade.http.cors import vary
from mcp_discovery.facade.http.etag import IF_NONE_MATCH, tag_of, tagged
from mcp_discovery.facade.http.operation import Operation, Parameter
from mcp_discovery.facade.http.pauses import made_of_each
from mcp_discovery.facade.registry.entries import ServerVersion
from mcp_discovery.facade.registry.identifiers import canonical, identifier, registry_name
from mcp_discovery.facade.registry.index import AGENT_INDEX, LATEST, REGISTRY_INDEX, RegistryIndex
from mcp_discovery.facade.registry.models import AgentCardModel, AiCatalog, ServerCard
from mcp_discovery.facade.registry.server_json import identity, remote_of
from mcp_discovery.facade.servers.current_list import unknown, view_of
from mcp_discovery.health import rfc3339
from mcp_discovery.mcp_messages import LEGACY, MODERN
from mcp_discovery.record import AGENT, SERVER
from mcp_discovery.urls import agent_card_url
from mcp_discovery.version import installed_version

CARD = "application/mcp-server-card+json"
AGENT_CARD = "application/a2a-agent-card+json"
CATALOG = "application/ai-catalog+json"
SCHEMA = "https://static.modelcontextprotocol.io/schemas/v1/server-card.schema.json"
#: The registry name of this facade as an MCP server.
OWN_NAME = "io.github.mcp-discovery/facade"
#: What it finds there, and where its card is.
OWN_DESCRIPTION = "Finds MCP servers that are alive, and their tools, by tag and by words"
OWN_CARD = "/mcp/server-card"
#: For how many seconds a catalog, or a card of a server, need not be asked for again. The draft's
#: example is an hour, which this facade's own card has; what follows a live list is older sooner.
_FRESH, _OWN_FRESH = 60, 3600
#: How many bytes of catalogs are cached, one for each base URL of this facade that clients use.
_CACHE_BYTES = 64 * 2**20


class _Catalog(NamedTuple):
    """A catalog as JSON, made of one ``generation`` of what is listed, and its entity tag."""

    generation: int
    body: bytes
    tag: str


class AiCatalogs:
    """The AI catalog, made once for each generation of the registry and base URL of this facade."""

    def __init__(self, servers: RegistryIndex, agents: RegistryIndex) -> None:
        self._indexes = servers, agents
        self._domain = servers.addresses.domain
        self._turn = asyncio.Lock()
        self._cache: LRUCache[str, _Catalog] = LRUCache(
            _CACHE_BYTES, getsizeof=lambda cached: len(cached.body)
        )

    async def at(self, base: str) -> _Catalog:
        """The catalog whose URLs are below ``base``."""
        async with self._turn:  # who asks for the same meanwhile finds it made
            servers, agents = [(await index.refreshed()).latest() for index in self._indexes]
            generation = sum(index.generation for index in self._indexes)
            cached = self._cache.get(base)
            if cached is None or cached.generation != generation:
                body = await catalog([*servers, *agents], base, self._domain)
                cached = _Catalog(generation, body, tag_of(body))
                if len(body) <= _CACHE_BYTES:
                    self._cache[base] = cached
            return cached


AI_CATALOGS: Part[AiCatalogs] = Part("AI catalogs")


async def ai_catalog(request: web.Request) -> web.Response:
    """Where the cards of all servers with an address are, of A2A agents, and of this facade."""
    view_of(request)  # raises until there is a first list
    parts = parts_of(request)
    found = await parts[AI_CATALOGS].at(parts[REGISTRY_INDEX].addresses.base(request))
    return typed(request, found.body, CATALOG, tag=found.tag)


async def server_card(request: web.Request) -> web.Response:
    """One server's card, by its name, its registry name, its identifier or the id of an instance.

    Of the latest version, or of that of the instance. It says who the server is and how it is
    reached; what it offers is asked of itself.
    """
    found = await _found(request, REGISTRY_INDEX)
    return typed(request, orjson.dumps(card(found)), CARD)


async def agent_card(request: web.Request) -> web.Response:
    """One A2A agent's card as the agent gave it, found as a server's card is.

    A caller whose rights are for some skills alone is given those that it may see, and no
    signatures. A card that has not been read is where the agent itself has it.
    """
    record = (await _found(request, AGENT_INDEX)).server.representative.record
    document = await parts_of(request)[DOCUMENTS].of_record(record)
    if (found := document.agent_card()) is None:
        own = agent_card_url(record.endpoint.url or "")
        return web.Response(status=302, headers={"Location": own})
    return typed(request, orjson.dumps(found), AGENT_CARD)


async def own_card(request: web.Request) -> web.Response:
    """The card of this facade as an MCP server."""
    base = parts_of(request)[REGISTRY_INDEX].addresses.base(request)
    own = {
        "$schema": SCHEMA,
        "name": OWN_NAME,
        "title": "mcp-discovery",
        "description": OWN_DESCRIPTION,
        "version": installed_version(),
        "remotes": [
            {
                "type": "streamable-http",
                "url": f"{base}/mcp",
                "supportedProtocolVersions": [*LEGACY, MODERN],
            }
        ],
    }
    return typed(request, orjson.dumps(own), CARD, fresh=_OWN_FRESH)


async def catalog(listed: Sequence[ServerVersion], base: str, domain: str) -> bytes:
    """The AI catalog of ``listed`` and of the facade that is reached at ``base``, as JSON.

    ``domain`` is the facade's, where it is known. What a card says (title, description, version) is
    not repeated. However many servers there are, others have the event loop meanwhile.
    """
    own = {"identifier": own_identifier(domain), "type": CARD, "url": base + OWN_CARD}
    records = (each.server.record for each in listed)
    names = Counter(record.name for record in records if record.kind == SERVER)

    def entry(each: ServerVersion) -> bytes:
        if each.server.record.kind == SERVER and each.server.remote is None:
            return b""
        alone = names[each.server.record.name] == 1
        return orjson.dumps(_entry(each, base, domain, alone=alone))

    entries = [orjson.dumps(own), *filter(None, await made_of_each(listed, entry))]
    head = orjson.dumps({"specVersion": "1.0", "host": host_of(domain, base)})
    return b'%b,"entries":[%b]}' % (head[:-1], b",".join(entries))


def host_of(domain: str, base: str) -> dict[str, str]:
    """Who publishes at ``base``, a facade of ``domain``, which may be empty."""
    host = {"displayName": domain or "mcp-discovery", "documentationUrl": f"{base}/docs"}
    return host | ({"identifier": domain} if domain else {})


def own_identifier(domain: str, namespace: str = "mcp") -> str:
    """The identifier of this facade as an MCP server, or as something else."""
    return f"urn:air:{domain}:facade:{namespace}" if domain else identifier(OWN_NAME, "", namespace)


def card(listed: ServerVersion) -> dict[str, Any]:
    """The card of one version of a server."""
    record, remote = listed.server.record, listed.server.remote
    found = {"$schema": SCHEMA, **identity(record)}
    if remote is not None:
        spoken = {"supportedProtocolVersions": record.protocol.versions}
        found["remotes"] = [
            remote_of(record, remote) | (spoken if record.protocol.versions else {})
        ]
    return found


def agent_card_path(listed: ServerVersion) -> str:
    """Where an A2A agent's card is here."""
    return f"/servers/{quote(listed.key[0], safe='')}/agent-card"


def _entry(listed: ServerVersion, base: str, domain: str, *, alone: bool) -> dict[str, Any]:
    """``alone`` says whether no other publisher has a server of the same name."""
    name, record = listed.key[0], listed.server.record
    path = record.name if alone else quote(name, safe="")
    agent = record.kind == AGENT
    entry: dict[str, Any] = {
        "identifier": identifier(name, domain, AGENT if agent else "mcp"),
        "type": AGENT_CARD if agent else CARD,
        "url": base + (agent_card_path(listed) if agent else f"/servers/{path}/server-card"),
        "updatedAt": rfc3339(listed.updated),
    }
    if tags := record.tags:
        entry["tags"] = tags
    return entry


async def _found(request: web.Request, part: Part[RegistryIndex]) -> ServerVersion:
    """What the path names, of the index ``part``; raises a 404."""
    given = request.match_info["id"]
    view, index = view_of(request), await parts_of(request)[part].refreshed()
    if (found := _named(view, index, given)) is None:
        raise unknown(given)
    return found


def _named(view: View, index: RegistryIndex, given: str) -> ServerVersion | None:
    domain = index.addresses.domain
    if (named := registry_name(given, domain)) is not None:
        namespace = "mcp" if index.kind == SERVER else index.kind
        same = canonical(given) == identifier(named, domain, namespace)
        return index.version(named, LATEST) if same else None
    if "/" in given:
        return index.version(given, LATEST)
    ids = view.having("name", given)
    for name in sorted({view.entries[id].record.registry_name for id in ids}):
        if (found := index.version(name, LATEST)) is not None:
            return found
    if (entry := view.entries.get(given)) is None:
        return None
    return index.version(entry.record.registry_name, entry.record.version)


def typed(
    request: web.Request, body: bytes, media: str, *, tag: str = "", fresh: int = _FRESH
) -> web.Response:
    """``body``, or 304. Only what is told to everybody may be kept by a cache that many share."""
    shared = "public" if caller_of(request).is_anonymous else "private"
    headers = {"Cache-Control": f"{shared}, max-age={fresh}"}
    response = tagged(request, tag or tag_of(body), body, headers)
    vary(response, "Authorization")
    if response.status == 200:
        response.content_type = media
    return response


_ANY = Parameter(
    "id",
    "The server's name, its registry name, its `urn:air:…`, or the id of an instance.",
    where="path",
)
_GROUP = "mcp-registry"
OPERATIONS = (
    Operation(
        "GET",
        "/.well-known/ai-catalog.json",
        ai_catalog,
        _GROUP,
        answers={200: AiCatalog, 304: None},
        parameters=(IF_NONE_MATCH,),
        media=CATALOG,
        lenient=True,
        needs="read",
    ),
    Operation(
        "GET",
        "/servers/{id}/server-card",
        server_card,
        _GROUP,
        answers={200: ServerCard, 304: None},
        parameters=(_ANY, IF_NONE_MATCH),
        errors=(404,),
        media=CARD,
        lenient=True,
        needs="read",
    ),
    Operation(
        "GET",
        "/servers/{id}/agent-card",
        agent_card,
        _GROUP,
        answers={200: AgentCardModel, 302: None, 304: None},
        parameters=(_ANY, IF_NONE_MATCH),
        errors=(404,),
        media=AGENT_CARD,
        lenient=True,
        needs="read",
    ),
    Operation(
        "GET",
        OWN_CARD,
        own_card,
        _GROUP,
        answers={200: ServerCard, 304: None},
        parameters=(IF_NONE_MATCH,),
        media=CARD,
        lenient=True,
        needs="read",
    ),
)

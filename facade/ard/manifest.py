"""This facade as an ARD publisher: its manifest, and the ways in which it is found.

Section 5.1 of ARD v0.91: ``/.well-known/ard.json``, ``Agentmap:``, and ``rel="ard"`` of each page.
"""

from __future__ import annotations

import orjson
from aiohttp import web

from mcp_discovery.facade.access.parts import parts_of
from mcp_discovery.facade.ard.entries import ARD_ENTRIES
from mcp_discovery.facade.ard.models import ArdManifest
from mcp_discovery.facade.ard.terms import Constraints
from mcp_discovery.facade.http.etag import IF_NONE_MATCH, tag_of
from mcp_discovery.facade.http.operation import Operation
from mcp_discovery.facade.http.pauses import made_of_each, sliced
from mcp_discovery.facade.registry.cards import host_of, typed
from mcp_discovery.facade.registry.index import REGISTRY_INDEX
from mcp_discovery.facade.servers.current_list import view_of

WELL_KNOWN = "/.well-known/ard.json"


async def manifest(request: web.Request) -> web.Response:
    """What is published here: the healthy servers, and this facade as a registry of them all."""
    view_of(request)  # raises until there is a first list
    parts = parts_of(request)
    addresses = parts[REGISTRY_INDEX].addresses
    base, alive = addresses.base(request), Constraints.of(())
    entries = [each async for each in sliced(await parts[ARD_ENTRIES].all()) if alive.fit(each)]
    head = orjson.dumps({"specVersion": "1.0", "host": host_of(addresses.domain, base)})
    made = await made_of_each(entries, lambda entry: entry.json(base))
    body = b'%b,"entries":[%b]}' % (head[:-1], b",".join(made))
    tag = tag_of(head, b"".join(await made_of_each(entries, lambda entry: entry.digest)))
    return typed(request, body, "application/json", tag=tag)


async def robots(request: web.Request) -> web.Response:
    """What crawlers read first: everything may be read, and where the ARD manifest is."""
    base = parts_of(request)[REGISTRY_INDEX].addresses.base(request)
    return web.Response(text=f"User-agent: *\nDisallow:\n\nAgentmap: {base}{WELL_KNOWN}\n")


_GROUP = "ard"
OPERATIONS = (
    Operation(
        "GET",
        WELL_KNOWN,
        manifest,
        _GROUP,
        answers={200: ArdManifest, 304: None},
        parameters=(IF_NONE_MATCH,),
        lenient=True,
        needs="read",
    ),
    Operation(
        "GET",
        "/robots.txt",
        robots,
        _GROUP,
        answers={200: {"type": "string"}},
        media="text/plain",
        lenient=True,
        needs="open",
    ),
)

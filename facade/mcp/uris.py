"""The names of the facade's resources, and what changes them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import quote, unquote

from mcp_discovery.adapters.catalog import Event

SERVERS: Final = "mcp-discovery://servers"
_SERVER: Final = "mcp-discovery://servers/"
_DOCUMENT: Final = "mcp-discovery://documents/"

SERVER_TEMPLATE: Final = _SERVER + "{id}"
DOCUMENT_TEMPLATE: Final = _DOCUMENT + "{digest}"


def server_uri(id: str) -> str:
    """The resource of the server ``id``."""
    return _SERVER + quote(id, safe="")


def document_uri(digest: str) -> str:
    """The resource of the capability document with ``digest``."""
    return _DOCUMENT + digest


def server_in(uri: str) -> str | None:
    """The id of the server that ``uri`` names; ``None`` where it names none."""
    return unquote(uri[len(_SERVER) :]) or None if uri.startswith(_SERVER) else None


def document_in(uri: str) -> str | None:
    """The digest that ``uri`` names; ``None`` where it names none."""
    return uri[len(_DOCUMENT) :] or None if uri.startswith(_DOCUMENT) else None


def changed(events: Iterable[Event]) -> tuple[set[str], bool]:
    """The resources whose contents ``events`` change, and whether others are listed than before."""
    uris: set[str] = set()
    others = False
    for event in events:
        uris.add(server_uri(event.id))
        before, after = event.before, event.entry
        others = others or before is None or after is None
        if before is not None and after is not None:
            digests = (before.record.capabilities.digest, after.record.capabilities.digest)
            others = others or digests[0] != digests[1]
    if uris:
        uris.add(SERVERS)
    return uris, others

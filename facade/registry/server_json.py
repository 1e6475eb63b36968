"""A record as ``server.json``, always valid against its schema, and the addresses in it.

https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, Self
from urllib.parse import urlsplit

import orjson
from aiohttp import web
from pydantic import BaseModel

from mcp_discovery.adapters.view import Entry
from mcp_discovery.document import compact
from mcp_discovery.errors import InvalidInputError
from mcp_discovery.facade.http.client_address import client_of
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.record import Record, url_problem
from mcp_discovery.urls import uri_of, urls_of

RemoteType = Literal["streamable-http", "sse"]

#: The placeholder for the server's name, a DNS label, in a template.
_NAME = "{name}"
#: A name with which a template is validated.
_ANY_NAME = "a"
#: A host name with a top-level domain, which no IP address has.
_DOMAIN = re.compile(r"([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z][a-z0-9-]*[a-z0-9]")
_HOST = re.compile(r"[A-Za-z0-9._-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")


class Remote(NamedTuple):
    """Where a host connects to a server: a transport of ``server.json``, and a URL."""

    type: RemoteType
    url: str


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses that one facade publishes. Build it with :meth:`parse`.

    ``template`` is the URL of every server with ``{name}`` in it; empty where each has the URL of
    one of its instances. ``public_url`` is where the facade is reached, without a slash at its
    end; empty where it is not known.
    """

    template: str = ""
    public_url: str = ""
    through_facade: bool = False

    @classmethod
    def parse(cls, address: str, public_url: str | None = None, *, gateway: bool = False) -> Self:
        """Addresses from the facade's options.

        ``address`` is ``instance``, ``facade`` or a URL with ``{name}`` in it; ``gateway`` says
        whether the facade has one. Raises :class:`InvalidInputError` where one of them is not fit,
        or where they do not fit together.
        """
        base = _checked_base(public_url) if public_url else ""
        match address:
            case "instance":
                return cls("", base)
            case "facade":
                if not base or not gateway:
                    raise InvalidInputError(
                        "--registry-address facade needs --gateway, which passes requests on, and "
                        "--public-url, where hosts reach this facade, such as "
                        "https://mcp.example.com"
                    )
                return cls(f"{base}/gateway/{_NAME}/mcp", base, through_facade=True)
            case _:
                return cls(_checked_template(address), base)

    def remote(self, entry: Entry) -> Remote | None:
        """Where hosts find the server of which ``entry`` is the instance that stands for it.

        ``None`` for what ``server.json`` cannot name: WebSocket, and ``stdio``, which has no
        address at all. The gateway speaks streamable HTTP, to servers that speak it.
        """
        kind = remote_type(entry.record)
        if kind is None:
            return None
        if self.template and (kind == "streamable-http" or not self.through_facade):
            return Remote(kind, self.template.replace(_NAME, entry.record.name))
        return Remote(kind, _instance_url(entry))

    @property
    def domain(self) -> str:
        """The host of the public URL, where that is a domain of the DNS; else empty."""
        host = urlsplit(self.public_url).hostname or ""
        return host if _DOMAIN.fullmatch(host) else ""

    def base(self, request: web.Request) -> str:
        """The URL of this facade: the public one, or else the one that ``request`` went to.

        Raises :class:`ProblemError` (400) where the request names no host that a URL could have.
        """
        if self.public_url:
            return self.public_url
        client = client_of(request)
        if _HOST.fullmatch(client.host) is None:
            raise ProblemError(
                400, "bad-host", "the Host header of this request is no host; mend it"
            )
        return f"{client.scheme}://{client.host}"


def remote_type(record: Record) -> RemoteType | None:
    """The record's transport as ``remotes[].type``; ``None`` where that has no such type."""
    match record.endpoint.transport:
        case "streamable-http" | "sse" as kind:
            return kind
        case _:
            return None


def _instance_url(entry: Entry) -> str:
    """The URL of the instance's MCP endpoint.

    A sidecar registers the exact URL; a posted one without a path gets the usual path.
    """
    endpoint = entry.record.endpoint
    url = endpoint.url or ""
    if entry.instance.lease.holder.by == "facade":
        url = urls_of(url, endpoint.transport)[0]
    return uri_of(url)


def _checked_base(url: str) -> str:
    problem = url_problem(url, ("http", "https"))
    if problem is None and set(url) & set("?#@"):
        problem = f"{url[:200]!r} has more than scheme, host, port and path"
    if problem is not None:
        raise InvalidInputError(
            f"--public-url: {problem}; it is where this facade is reached, such as "
            "https://mcp.example.com"
        )
    return uri_of(url).rstrip("/")


def _checked_template(template: str) -> str:
    url = template.replace(_NAME, _ANY_NAME)
    fit = _NAME in template and not set(url) & set("{}#")
    if not fit or url_problem(url, ("http", "https")) is not None:
        raise InvalidInputError(
            f"--registry-address {template[:200]!r} is none of instance, facade, or a URL with "
            "{name} in it, such as https://{name}.mcp.example.com/mcp"
        )
    return template


SCHEMA = "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json"
#: The registry's key for the publisher's own members, and how many bytes it accepts of them.
PUBLISHER = "io.modelcontextprotocol.registry/publisher-provided"
MAX_PUBLISHER = 4096
#: This project's key for an endpoint that ``remotes`` cannot express: WebSocket, stdio.
ENDPOINT = "io.github.mcp-discovery/endpoint"

#: The longest description, title and version, in characters.
MAX_TEXT = 100
MAX_VERSION = 255
_MAX_ICON = 255
_IMAGES = frozenset({"image/png", "image/jpeg", "image/jpg", "image/svg+xml", "image/webp"})
_SIZE = re.compile(r"\d+x\d+|any", re.ASCII)
_TOKEN = {"bearer": "Bearer, followed by a token", "oauth2": "Bearer, followed by an access token"}


class ServerJson:
    """The ``server.json`` of one version of a server, made on first use.

    ``record`` describes the server; the address of ``representative`` is published.
    """

    def __init__(self, record: Record, representative: Entry, addresses: Addresses) -> None:
        self.record = record
        self.representative = representative
        self._addresses = addresses

    @cached_property
    def remote(self) -> Remote | None:
        """The server's address, where ``server.json`` can express it."""
        return self._addresses.remote(self.representative)

    @cached_property
    def data(self) -> bytes:
        """The document as JSON."""
        return compact(orjson.dumps(document(self.record, self.remote)))

    def same_content(self, other: ServerJson) -> bool:
        """Whether both are the same document."""
        mine, theirs = self.representative, other.representative
        same = self.record is other.record and mine.record is theirs.record
        same = same and mine.instance.lease.holder.by == theirs.instance.lease.holder.by
        return same or self.data == other.data


def can_be_listed(record: Record) -> bool:
    """Whether ``server.json`` has room for the record's version."""
    return len(record.version) <= MAX_VERSION


def document(record: Record, remote: Remote | None) -> dict[str, Any]:
    """The ``server.json`` of ``record``, reached at ``remote``."""
    found = {"$schema": SCHEMA, **identity(record)}
    if remote is not None:
        found["remotes"] = [remote_of(record, remote)]
    meta: dict[str, Any] = {}
    if members := _publisher(record):
        meta[PUBLISHER] = members
    if remote is None:
        meta[ENDPOINT] = _fields(record.endpoint)
    if meta:
        found["_meta"] = meta
    return found


def identity(record: Record) -> dict[str, Any]:
    """The members that describe a server in ``server.json`` and in a server card alike."""
    found: dict[str, Any] = {
        "name": record.registry_name,
        "description": _description(record),
        "version": record.version,
    }
    if title := shortened(record.title or "", MAX_TEXT):
        found["title"] = title
    if record.website_url:
        found["websiteUrl"] = uri_of(record.website_url)
    if icons := [icon for each in record.icons if (icon := _icon(each))]:
        found["icons"] = icons
    return found


def remote_of(record: Record, remote: Remote) -> dict[str, Any]:
    """One of ``remotes``, with the header that a client has to send."""
    found: dict[str, Any] = {"type": remote.type, "url": remote.url}
    if record.auth.type in _TOKEN:
        header = {"name": "Authorization", "description": _TOKEN[record.auth.type]}
        found["headers"] = [{**header, "isRequired": True, "isSecret": True}]
    return found


def shortened(text: str, most: int) -> str:
    """``text`` in one line of at most ``most`` characters, cut at a word where it is longer."""
    line = " ".join(text.split())
    if len(line) <= most:
        return line
    words, space, _ = line[:most].rpartition(" ")
    kept = words if space and len(words) >= most // 2 else line[: most - 1]
    return kept.rstrip(" ,;:.-") + "…"


def _description(record: Record) -> str:
    """The description, which is never empty: hosts reject an entry without one."""
    return (
        shortened(record.description, MAX_TEXT)
        or shortened(record.title or "", MAX_TEXT)
        or f"The MCP server {record.name}"
    )


def _icon(icon: Mapping[str, Any]) -> dict[str, Any]:
    """The members of an icon that the schema allows; empty where its source is invalid."""
    source = icon.get("src")
    if not isinstance(source, str) or url_problem(source, ("https",)) is not None:
        return {}
    url = uri_of(source)
    if len(url) > _MAX_ICON:
        return {}
    found: dict[str, Any] = {"src": url}
    kind = icon.get("mimeType")
    if isinstance(kind, str) and kind in _IMAGES:
        found["mimeType"] = kind
    sizes = icon.get("sizes")
    if isinstance(sizes, list | tuple):
        fit = [each for each in sizes if isinstance(each, str) and _SIZE.fullmatch(each)]
        found |= {"sizes": fit} if fit else {}
    if icon.get("theme") in ("light", "dark"):
        found["theme"] = icon["theme"]
    return found


def _publisher(record: Record) -> dict[str, Any]:
    """Further members of the record, the most useful first, as many as fit."""
    found: dict[str, Any] = {}
    size = 2
    for name, value in _publisher_members(record):
        if not value:
            continue
        more = len(orjson.dumps({name: value})) - 1  # its braces, for a comma
        if size + more <= MAX_PUBLISHER:
            found[name] = value
            size += more
    return found


def _fields(part: BaseModel) -> dict[str, Any]:
    """A part of a record as JSON, without its empty members."""
    fields = part.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {name: value for name, value in fields.items() if value != []}


def _publisher_members(record: Record) -> Iterable[tuple[str, Any]]:
    auth, offered = record.auth, record.capabilities
    yield "owner", record.owner
    yield "tags", record.tags
    if auth.type != "none":
        yield "auth", _fields(auth)
    yield "protocolVersions", record.protocol.versions
    yield "metadata", dict(record.metadata)
    yield "tools", offered.tools
    yield "prompts", offered.prompts
    yield "resources", offered.resources
    yield "skills", offered.skills

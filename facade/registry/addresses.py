"""The addresses that ``server.json``, server cards and the AI catalog publish."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, Self

from aiohttp import web
from yarl import URL

from mcp_discovery.adapters.view import Entry
from mcp_discovery.errors import InvalidInputError
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.probe.endpoint import ProbedEndpoint
from mcp_discovery.record import Record, url_problem

RemoteType = Literal["streamable-http", "sse"]

#: The placeholder for the server's name, a DNS label, in a template.
_NAME = "{name}"
#: A name with which a template is validated.
_ANY_NAME = "a"
_HOST = re.compile(r"[A-Za-z0-9._-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")


@dataclass(frozen=True, slots=True)
class Remote:
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
        url = _instance_url(entry)
        return None if url is None else Remote(kind, url)

    def base(self, request: web.Request) -> str:
        """The URL of this facade: the public one, or else the one that ``request`` went to.

        Raises :class:`ProblemError` (400) where the request names no host that a URL could have.
        """
        if self.public_url:
            return self.public_url
        if _HOST.fullmatch(request.host) is None:
            raise ProblemError(
                400, "bad-host", "the Host header of this request is no host; mend it"
            )
        return f"{request.scheme}://{request.host}"


def remote_type(record: Record) -> RemoteType | None:
    """The record's transport as ``remotes[].type``; ``None`` where that has no such type."""
    match record.endpoint.transport:
        case "streamable-http" | "sse" as kind:
            return kind
        case _:
            return None


def encoded_url(url: str) -> str | None:
    """``url`` with every character encoded that RFC 3986 does not allow, braces included.

    Braces would be variables in ``server.json``. ``None`` for an invalid URL.
    """
    try:
        return str(URL(url))
    except ValueError:
        return None


def _instance_url(entry: Entry) -> str | None:
    """The URL of the instance's MCP endpoint.

    A sidecar registers the exact URL; a posted one without a path gets the usual path.
    """
    endpoint = entry.record.endpoint
    url = endpoint.url or ""
    try:
        if entry.instance.lease.holder.by == "facade":
            url = ProbedEndpoint.of(url, endpoint.transport, None).urls[0]
    except ValueError:
        return None
    return encoded_url(url)


def _checked_base(url: str) -> str:
    problem = url_problem(url, ("http", "https"))
    if problem is None and (set(url) & set("?#@") or encoded_url(url) is None):
        problem = f"{url[:200]!r} has more than scheme, host, port and path"
    if problem is not None:
        raise InvalidInputError(
            f"--public-url: {problem}; it is where this facade is reached, such as "
            "https://mcp.example.com"
        )
    return str(URL(url)).rstrip("/")


def _checked_template(template: str) -> str:
    url = template.replace(_NAME, _ANY_NAME)
    fit = _NAME in template and not set(url) & set("{}#")
    if not fit or url_problem(url, ("http", "https")) is not None or encoded_url(url) is None:
        raise InvalidInputError(
            f"--registry-address {template[:200]!r} is none of instance, facade, or a URL with "
            "{name} in it, such as https://{name}.mcp.example.com/mcp"
        )
    return template

"""Consul store URLs: the agent's address, the Consul service and the KV prefix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast, get_args
from urllib.parse import parse_qsl, urlencode, urlsplit

from mcp_discovery.errors import InvalidStoreURLError
from mcp_discovery.facade_url import without_secrets
from mcp_discovery.record import MAX_NAME, is_label

#: ``one-service``: every instance belongs to one Consul service. ``service-per-server``: each
#: MCP server has a Consul service of its own, ``<service>-<server's name>``.
Mode = Literal["one-service", "service-per-server"]

DEFAULT_SERVICE = "mcp"
_SCHEMES = {"consul": ("http", 8500), "consul+https": ("https", 8501)}


@dataclass(frozen=True, slots=True)
class ConsulAddress:
    """A parsed store URL. ``api`` is the HTTP API's base URL, ``shown`` the URL for messages."""

    api: str
    service: str
    dc: str | None
    mode: Mode
    shown: str

    @property
    def records(self) -> str:
        """The KV prefix of the records."""
        return f"{self.service}/servers/"

    @property
    def documents(self) -> str:
        """The KV prefix of the capability documents."""
        return f"{self.service}/documents/"

    @property
    def queries(self) -> str:
        """The KV prefix of the named queries."""
        return f"{self.service}/queries/"

    @property
    def services(self) -> str:
        """The Consul services of this store, for messages."""
        if self.mode == "one-service":
            return f"the service {self.service!r}"
        return f"the services '{self.service}-…'"

    def is_ours(self, service: str) -> bool:
        """Whether a Consul service is one of this store's."""
        if self.mode == "one-service":
            return service == self.service
        return service.startswith(f"{self.service}-")

    @property
    def rule(self) -> str:
        """The ACL rule that lets :attr:`services` be read."""
        if self.mode == "one-service":
            return f'service "{self.service}" {{ policy = "read" }}'
        return f'service_prefix "{self.service}-" {{ policy = "read" }}'

    def service_of(self, server: str) -> str:
        """The Consul service that instances of ``server`` belong to."""
        return self.service if self.mode == "one-service" else f"{self.service}-{server}"


def parse_url(url: str) -> ConsulAddress:
    """Reads ``consul[+https]://host[:port][/service][?dc=…&mode=…]``.

    Raises :class:`InvalidStoreURLError`, whose text repeats no credentials.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        scheme, _, rest = url.partition("://")
        hosts = rest.partition("/")[0].partition("?")[0]
        first, _, bad = hosts.partition(",")[0].partition(":")
        if "@" in url or "[" in url:
            # The URL is not repeated: one that cannot be parsed may hold a password anywhere.
            shown, problem = f"{scheme}://…", f"is malformed ({error})"
        elif "," in hosts:
            shown = f"{scheme}://{hosts}"
            problem = f"names several hosts; name one agent, such as {scheme}://{first}:8500"
        else:
            shown = f"{scheme}://{hosts}"
            problem = f"{bad!r} is no port from 1 to 65535; write {scheme}://{first}:8500"
        raise InvalidStoreURLError(shown, problem) from error
    # Without user, password and query, which may hold a token.
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    if parts.scheme not in _SCHEMES:
        raise InvalidStoreURLError(shown, f"its scheme is none of {', '.join(_SCHEMES)}")
    if "@" in url:  # in the query too: of a password that holds a question mark
        raise InvalidStoreURLError(
            without_secrets(url), "holds credentials; give the ACL token as the token option"
        )
    if not host or any(ord(letter) <= 32 for letter in url):
        raise InvalidStoreURLError(shown, "names no host; write consul://127.0.0.1:8500")
    if parts.fragment:
        raise InvalidStoreURLError(shown, "has a fragment (#…), which means nothing here")
    service = parts.path.strip("/") or DEFAULT_SERVICE
    if not is_label(service) or len(service) > MAX_NAME:
        raise InvalidStoreURLError(
            shown,
            f"its path {service!r} names the Consul service and must be a DNS label (at most "
            f"{MAX_NAME} lower-case letters, digits and inner hyphens), such as /mcp-staging",
        )
    dc, mode = _query(parts.query, shown)
    scheme, default_port = _SCHEMES[parts.scheme]
    place = f"[{host}]" if ":" in host else host
    port = port or default_port
    given = {"dc": dc, "mode": None if mode == "one-service" else mode}
    query = urlencode({key: value for key, value in given.items() if value})
    return ConsulAddress(
        api=f"{scheme}://{place}:{port}",
        service=service,
        dc=dc,
        mode=mode,
        shown=f"{parts.scheme}://{place}:{port}/{service}" + (f"?{query}" if query else ""),
    )


def _query(text: str, shown: str) -> tuple[str | None, Mode]:
    dc: str | None = None
    mode: Mode = "one-service"
    for key, value in parse_qsl(text, keep_blank_values=True):
        if key == "dc" and is_label(value.replace("_", "-").lower()):
            dc = value
        elif key == "mode" and value in get_args(Mode):
            mode = cast(Mode, value)
        elif key == "dc":
            raise InvalidStoreURLError(shown, "its dc is not a datacenter's name")
        elif key == "mode":
            raise InvalidStoreURLError(shown, f"its mode is none of {', '.join(get_args(Mode))}")
        else:
            raise InvalidStoreURLError(
                shown, f"has the unknown parameter {key[:40]!r}; known are dc and mode"
            )
    return dc, mode

"""etcd store URLs: endpoints, TLS, key prefix, and the DNS zone, if any."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote

from mcp_discovery.adapters.dns_names import SERVER
from mcp_discovery.adapters.etcd.skydns import DEFAULT_ROOT, DNSZone
from mcp_discovery.errors import InvalidStoreURLError
from mcp_discovery.record import MAX_NAME, is_label

DEFAULT_PORT = 2379
DEFAULT_PREFIX = "/mcp/"

_EXAMPLE = "write etcd://host1:2379,host2:2379/prefix"
#: The longest name in DNS, and what an instance's takes of it before service and domain:
#: ``<id>._<name>.server.``.
_LONGEST_NAME = 253
_BEFORE_SERVICE = 64 + len("_") + MAX_NAME + len(f".{SERVER}.")
_PARAMETERS = ("skydns", "skydns-path", "skydns-agents")
_ROOT = re.compile(r"/[A-Za-z0-9_-]+")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?\.?")


@dataclass(frozen=True, slots=True)
class EtcdURL:
    """A parsed store URL.

    ``text`` is the URL for messages; ``endpoints`` are base URLs of the gateway such as
    ``http://10.0.0.5:2379``; ``prefix`` begins every key and ends with a slash; ``zone`` is where
    SkyDNS records are written as well.
    """

    text: str
    endpoints: tuple[str, ...]
    prefix: str
    zone: DNSZone | None


def parse_url(url: str) -> EtcdURL:
    """Reads ``etcd://host[:port][,host[:port]…][/prefix]``, or ``etcd+https://…`` for TLS, with
    ``?skydns=…&skydns-path=…&skydns-agents=…``.

    ``skydns`` is the domain of the SkyDNS records; without it there are none. ``skydns-path`` is
    CoreDNS's ``path`` (default ``/skydns``); ``skydns-agents=true`` adds the TXT records of
    DNS-AID. Raises :class:`InvalidStoreURLError`, which never
    repeats credentials that were in the URL.
    """
    scheme, mark, rest = url.partition("://")
    if scheme not in ("etcd", "etcd+https") or not mark:
        raise InvalidStoreURLError(url, f"is no etcd URL; {_EXAMPLE}, or etcd+https://… for TLS")
    rest, _, query = rest.partition("?")
    hosts, _, path = rest.partition("/")
    if "@" in hosts or "@" in query:  # of a password that holds a question mark
        host = url.rpartition("@")[2].partition("?")[0]
        raise InvalidStoreURLError(
            f"{scheme}://…@{host}",
            "credentials do not belong in a URL; give user and password as options",
        )
    shown = f"{scheme}://{rest}"  # somebody may have put a password into the query
    if "#" in rest or "#" in query:
        raise InvalidStoreURLError(
            shown, f"has a fragment (#…), which means nothing here; {_EXAMPLE}"
        )
    prefix = _prefix(shown, path)
    zone = _zone(shown, query, prefix)
    url = f"{shown}?{query}" if query else shown
    plain = "http" if scheme == "etcd" else "https"
    endpoints = dict.fromkeys(f"{plain}://{_address(url, host)}" for host in hosts.split(","))
    return EtcdURL(url, tuple(endpoints), prefix, zone)


def _address(url: str, text: str) -> str:
    """``host[:port]`` as ``host:port`` of a URL."""
    if not text:
        raise InvalidStoreURLError(url, f"names an endpoint without a host; {_EXAMPLE}")
    if text.startswith("["):
        inner, closed, after = text[1:].partition("]")
        if not closed or not _is_ipv6(inner) or (after and not after.startswith(":")):
            raise InvalidStoreURLError(
                url, f"{text!r} is no IPv6 address; write [2001:db8::5]:2379"
            )
        return f"[{inner}]:{_port(url, after[1:]) if after else DEFAULT_PORT}"
    if text.count(":") > 1:
        raise InvalidStoreURLError(
            url, f"put the IPv6 address {text!r} in brackets: [2001:db8::5]:2379"
        )
    host, colon, port = text.partition(":")
    if not _HOST.fullmatch(host):
        raise InvalidStoreURLError(url, f"{host!r} is no host name or address; {_EXAMPLE}")
    return f"{host}:{_port(url, port) if colon else DEFAULT_PORT}"


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _port(url: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 0 < int(text[:6]) < 65536:
        raise InvalidStoreURLError(url, f"{text[:20]!r} is no port from 1 to 65535; {_EXAMPLE}")
    return int(text)


def _prefix(url: str, path: str) -> str:
    try:
        path = unquote(path, errors="strict").strip("/")
    except UnicodeDecodeError as error:
        raise InvalidStoreURLError(
            url, "its prefix is not UTF-8; write it in plain letters"
        ) from error
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in path):
        raise InvalidStoreURLError(
            url, "its prefix has control characters; write it in plain letters"
        )
    return f"/{path}/" if path else DEFAULT_PREFIX


def _zone(shown: str, query: str, prefix: str) -> DNSZone | None:
    """The zone that ``query`` names. Its service is the prefix's last segment, as in the path of a
    Consul URL."""
    given = dict(parse_qsl(query, keep_blank_values=True))
    known = f"known are {', '.join(_PARAMETERS)}"
    for key in given:
        if key not in _PARAMETERS:
            raise InvalidStoreURLError(shown, f"has the unknown parameter {key[:40]!r}; {known}")
    if query and not given:
        raise InvalidStoreURLError(shown, f"has an unknown parameter; {known}")
    if "skydns" not in given:
        for key in given:
            raise InvalidStoreURLError(shown, f"has a {key} and no skydns=<domain>; give both")
        return None
    domain = given["skydns"].removesuffix(".").lower()
    if not all(is_label(label) for label in domain.split(".")):
        raise InvalidStoreURLError(shown, "its skydns is no domain; write ?skydns=cluster.internal")
    service = prefix.strip("/").rpartition("/")[2]
    if not is_label(service) or len(service) > MAX_NAME:
        raise InvalidStoreURLError(
            shown,
            f"its prefix ends with {service!r}, which with skydns is a part of DNS names; end it "
            f"with a DNS label (at most {MAX_NAME} lower-case letters, digits and inner hyphens), "
            "such as /mcp",
        )
    if _BEFORE_SERVICE + len(service) + 1 + len(domain) > _LONGEST_NAME:
        raise InvalidStoreURLError(
            shown, "its skydns is too long: names would be over 253 characters"
        )
    root = "/" + given.get("skydns-path", DEFAULT_ROOT).strip("/")
    if not _ROOT.fullmatch(root):
        raise InvalidStoreURLError(shown, "its skydns-path is not one segment; write /skydns")
    if prefix.startswith(f"{root}/"):
        raise InvalidStoreURLError(
            shown, f"its prefix lies below {root}, where the DNS records are"
        )
    agents = given.get("skydns-agents", "false")
    if agents not in ("true", "false"):
        raise InvalidStoreURLError(shown, "its skydns-agents is neither true nor false")
    return DNSZone(root, domain, service, agents == "true")

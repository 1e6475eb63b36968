"""Reads an etcd store URL: endpoints, TLS and key prefix."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import unquote

from mcp_discovery.errors import InvalidStoreURL

DEFAULT_PORT = 2379
DEFAULT_PREFIX = "/mcp/"

_EXAMPLE = "write etcd://host1:2379,host2:2379/prefix"
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?\.?")


@dataclass(frozen=True, slots=True)
class EtcdURL:
    """A store URL, taken apart.

    ``text`` is the URL for people; ``endpoints`` are base URLs of the gateway such as
    ``http://10.0.0.5:2379``; ``prefix`` begins every key and ends with a slash.
    """

    text: str
    endpoints: tuple[str, ...]
    prefix: str


def parse_url(url: str) -> EtcdURL:
    """Reads ``etcd://host[:port][,host[:port]…][/prefix]``, or ``etcd+https://…`` for TLS.

    Raises :class:`InvalidStoreURL`, which never repeats credentials that were in the URL.
    """
    scheme, mark, rest = url.partition("://")
    if scheme not in ("etcd", "etcd+https") or not mark:
        raise InvalidStoreURL(url, f"is no etcd URL; {_EXAMPLE}, or etcd+https://… for TLS")
    hosts, slash, path = rest.partition("/")
    if "@" in hosts:
        raise InvalidStoreURL(
            f"{scheme}://…@{hosts.rpartition('@')[2]}{slash}{path}",
            "credentials do not belong in a URL; give user and password as options",
        )
    if "?" in rest or "#" in rest:
        raise InvalidStoreURL(url, f"has a query or fragment, which means nothing here; {_EXAMPLE}")
    plain = "http" if scheme == "etcd" else "https"
    endpoints = dict.fromkeys(f"{plain}://{_address(url, host)}" for host in hosts.split(","))
    return EtcdURL(url, tuple(endpoints), _prefix(url, path))


def _address(url: str, text: str) -> str:
    """``host:port`` in the spelling of a URL."""
    if not text:
        raise InvalidStoreURL(url, f"names an endpoint without a host; {_EXAMPLE}")
    if text.startswith("["):
        inner, closed, after = text[1:].partition("]")
        if not closed or not _is_ipv6(inner) or (after and not after.startswith(":")):
            raise InvalidStoreURL(url, f"{text!r} is no IPv6 address; write [2001:db8::5]:2379")
        return f"[{inner}]:{_port(url, after[1:]) if after else DEFAULT_PORT}"
    if text.count(":") > 1:
        raise InvalidStoreURL(url, f"put the IPv6 address {text!r} in brackets: [2001:db8::5]:2379")
    host, colon, port = text.partition(":")
    if not _HOST.fullmatch(host):
        raise InvalidStoreURL(url, f"{host!r} is no host name or address; {_EXAMPLE}")
    return f"{host}:{_port(url, port) if colon else DEFAULT_PORT}"


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _port(url: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 0 < int(text[:6]) < 65536:
        raise InvalidStoreURL(url, f"{text[:20]!r} is no port from 1 to 65535; {_EXAMPLE}")
    return int(text)


def _prefix(url: str, path: str) -> str:
    try:
        path = unquote(path, errors="strict").strip("/")
    except UnicodeDecodeError as error:
        raise InvalidStoreURL(url, "its prefix is not UTF-8; write it in plain letters") from error
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in path):
        raise InvalidStoreURL(url, "its prefix has control characters; write it in plain letters")
    return f"/{path}/" if path else DEFAULT_PREFIX

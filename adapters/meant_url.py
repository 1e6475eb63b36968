"""Which URL of a store somebody probably meant who wrote one that names none."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from mcp_discovery.facade_url import without_secrets
from mcp_discovery.nearest import nearest

#: The usual ports, and the schemes of the stores that listen there.
_PORTS = {"8500": "consul", "8501": "consul+https", "2379": "etcd", "4000": "http"}
_FILE = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?(/*)(.*\.(?:db|sqlite3?))", re.DOTALL)
_PLACE = re.compile(
    r"(?:([A-Za-z][A-Za-z0-9.+-]*):)?/*([\w.\[:\]-]*?(?::(\d+))?(?:[,/].*)?)", re.DOTALL
)


def meant_url(url: str, schemes: Collection[str]) -> str | None:
    """``url`` with what is wrong before its host mended; ``None`` where nothing is like it.

    ``schemes`` are those that are known; without credentials and query, which may hold secrets.
    """
    bare = without_secrets(url)
    host_begins = "@" in url and url.rpartition("@")[2].startswith(bare)
    url = f"//{bare}" if host_begins else bare
    if file := _FILE.fullmatch(url):
        slashes, path = file.groups()
        absolute = len(slashes) in (1, 3) or (slashes and "/" in path)
        return f"embedded://{Path('/' if absolute else '', path).absolute()}"
    scheme, mark, rest = url.partition("://")
    if mark:
        found = _scheme(scheme.lower(), schemes)
        return f"{found}://{rest.lstrip('/')}" if found and rest else None
    if (place := _PLACE.fullmatch(url)) is None:
        return None
    named, rest, port = place[1], place[2], place[3]
    if rest.isdigit():
        rest, port = f"127.0.0.1:{rest}", rest  # consul:8500, where it is the port
    found = _scheme((named or "").lower(), schemes)
    if found is None and named:
        rest = url  # localhost:8500
        port = url.rpartition(":")[2].partition("/")[0]
    found = found or _PORTS.get(port or "")
    if found == "embedded":
        return "embedded:"
    return f"{found}://{rest}" if found and rest else None


def url_by_port(url: str) -> str | None:
    """The URL of the store that usually listens at the port in ``url``, which is another one's."""
    rest = url.partition("://")[2]
    usual = _PORTS.get(rest.partition("/")[0].rpartition(":")[2], "http")
    return None if usual == "http" else f"{usual}://{rest}"


def _scheme(text: str, schemes: Collection[str]) -> str | None:
    """The known scheme that is meant; where TLS is spelled otherwise, that with TLS."""
    plain = text.removesuffix("+http")
    for tls in ("+tls", "+ssl", "s"):
        plain = plain.removesuffix(tls) + "+https" if plain.endswith(tls) else plain
    for each in (text, plain):
        if each in schemes:
            return each
    return nearest(text, schemes)

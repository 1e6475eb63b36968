"""The address of a facade, as ``--facade``, a store URL and the client library are given it."""

from __future__ import annotations

import re

#: Paths that a facade answers at, which people copy with its address.
_PATHS = re.compile(r"(https?://.+?)/(servers|tools|mcp|docs|health|ready|status|events|v0\.1)/?")
#: What comes before a user; without slashes, another word is the user itself.
_SCHEME = re.compile(r"[^:/@?]+://+|(?:(?:consul|etcd|embedded|https?)(?:\+\w+)?:)?/*")
_HOST = re.compile(r"(?:https?:/*|[A-Za-z+]+:/+)?([\w.\[:\]-]+?(?::\d+)?)(?:/.*)?", re.DOTALL)


def facade_url_problem(url: str) -> str | None:
    """What is wrong with ``url``, and the URL that was probably meant; ``None`` if nothing is.

    A facade may be behind a proxy, below a path of its own. Repeats no credentials.
    """
    from mcp_discovery.record import url_problem  # stores' URLs are looked at without its weight

    scheme, _, rest = url.partition("://")
    if scheme in ("http", "https"):
        bare = f"{scheme}://{re.split('[?#]', rest.rpartition('@')[2])[0]}"
        if url_problem(bare, ("http", "https")) is None:
            if not {"?", "#", "@"} & set(url):
                return None
            return f"write {without_path(bare) or bare}, without user or query"
    if scheme.partition("+")[0] in ("consul", "etcd", "embedded"):
        return "names a store, not a facade; write http://127.0.0.1:4000"
    host = _HOST.fullmatch(url.rpartition("@")[2])
    usual = f"http://{host[1]}" if host and not url.startswith("http://") else ""
    if usual.count(":") == 1:
        usual += ":4000"
    if url_problem(usual, ("http",)):
        usual = "http://127.0.0.1:4000"
    return f"is not an HTTP URL; write {usual}"


def without_path(url: str) -> str | None:
    """The address in ``url`` where the path of a request follows it; ``None`` where none does.

    A proxy may have such a path of its own: it is a hint for what does not work.
    """
    found = _PATHS.fullmatch(url)
    return found[1] if found else None


def without_secrets(url: str) -> str:
    """``url`` without user, password, which may hold any character, and query."""
    scheme = _SCHEME.match(url)
    before = scheme[0] if scheme else ""
    return before + url.removeprefix(before).rpartition("@")[2].partition("?")[0]

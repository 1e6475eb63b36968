"""The identifiers by which catalogs, manifests and registries of others name a server.

``urn:air:<publisher's domain>:<namespace>:<name>``, as "Catalog Entry" of
https://github.com/Agent-Card/ai-catalog and Appendix C of ARD v0.91 have it. ``urn:ai:`` is an
older spelling of the same.
"""

from __future__ import annotations

import re

#: The namespace of registry names that were given no publisher.
LOCAL = "local"
#: ``urn`` and what follows it are the same in upper and lower case (RFC 8141, section 3.1).
_START = re.compile("urn:air?:", re.IGNORECASE)
_URN = re.compile(r"urn:air:([A-Za-z0-9.-]+):([A-Za-z0-9._:-]+:)?([A-Za-z0-9._-]+)")


def identifier(name: str, domain: str = "", namespace: str = "mcp") -> str:
    """``urn:air:example.com:mcp:weather`` for the registry name ``com.example/weather``.

    The publisher's part of a registry name is a domain in reverse order. ``local/weather``, which
    has none, is published by who runs the facade: with its ``domain`` it is
    ``urn:air:mcp.example.com:local:weather``.
    """
    publisher, _, last = name.partition("/")
    if publisher == LOCAL and domain:
        kind = "" if namespace == "mcp" else f"{namespace}:"
        return f"urn:air:{domain}:{LOCAL}:{kind}{last}"
    return f"urn:air:{_reversed(publisher)}:{namespace}:{last}"


def canonical(urn: str) -> str:
    """``urn`` as :func:`identifier` writes it, if it is one in another spelling."""
    start = _START.match(urn)
    return urn if start is None else f"urn:air:{urn[start.end() :]}"


def registry_name(urn: str, domain: str = "") -> str | None:
    """The registry name that :func:`identifier` makes ``urn`` of, in either spelling; ``None`` for
    what is no such identifier."""
    if (parts := _URN.fullmatch(canonical(urn))) is None:
        return None
    publisher, namespace, last = parts.groups()
    if domain and publisher == domain and (namespace or "").startswith(f"{LOCAL}:"):
        return f"{LOCAL}/{last}"
    return f"{_reversed(publisher)}/{last}"


def _reversed(domain: str) -> str:
    return ".".join(reversed(domain.split(".")))

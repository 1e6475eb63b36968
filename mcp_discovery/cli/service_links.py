"""Variables that Kubernetes sets in pods for each Service of the namespace, as Docker's links did.

For a Service ``mcp-discovery`` they are ``MCP_DISCOVERY_PORT=tcp://10.0.0.1:4000``,
``MCP_DISCOVERY_SERVICE_HOST`` and so on: names that this command's own settings have. Kubernetes
documents them under "Accessing the Service"; ``enableServiceLinks: false`` leaves them out.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager

log = logging.getLogger(__name__)

#: The name of a Service in capitals, and what follows it; a value that no setting has.
_NAME = re.compile(
    r"(MCP_DISCOVERY(?:_[A-Z0-9_]+?)??)"
    r"_(SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_[A-Z]+)?)?)"
)
_ADDRESS = re.compile(r"(tcp|udp|sctp)://")


def links_in(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables in ``environ`` that are links, each with the name of its Service."""
    found = {}
    for name, value in environ.items():
        if (match := _NAME.fullmatch(name)) is None:
            continue
        if match[2] != "PORT" or _ADDRESS.match(value):
            found[name] = match[1].replace("_", "-").lower()
    return found


@contextmanager
def hidden(environ: MutableMapping[str, str]) -> Iterator[None]:
    """``environ`` without the links while the block runs: a child may still want them after it."""
    links = {name: environ.pop(name) for name in links_in(environ)}
    try:
        yield
    finally:
        environ.update(links)


def warn(environ: Mapping[str, str]) -> None:
    """Logs one warning where ``environ`` has links."""
    if links := links_in(environ):
        names = ", ".join(sorted(links)[:3]) + (", …" if len(links) > 3 else "")
        services = " and ".join(sorted(set(links.values())))
        log.warning(
            "ignoring %s: Kubernetes sets %s for the Service %s, and no setting is meant; "
            "enableServiceLinks: false in the pod's spec leaves them out",
            *(names, "it" if len(links) == 1 else "them", services),
        )

"""The programs by which the tests try what `deploy/` holds: `make stores` fetches them."""

from __future__ import annotations

from pathlib import Path

_TOOLS = Path(__file__).parents[2] / ".stores" / "tools" / "bin"


def program(name: str) -> str:
    """The path of ``name``: dig, dnsmasq, haproxy, prometheus, promtool, bwrap, chromium,
    helm, coredns or deploy-parser.

    Raises :class:`FileNotFoundError` when it has not been fetched.
    """
    path = _TOOLS / name
    if not path.exists():
        raise FileNotFoundError(f"there is no {name} in .stores/tools/bin/: run `make stores`")
    return str(path)

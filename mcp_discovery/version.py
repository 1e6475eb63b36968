"""The version of the installed distribution."""

from __future__ import annotations

from importlib import metadata


def installed_version() -> str:
    """The version of what is installed; ``0.0.0`` when it runs from a plain checkout."""
    try:
        return metadata.version("mcp-discovery")
    except metadata.PackageNotFoundError:
        return "0.0.0"

"""Reads ``docs/etcd.md``: its tables of keys and fields, and its examples."""

from __future__ import annotations

import re

from tests.programs import ROOT

PAGE = (ROOT / "docs" / "etcd.md").read_text()
INTERFACE = PAGE[PAGE.index("## The keys: a public interface") :]

_LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_PLACES = {
    "digest": "[0-9a-f]{64}",
    "number": "[0-9]{4}",
    "path": f"(?:server/_?{_LABEL}|tag/{_LABEL}|{_LABEL})",
}


def keys() -> dict[str, re.Pattern[str]]:
    """Each key of the tables, and what it stands for; those under a prefix under ``/mcp/``."""
    found = re.findall(r"^\| `([^`]*<[^`]*)` \|", INTERFACE, re.MULTILINE)
    return {key: _pattern(key if key[0] == "/" else f"/mcp/{key}") for key in found}


def _pattern(key: str) -> re.Pattern[str]:
    parts = re.split(r"<(\w+)>", key)
    for at, part in enumerate(parts):
        parts[at] = _PLACES.get(part, _LABEL) if at % 2 else re.escape(part)
    return re.compile("".join(parts))


def fields(key: str) -> tuple[set[str], set[str]]:
    """The fields of a key's JSON that are always there, and those that are optional."""
    start = INTERFACE.index(f"\n`{key}`:\n")
    table = INTERFACE[start:].split("\n\n")[1]
    always: set[str] = set()
    optional: set[str] = set()
    for row in table.splitlines()[2:]:
        names, told = row.strip("|").split("|", 1)
        where = optional if "*optional*" in told else always
        where.update(re.findall(r"`(\w+)`", names))
    return always, optional


def example(first_line: str) -> str:
    """The fenced example that begins with ``first_line``."""
    for block in re.findall(r"^```\w*\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        if str(block).startswith(first_line):
            return str(block)
    raise ValueError(f"docs/etcd.md has no example that begins with {first_line!r}")

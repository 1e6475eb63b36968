"""Skills of servers that live (SEP-2640, and of A2A agents): which there are, and of what files."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson

from mcp_discovery.document import CapabilityDocument, text_of
from mcp_discovery.errors import DocumentNotFoundError
from mcp_discovery.instance import Instance


@dataclass(frozen=True, slots=True)
class Skill:
    """One skill of one server. Its name is a label: ``server`` and ``uri`` tell skills apart.

    ``uri`` is that of its ``SKILL.md``, empty for one of an A2A agent. ``entry`` is all that the
    server lists of it; what it says is the server's and no instruction of anybody's.
    """

    name: str
    server: str
    server_id: str
    uri: str
    description: str
    entry: Mapping[str, Any]

    def is_listed(self, uri: str, content: bytes) -> bool:
        """Whether ``content`` is that of the file ``uri`` as it was listed, by size and digest;
        hosts use no other. It is not for a skill without digests (``"resources": "dynamic"``)."""
        found = {"uri": uri, "digest": f"sha256:{hashlib.sha256(content).hexdigest()}"}
        files = self.entry.get("resources")
        return isinstance(files, list) and found | {"size": len(content)} in files


async def skills_of(
    instances: Iterable[Instance], read: Callable[[str], Awaitable[CapabilityDocument]]
) -> list[Skill]:
    """The skills of ``instances``, by name and server; replicas that have the same have it once.
    ``read`` gets a document by its digest; one that is lost has none."""
    first: dict[tuple[str, str], str] = {}  # server and digest → id
    for each in instances:
        if each.record.capabilities.skills and (digest := each.record.capabilities.digest):
            first.setdefault((each.record.name, digest), each.id)
    found: dict[tuple[str, bytes], Skill] = {}
    for (server, digest), id in first.items():
        with suppress(DocumentNotFoundError):
            for entry in (await read(digest)).skills:
                texts = (text_of(entry, member) or "" for member in ("name", "uri", "description"))
                name, uri, description = texts
                same = server, orjson.dumps(entry, option=orjson.OPT_SORT_KEYS, default=dict)
                if name:
                    found.setdefault(same, Skill(name, server, id, uri, description, entry))
    return sorted(found.values(), key=lambda each: (each.name, each.server, each.uri))

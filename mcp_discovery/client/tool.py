"""A tool as the client offers it: one definition, and the server whose replicas share it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool of one server.

    ``name`` is what :meth:`Discovery.call` takes: the tool's own name, or ``<server>.<tool>`` where
    two servers offer one of that name. ``server`` is the server's name, ``server_id`` the id of one
    instance that offers the tool, ``definition`` MCP's definition of it. ``digest`` identifies what
    a caller depends on, the schemas and the annotations; replicas that differ in it are never
    mixed. ``replicas`` counts the instances that offer exactly this and can be called.
    """

    name: str
    server: str
    server_id: str
    definition: Mapping[str, Any]
    digest: str
    replicas: int

    @property
    def own_name(self) -> str:
        """The name by which the server knows it."""
        return str(self.definition["name"])

    @property
    def title(self) -> str | None:
        """Its name for people, where the server gives one."""
        title = self.definition.get("title") or self.annotations.get("title")
        return title if isinstance(title, str) else None

    @property
    def description(self) -> str:
        """What it does; empty where the server does not say."""
        description = self.definition.get("description")
        return description if isinstance(description, str) else ""

    @property
    def input_schema(self) -> Mapping[str, Any]:
        """The JSON Schema of its arguments."""
        schema = self.definition.get("inputSchema")
        return schema if isinstance(schema, Mapping) else {"type": "object"}

    @property
    def output_schema(self) -> Mapping[str, Any] | None:
        """The JSON Schema of its structured result, where there is one."""
        schema = self.definition.get("outputSchema")
        return schema if isinstance(schema, Mapping) else None

    @property
    def annotations(self) -> Mapping[str, Any]:
        """The hints that the server gives; they are only as good as the server."""
        annotations = self.definition.get("annotations")
        return annotations if isinstance(annotations, Mapping) else {}

    @property
    def repeatable(self) -> bool:
        """Whether a call may be sent twice: it says that it is read-only or idempotent.

        From MCP's tool annotations; without them a tool counts as one that changes things.
        """
        return is_repeatable(self.definition)


def is_repeatable(definition: Mapping[str, Any]) -> bool:
    """Whether a tool says that it is read-only or idempotent: a call of it may be sent twice.

    The hints are those of MCP's ``ToolAnnotations``; one that gives none changes things.
    """
    hints = definition.get("annotations")
    if not isinstance(hints, Mapping):
        return False
    return hints.get("readOnlyHint") is True or hints.get("idempotentHint") is True


def tool_digest(definition: Mapping[str, Any]) -> str:
    """Identifies a tool's schemas and hints: 16 hex digits, the same for any order of members.

    Its description may change without changing what a caller has to send.
    """
    relevant = {
        key: definition[key]
        for key in ("name", "inputSchema", "outputSchema", "annotations")
        if definition.get(key)
    }
    canonical = orjson.dumps(relevant, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(canonical, digest_size=8).hexdigest()

"""The servers in files of any of their formats, and these for the facade's import."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mcp_discovery.document import KINDS
from mcp_discovery.errors import InvalidInputError
from mcp_discovery.host_files import entries_in, records
from mcp_discovery.instance import DERIVED
from mcp_discovery.nearest import nearest
from mcp_discovery.record_fields import GIVEN, OBSERVED

#: Fields of a listed entry that are observed, or that a connection has in another form.
_ENTRY_FIELDS = DERIVED | {"endpoint", "health", *OBSERVED}
#: Further fields of a posted server that are not part of its record.
_POSTED_FIELDS = frozenset({"document", "holder", "takeover", "command", "args"})
#: What may stand in a server's object itself instead of in its endpoint.
_FLAT = frozenset({"url", "transport", "command", "args"})
#: Members that say how a command is started on this machine, and are never sent.
LOCAL = frozenset({"env", "envFile", "cwd"})


def servers_of(content: Any, file: str) -> list[dict[str, Any]]:
    """The servers of a file: one object, a list, ``{"servers": […]}`` or a host's file.

    Raises :class:`InvalidInputError`.
    """
    if isinstance(content, dict):
        hosted = entries_in(content)
        content = content.get("servers", [content]) if hosted is None else records(hosted)
    if not isinstance(content, list) or not all(isinstance(each, dict) for each in content):
        raise InvalidInputError(f"{file} is neither a server's object nor a list of them")
    if not content:
        raise InvalidInputError(
            f"{file} names no server; give at least one object with name and url"
        )
    return content


def require_known(server: Mapping[str, Any], name: str) -> None:
    """Raises :class:`InvalidInputError` for a member that a server's object does not have.

    A facade passes over what it does not know, so that a misspelt member is lost without a word.
    """
    known = sorted(_ENTRY_FIELDS.union(GIVEN, _POSTED_FIELDS, LOCAL))
    for key in server:
        if re.sub("_[a-z]", lambda found: found[0][1].upper(), key) not in known:
            near = nearest(key, known, cutoff=0.5)
            hint = f"; did you mean {near}?" if near else ""
            raise InvalidInputError(f"{name}: a server has no {key}{hint}")


def export_of(content: Any, file: str) -> dict[str, Any]:
    """The body of ``POST /registry/import`` for whatever ``file`` holds."""
    if isinstance(content, dict) and "connections" in content:
        if not isinstance(content["connections"], list):
            raise InvalidInputError(f"{file}: connections is no list")
        return content
    return {"connections": [_connection(each) for each in servers_of(content, file)]}


def _connection(server: Mapping[str, Any]) -> dict[str, Any]:
    """A server's object as a connection; what is not known is left to the facade to refuse."""
    connection = {
        key: value for key, value in server.items() if key not in _ENTRY_FIELDS | LOCAL | _FLAT
    }
    endpoint = server.get("endpoint")
    if endpoint is None:
        endpoint = {key: server.get(key) for key in _FLAT}
    if isinstance(endpoint, Mapping):
        endpoint = {key: value for key, value in endpoint.items() if value not in (None, [], "")}
    connection["endpoint"] = endpoint
    offered, protocol = server.get("capabilities"), server.get("protocol")
    if isinstance(protocol, Mapping) and protocol.get("era"):
        connection["era"] = protocol["era"]
        if not (isinstance(endpoint, Mapping) and endpoint.get("command")):
            offered = None  # what it offers is read anew
    if isinstance(offered, list):
        connection["capabilities"] = offered
    elif isinstance(offered, Mapping):
        names = [
            {"name": name, "kind": kind}
            for kind, member in KINDS.items()
            for name in offered.get(member) or ()
        ]
        if names:
            connection["capabilities"] = names
    return {key: value for key, value in connection.items() if value is not None}

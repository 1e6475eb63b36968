"""Servers as MCP hosts are told of them in their configuration files.

Most hosts read an object ``mcpServers`` of named entries; VS Code reads ``servers``, where each
entry has a ``type`` and secrets are asked for as ``inputs``
(https://code.visualstudio.com/docs/copilot/reference/mcp-configuration).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Entry = Mapping[str, Any]
#: A record's transport → ``type`` in a host's file. WebSocket is no transport that hosts know.
_TYPES = {"streamable-http": "http", "sse": "sse"}
_TRANSPORTS = {
    "http": "streamable-http",
    "streamable-http": "streamable-http",
    "streamableHttp": "streamable-http",
    "sse": "sse",
}
_BEST = ("healthy", "degraded", "draining", "down")


def mcp_json(entries: Iterable[Entry], via: str | None) -> tuple[dict[str, Any], list[str]]:
    """A ``mcpServers`` object with one entry for each name, and sentences on what is left out.

    ``via`` is an address with ``{name}`` in it that stands for those of instances. A bearer token
    is named as an environment variable, ``${NAME_TOKEN}``, which hosts fill in.
    """
    servers, notes = {}, []
    for entry in _one_of_each(entries):
        told, note = _told(entry, via, f"${{{variable(entry['name'])}}}")
        if told is None:
            notes.append(note)
        else:
            servers[entry["name"]] = told
    return {"mcpServers": servers}, notes


def vscode(entries: Iterable[Entry], via: str | None) -> tuple[dict[str, Any], list[str]]:
    """The same as VS Code spells it: tokens are asked for when they are first needed."""
    servers, notes, inputs = {}, [], []
    for entry in _one_of_each(entries):
        id = f"{entry['name']}-token"
        told, note = _told(entry, via, f"${{input:{id}}}")
        if told is None:
            notes.append(note)
            continue
        servers[entry["name"]] = told if "type" in told else {"type": "stdio", **told}
        if "headers" in told:
            about = f"Bearer token for {entry['name']}"
            inputs.append(
                {"type": "promptString", "id": id, "description": about, "password": True}
            )
    return {"servers": servers} | ({"inputs": inputs} if inputs else {}), notes


def records(servers: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The entries of a host's file as servers to register.

    What a host is told and others must not know (``env``, ``headers``) is left out.
    """
    found = []
    for name, told in servers.items():
        told = told if isinstance(told, Mapping) else {}
        endpoint: dict[str, Any]
        if "command" in told:
            arguments = [str(each) for each in told.get("args") or ()]
            endpoint = {"transport": "stdio", "command": told["command"], "args": arguments}
        else:
            kind = _TRANSPORTS.get(str(told.get("type") or "http"), str(told.get("type")))
            endpoint = {"transport": kind, "url": told.get("url")}
        record = {"name": name, "endpoint": endpoint}
        headers = told.get("headers")
        if isinstance(headers, Mapping) and any(key.lower() == "authorization" for key in headers):
            record["auth"] = {"type": "bearer"}
        found.append(record)
    return found


def variable(name: str) -> str:
    """The environment variable that holds a server's token."""
    return f"{name.upper().replace('-', '_')}_TOKEN"


def _one_of_each(entries: Iterable[Entry]) -> list[Entry]:
    """One instance of each name: the one in the best health, the first by id among equals."""
    best: dict[str, Entry] = {}
    for each in sorted(entries, key=lambda e: (e["name"], _BEST.index(e["status"]), e["id"])):
        best.setdefault(each["name"], each)
    return list(best.values())


def _told(entry: Entry, via: str | None, token: str) -> tuple[dict[str, Any] | None, str]:
    endpoint = entry["endpoint"]
    if entry["transport"] == "stdio":
        return {"command": endpoint["command"], "args": list(endpoint.get("args") or ())}, ""
    if via is not None:
        told: dict[str, Any] = {"type": "http", "url": via.format(name=entry["name"])}
    elif entry["transport"] in _TYPES:
        told = {"type": _TYPES[entry["transport"]], "url": entry["url"]}
    else:
        why = "hosts know http, sse and stdio only; --gateway gives it an address that they know"
        return None, f"{entry['name']} is left out, it speaks {entry['transport']}: {why}"
    if (entry.get("auth") or {}).get("type") == "bearer":
        told["headers"] = {"Authorization": f"Bearer {token}"}
    return told, ""

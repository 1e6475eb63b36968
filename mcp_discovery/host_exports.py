"""Servers as hosts read them from their files, which ``mcp_discovery/host_files.py`` reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

Entry = Mapping[str, Any]
#: A record's transport → ``type`` in a host's file. WebSocket is no transport that hosts know.
_TYPES = {"streamable-http": "http", "sse": "sse"}
_STATUS_ORDER = ("healthy", "degraded", "draining", "down", "quarantined")


def mcp_json(entries: Iterable[Entry], via: str | None) -> tuple[dict[str, Any], list[str]]:
    """A ``mcpServers`` object with one entry for each name, and sentences on what is left out.

    ``via`` is an address with ``{name}`` in it that stands for those of instances. A bearer token
    is named as an environment variable, ``${NAME_MCP_TOKEN}``, which hosts fill in.
    """
    servers, notes = _by_name(entries, via, token_variable)
    return {"mcpServers": servers}, notes


def cursor(entries: Iterable[Entry], via: str | None) -> tuple[dict[str, Any], list[str]]:
    """The same as Cursor spells it (https://cursor.com/docs/context/mcp): ``${env:…}``."""
    servers, notes = _by_name(entries, via, lambda name: f"env:{token_variable(name)}")
    return {"mcpServers": servers}, notes


def token_variable(name: str) -> str:
    """The environment variable that stands for the token of the server called ``name``.

    Whoever registers a server chooses its name: no name may lead to a secret of something else,
    such as ``AWS_SESSION_TOKEN``.
    """
    variable = f"{name.upper().replace('-', '_')}_MCP_TOKEN"
    return f"_{variable}" if variable[0].isdigit() else variable


def without_variables(url: str) -> str:
    """``url`` as it is sent, in which hosts find none of their variables to fill in, such as
    ``${env:AWS_SECRET_ACCESS_KEY}``: no URL has a brace as it is (RFC 3986, 2)."""
    return url.replace("{", "%7B").replace("}", "%7D")


def vscode(entries: Iterable[Entry], via: str | None) -> tuple[dict[str, Any], list[str]]:
    """The same as VS Code spells it: tokens are asked for when they are first needed."""
    servers, notes = _by_name(entries, via, lambda name: f"input:{name}-token")
    inputs = [
        {
            "type": "promptString",
            "id": f"{name}-token",
            "description": f"Bearer token for {name}",
            "password": True,
        }
        for name, server in servers.items()
        if "headers" in server
    ]
    typed = {name: {"type": "stdio", **server} for name, server in servers.items()}
    return {"servers": typed} | ({"inputs": inputs} if inputs else {}), notes


def _by_name(
    entries: Iterable[Entry], via: str | None, token: Callable[[str], str]
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """A host's entry for each name, and sentences on what is left out.

    ``token`` says for a name which variable of the host stands for its token.
    """
    servers, notes = {}, []
    for entry in _one_of_each(entries):
        server, note = _host_entry(entry, via, f"${{{token(entry['name'])}}}")
        if server is None:
            notes.append(note)
        else:
            servers[entry["name"]] = server
    return servers, notes


def _one_of_each(entries: Iterable[Entry]) -> list[Entry]:
    """One instance of each name: the one in the best health, then the first by id."""
    best: dict[str, Entry] = {}
    for each in sorted(
        entries, key=lambda e: (e["name"], _STATUS_ORDER.index(e["status"]), e["id"])
    ):
        best.setdefault(each["name"], each)
    return list(best.values())


def _host_entry(entry: Entry, via: str | None, token: str) -> tuple[dict[str, Any] | None, str]:
    endpoint = entry["endpoint"]
    if entry["transport"] == "stdio":
        return {"command": endpoint["command"], "args": list(endpoint.get("args") or ())}, ""
    if via is not None:
        server: dict[str, Any] = {"type": "http", "url": via.format(name=entry["name"])}
    elif entry["transport"] in _TYPES:
        server = {"type": _TYPES[entry["transport"]], "url": without_variables(entry["url"])}
    else:
        why = "hosts know http, sse and stdio only; --gateway gives it an address that they know"
        return None, f"{entry['name']} is left out, it speaks {entry['transport']}: {why}"
    if (entry.get("auth") or {}).get("type") == "bearer":
        server["headers"] = {"Authorization": f"Bearer {token}"}
    return server, ""

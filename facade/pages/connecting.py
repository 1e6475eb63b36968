"""How a client is connected to one server: texts to copy, with a placeholder for every secret."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mcp_discovery.host_exports import cursor, mcp_json, token_variable, vscode, without_variables
from mcp_discovery.mcp_messages import (
    CAPABILITIES_KEY,
    CLIENT_INFO_KEY,
    LEGACY,
    MODERN,
    VERSION_KEY,
)
from mcp_discovery.record import A2A

_CLIENT = {"name": "curl", "version": "1"}


@dataclass(frozen=True, slots=True)
class WayToConnect:
    """One client: what it is called, what is to be done with ``text``, and the text."""

    key: str
    client: str
    note: str
    text: str


@dataclass(frozen=True, slots=True)
class _Target:
    """The server as clients are given it; ``variable`` names its token where it wants one."""

    entry: Mapping[str, Any]
    name: str
    transport: str
    url: str
    variable: str | None
    facade: str

    @property
    def command(self) -> list[str]:
        """What starts a server of stdio."""
        endpoint = self.entry["endpoint"]
        return [endpoint["command"], *(endpoint.get("args") or ())]

    @property
    def is_modern(self) -> bool:
        """Whether requests stand for themselves, without a handshake before them."""
        return (self.entry.get("protocol") or {}).get("era") == "modern"


def ways_to_connect(
    entry: Mapping[str, Any], facade: str, *, gateway: bool, facade_wants_token: bool
) -> list[WayToConnect]:
    """What to copy for each client that can reach the server of ``entry``, one of its instances as
    lists show it.

    ``facade`` is the URL of this facade, through which clients go where it has a ``gateway`` and
    the server speaks what that forwards; its token is then the facade's.
    """
    via = gateway and entry["transport"] == "streamable-http"
    name, url = entry["name"], without_variables(entry.get("url") or "")
    if via:
        url = f"{facade}/gateway/{name}/mcp"
    auth = entry.get("auth") or {}
    wants_token = facade_wants_token if via else auth.get("type") == "bearer"
    shown = {**entry, "url": url, "auth": {"type": "bearer" if wants_token else "none"}}
    variable = token_variable(name) if wants_token else None
    target = _Target(shown, name, entry["transport"], url, variable, facade)
    if target.transport == A2A:
        card = f"curl -sS {_word(url.rstrip('/') + '/.well-known/agent-card.json')}"
        return [WayToConnect("curl", "curl", "The agent's card says how it is called.", card)]
    whose = "this facade" if via else "that server"
    return [_with_token(way, target, whose) for make in _WAYS for way in make(target)]


def _with_token(way: WayToConnect, target: _Target, whose: str) -> WayToConnect:
    """The same, saying what the variable in its text stands for."""
    if target.variable is None or target.variable not in way.text:
        return way
    return replace(way, note=f"{way.note} {target.variable} is a token for {whose}.")


def _claude_code(target: _Target) -> Iterator[WayToConnect]:
    if target.transport == "stdio":
        text = f"claude mcp add {target.name} -- {_line(target.command)}"
    elif target.transport in ("streamable-http", "sse"):
        kind = "http" if target.transport == "streamable-http" else "sse"
        text = f"claude mcp add --transport {kind} {target.name} {_word(target.url)}"
        text += f' --header "{_header(target)}"' if target.variable else ""
    else:
        return
    yield WayToConnect("claude-code", "Claude Code", "Run this in a terminal.", text)


def _claude_desktop(target: _Target) -> Iterator[WayToConnect]:
    title = "Claude Desktop"
    if target.transport == "stdio":
        note = "Add this to claude_desktop_config.json: Settings, Developer, Edit Config."
        yield WayToConnect("claude-desktop", title, note, _json(mcp_json, target))
    elif target.transport in ("streamable-http", "sse"):
        note = "Give this address to Settings, Connectors, Add custom connector."
        yield WayToConnect("claude-desktop", title, note, target.url)


def _hosts(target: _Target) -> Iterator[WayToConnect]:
    if target.transport in ("stdio", "streamable-http", "sse"):
        note = "Save this as .vscode/mcp.json, or add it to the one that is there."
        yield WayToConnect("vscode", "VS Code", note, _json(vscode, target))
        note = "Save this as .cursor/mcp.json, or add it to the one that is there."
        yield WayToConnect("cursor", "Cursor", note, _json(cursor, target))


def _python(target: _Target) -> Iterator[WayToConnect]:
    allowed = f", allow_stdio=[{target.name!r}]" if target.transport == "stdio" else ""
    text = f"""import asyncio

from mcp_discovery import Discovery


async def main():
    async with Discovery({target.facade!a}{allowed}) as discovery:
        await discovery.connect(name={target.name!r})
        for tool in await discovery.tools():
            print(tool.name)


asyncio.run(main())"""
    note = (
        "pip install 'mcp-discovery[client]'. It follows the list, so it finds whichever replica "
        "is alive; a token for this facade is taken from MCP_DISCOVERY_FACADE_TOKEN."
    )
    yield WayToConnect("python", "Python", note, text)
    if (transport := _sdk_transport(target)) is None:
        return
    imports, made = transport
    text = f"""import asyncio{imports}


async def main():
    async with Client({made}) as client:
        for tool in (await client.list_tools()).tools:
            print(tool.name)


asyncio.run(main())"""
    yield WayToConnect("python-sdk", "Python (mcp SDK)", "pip install mcp, 2 or later.", text)


def _sdk_transport(target: _Target) -> tuple[str, str] | None:
    """The imports and the argument of the SDK's client; ``None`` where it has no such transport."""
    client = "\n\nfrom mcp import Client"
    authorization = f'{{"Authorization": f"Bearer {{os.environ[\'{target.variable}\']}}"}}'
    match target.transport:
        case "stdio":
            command, *args = target.command
            made = f"StdioServerParameters(command={command!a}, args={args!a})"
            return f"{client}, StdioServerParameters", made
        case "streamable-http" if target.variable is None:
            return client, f"{target.url!a}"
        case "streamable-http":
            made = f"streamable_http_client({target.url!a}, http_client=http)"
            imports = (
                f"\nimport os\n\nimport httpx2{client[1:]}\n"
                "from mcp.client.streamable_http import streamable_http_client\n\n"
                f"http = httpx2.AsyncClient(headers={authorization})"
            )
            return imports, made
        case "sse":
            given = f", headers={authorization}" if target.variable else ""
            system = "\nimport os" if target.variable else ""
            imports = f"{system}{client}\nfrom mcp.client.sse import sse_client"
            return imports, f"sse_client({target.url!a}{given})"
    return None


def _curl(target: _Target) -> Iterator[WayToConnect]:
    if target.transport != "streamable-http":
        return
    headers = ["Content-Type: application/json", "Accept: application/json, text/event-stream"]
    message: dict[str, Any] = {"jsonrpc": "2.0", "id": 1}
    if target.is_modern:
        headers += [f"MCP-Protocol-Version: {MODERN}", "Mcp-Method: tools/list"]
        meta = {VERSION_KEY: MODERN, CLIENT_INFO_KEY: _CLIENT, CAPABILITIES_KEY: {}}
        message |= {"method": "tools/list", "params": {"_meta": meta}}
        note = "Lists its tools."
    else:
        params = {"protocolVersion": LEGACY[-1], "capabilities": {}, "clientInfo": _CLIENT}
        message |= {"method": "initialize", "params": params}
        note = "The first step of a session: its Mcp-Session-Id goes into every further request."
    lines = [f"curl -sS -i {_word(target.url)}", *(f"  -H {_word(each)}" for each in headers)]
    lines += [f'  -H "{_header(target)}"'] if target.variable else []
    lines.append(f"  -d {_word(json.dumps(message))}")
    yield WayToConnect("curl", "curl", note, " \\\n".join(lines))


_WAYS: Sequence[Callable[[_Target], Iterator[WayToConnect]]] = (
    _claude_code,
    _claude_desktop,
    _hosts,
    _python,
    _curl,
)


def _header(target: _Target) -> str:
    return f"Authorization: Bearer ${target.variable}"


def _json(
    export: Callable[[list[Mapping[str, Any]], str | None], tuple[dict[str, Any], list[str]]],
    target: _Target,
) -> str:
    return json.dumps(export([target.entry], None)[0], indent=2)


def _line(words: Sequence[str]) -> str:
    return " ".join(map(_word, words))


def _word(text: str) -> str:
    """``text`` as one word of a shell's; what cannot be seen stands there as an escape."""
    if text.isprintable():
        return shlex.quote(text)
    escaped = (
        each if each.isprintable() and each not in "'\\" else f"\\U{ord(each):08x}" for each in text
    )
    return f"$'{''.join(escaped)}'"

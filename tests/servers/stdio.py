"""A handmade MCP server over stdio that does as it is told, to be asked by hostile tests.

``python -m tests.servers.stdio [FAULT…]``. It speaks the legacy era unless it is told ``modern``.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

MODERN, LEGACY = "2026-07-28", "2025-11-25"
INFO = {"name": "handmade", "version": "1.4"}
TOOLS = [{"name": "add", "inputSchema": {"type": "object"}}]
FAULTS = {
    "banner": "prints a banner before it is asked, and a line before each answer",
    "batch": "answers in an array of one",
    "deaf": "closes its input and goes on",
    "echo": "sends back what it is sent",
    "chatty": "tells its log of each message",
    "ends-at-discover": "takes nothing but initialize first, as rmcp does",
    "env": "its tools are the variables that it was given",
    "login": "asks for a login, and waits for it",
    "modern": "speaks the modern era alone",
    "mute": "never answers",
    "silent": "never answers a method that it does not know",
    "slow": "takes a second to start",
    "strings": "answers with ids as strings",
}


def answer(method: str, faults: list[str]) -> dict[str, Any] | None:
    """The result of ``method``; ``None`` where it is not known."""
    modern = "modern" in faults
    tools = [{"name": each} for each in sorted(os.environ)] if "env" in faults else TOOLS
    content = [{"type": "text", "text": " ".join(sorted(os.environ))}]
    known: dict[str, dict[str, Any]] = {
        "tools/list": {"tools": tools},
        "tools/call": {"content": content},
    }
    offers: dict[str, Any] = {"capabilities": {"tools": {}}}
    if modern:
        meta = {"io.modelcontextprotocol/serverInfo": INFO}
        known["server/discover"] = {"supportedVersions": [MODERN], "_meta": meta, **offers}
    else:
        known["initialize"] = {"protocolVersion": LEGACY, "serverInfo": INFO, **offers}
        known["ping"] = {}
    return known.get(method)


def serve(faults: list[str]) -> None:
    """Answers what comes on standard input."""
    for line in sys.stdin:
        message = json.loads(line)
        if "chatty" in faults:
            print(f"got {message['method']} \x1b[31mred", file=sys.stderr, flush=True)
        if "echo" in faults:
            print(line, end="", flush=True)
        if "id" not in message or "mute" in faults:
            continue
        if "ends-at-discover" in faults and message["method"] == "server/discover":
            sys.exit("expected initialize")
        found = answer(message["method"], faults)
        if found is None and "silent" in faults:
            continue
        id = str(message["id"]) if "strings" in faults else message["id"]
        refused = {"error": {"code": -32601, "message": "Method not found"}}
        reply = {"jsonrpc": "2.0", "id": id} | (refused if found is None else {"result": found})
        if "banner" in faults:
            print("answering", message["method"])
        print(json.dumps([reply] if "batch" in faults else reply), flush=True)


def main() -> None:
    """Serves until its input ends."""
    faults = sys.argv[1:]
    assert not set(faults) - FAULTS.keys()
    if "slow" in faults:
        time.sleep(1)
    if "banner" in faults:
        print("Handmade server, listening", flush=True)
    if "login" in faults:
        print("Open https://login.example/device and enter ABCD", file=sys.stderr, flush=True)
        time.sleep(300)
    if "deaf" in faults:
        os.close(0)
        time.sleep(300)
    serve(faults)


if __name__ == "__main__":
    main()

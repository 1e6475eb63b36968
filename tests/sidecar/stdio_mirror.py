"""An MCP server over stdio that shows how it was started; of the standard library, to start fast.

``python stdio_mirror.py NAME [VERSION]``; its tool ``mirror`` returns arguments, environment,
working directory and process id as JSON, and its tool ``end`` ends it.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

TOOLS = [{"name": name, "inputSchema": {"type": "object"}} for name in ("mirror", "end")]


def result(method: str, params: dict[str, Any]) -> dict[str, Any] | None:
    """The result of a request; ``None`` for a method that is not known."""
    name, version = (*sys.argv[1:3], "1.0.0")[:2]
    match method:
        case "initialize":
            return {
                "protocolVersion": params["protocolVersion"],
                "capabilities": {"tools": {}},
                "serverInfo": {"name": name, "version": version},
            }
        case "ping":
            return {}
        case "tools/list":
            return {"tools": TOOLS}
        case "tools/call" if params["name"] == "end":
            print(f"cannot use {os.environ.get('API_KEY')} and {sys.argv[-1]}", file=sys.stderr)
            os._exit(3)
        case "tools/call":
            seen = {
                "args": sys.argv[1:],
                "env": dict(os.environ),
                "cwd": os.getcwd(),
                "pid": os.getpid(),
            }
            return {"content": [{"type": "text", "text": json.dumps(seen)}]}
    return None


if __name__ == "__main__":
    for line in sys.stdin:
        message = json.loads(line)
        if "id" in message:
            answer = {"jsonrpc": "2.0", "id": message["id"]}
            found = result(message["method"], message.get("params") or {})
            unknown = {"code": -32601, "message": "no such method"}
            answer |= {"error": unknown} if found is None else {"result": found}
            print(json.dumps(answer), flush=True)

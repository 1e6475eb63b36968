"""A legacy MCP server over stdio, by hand, whose one tool asks its client: ``python -m …``."""

from __future__ import annotations

import json
import sys
from typing import Any

ELICITS = {"message": "Sure?", "requestedSchema": {"type": "object", "properties": {}}}


def send(message: dict[str, Any]) -> None:
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


def main() -> None:
    """Serve until the client leaves."""
    asked: dict[Any, Any] = {}
    for line in sys.stdin:
        message = json.loads(line)
        id, method, params = (message.get(name) for name in ("id", "method", "params"))
        match method:
            case "initialize":
                info = {"name": "asking", "version": "1.0.0"}
                version = params["protocolVersion"]
                found = {"protocolVersion": version, "capabilities": {"tools": {}}}
                send({"id": id, "result": {**found, "serverInfo": info}})
            case "ping":
                send({"id": id, "result": {}})
            case "tools/list":
                tool = {"name": "confirm", "inputSchema": {"type": "object"}}
                send({"id": id, "result": {"tools": [tool]}})
            case "tools/call":
                asked["question"] = id
                send({"id": "question", "method": "elicitation/create", "params": ELICITS})
            case None:
                text = message.get("result", {}).get("action", "refused")
                content = [{"type": "text", "text": text}]
                send({"id": asked.pop(id), "result": {"content": content}})
            case _ if id is not None:
                send({"id": id, "error": {"code": -32601, "message": "Method not found"}})


if __name__ == "__main__":
    main()

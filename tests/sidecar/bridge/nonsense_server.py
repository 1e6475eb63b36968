"""A modern MCP server over stdio, by hand, whose answers are nonsense: ``python -m …``.

It asks its client for what the arguments of a call are, and agrees to what the JSON in a URI is.
"""

from __future__ import annotations

import json
import sys
from typing import Any

PREFIX = "io.modelcontextprotocol/"


def send(**message: Any) -> None:
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


def main() -> None:
    """Serve until the client leaves."""
    for line in sys.stdin:
        message = json.loads(line)
        id, method, params = message.get("id"), message["method"], message.get("params")
        match method:
            case "server/discover":
                found = {"supportedVersions": ["2026-07-28"], "capabilities": [1], "_meta": [1]}
                send(id=id, result={"resultType": "complete", **found})
            case "tools/call":
                asked = {"resultType": "input_required", "requestState": 5}
                send(id=id, result=asked | {"inputRequests": params["arguments"]["asked"]})
            case "subscriptions/listen":
                for uri in params["notifications"].get("resourceSubscriptions", ()):
                    meta = {f"{PREFIX}subscriptionId": id}
                    agreed = {"notifications": json.loads(uri), "_meta": meta}
                    send(method="notifications/subscriptions/acknowledged", params=agreed)
            case _ if id is not None:
                send(id=id, error={"code": -32601, "message": "Method not found"})


if __name__ == "__main__":
    main()

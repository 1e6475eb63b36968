"""A legacy MCP server over stdio, by hand, that does what a session may meet: ``python -m …``."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any

_WRITING = threading.Lock()
TOOLS = ("wait", "log", "steps", "pid", "roots", "echo", "end", "seen", "update", "change", "tell")


def send(**message: Any) -> None:
    with _WRITING:
        print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


class Server:
    """What it was told, and the calls that wait for an answer of the client."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.asked: dict[Any, Any] = {}
        self.cancelled: set[Any] = set()

    def take(self, message: dict[str, Any]) -> None:
        id, method, params = (message.get(name) for name in ("id", "method", "params"))
        params = params or {}
        if method is None:
            said = message.get("result", message.get("error"))
            self.answer(self.asked.pop(id), json.dumps(said))
        elif id is None:
            self.seen.append([method, params])
            if method == "notifications/cancelled":
                self.cancelled.add(params["requestId"])
        elif method == "initialize":
            capabilities: dict[str, Any] = {
                "tools": {"listChanged": True},
                "resources": {"subscribe": True},
                "logging": {},
            }
            send(
                id=id,
                result={
                    "protocolVersion": params["protocolVersion"],
                    "capabilities": capabilities,
                    "serverInfo": {"name": "many-sided", "version": "1.0.0"},
                },
            )
        elif method == "ping":
            send(id=id, result={})
        elif method == "tools/list":
            send(
                id=id,
                result={"tools": [{"name": n, "inputSchema": {"type": "object"}} for n in TOOLS]},
            )
        elif method in ("resources/subscribe", "resources/unsubscribe", "logging/setLevel"):
            self.seen.append([method, params])
            send(id=id, result={})
        elif method == "tools/call":
            work = getattr(self, params["name"])
            meta, given = params.get("_meta") or {}, params.get("arguments") or {}
            threading.Thread(target=work, args=(id, meta, given), daemon=True).start()
        else:
            send(id=id, error={"code": -32601, "message": "Method not found"})

    def answer(self, id: Any, text: str) -> None:
        send(id=id, result={"content": [{"type": "text", "text": text}]})

    def wait(self, id: Any, _: Any, given: dict[str, Any]) -> None:
        ends = time.monotonic() + given["seconds"]
        while time.monotonic() < ends and id not in self.cancelled:
            time.sleep(0.01)
        self.answer(id, given.get("text", "waited"))

    def log(self, id: Any, _: Any, given: dict[str, Any]) -> None:
        send(
            method="notifications/message", params={"level": given["level"], "data": given["text"]}
        )
        self.answer(id, "logged")

    def steps(self, id: Any, meta: dict[str, Any], given: dict[str, Any]) -> None:
        for number in range(1, given["count"] + 1):
            params = {"progressToken": meta.get("progressToken"), "progress": number}
            send(method="notifications/progress", params=params)
            time.sleep(given.get("pause", 0))
        self.answer(id, given.get("text", "stepped"))

    def pid(self, id: Any, _: Any, __: Any) -> None:
        self.answer(id, str(os.getpid()))

    def roots(self, id: Any, _: Any, given: dict[str, Any]) -> None:
        self.asked[f"asked-{id}"] = id
        send(id=f"asked-{id}", method="roots/list", **given)

    def echo(self, id: Any, _: Any, given: dict[str, Any]) -> None:
        self.answer(id, given["text"] * given.get("times", 1))

    def end(self, _: Any, __: Any, given: dict[str, Any]) -> None:
        os._exit(given["code"])

    def seen_(self, id: Any) -> None:
        self.answer(id, json.dumps(self.seen))

    def update(self, id: Any, _: Any, given: dict[str, Any]) -> None:
        send(method="notifications/resources/updated", params={"uri": given["uri"]})
        self.answer(id, "updated")

    def change(self, id: Any, _: Any, __: Any) -> None:
        send(method="notifications/tools/list_changed")
        self.answer(id, "changed")

    def tell(self, id: Any, _: Any, given: dict[str, Any]) -> None:
        for _ in range(given.get("times", 1)):
            send(method=given["method"], params=given.get("params", {}))
        self.answer(id, "told")


def main() -> None:
    """Serve until the client leaves."""
    server = Server()
    for line in sys.stdin:
        message = json.loads(line)
        if message.get("method") == "tools/call" and message["params"]["name"] == "seen":
            server.seen_(message["id"])
        else:
            server.take(message)


if __name__ == "__main__":
    main()

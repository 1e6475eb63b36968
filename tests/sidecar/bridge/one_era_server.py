"""An MCP server over stdio, by hand, of one era alone: ``python -m … legacy|modern [MANNER]``.

A manner is how it begins: ``dies`` where it is asked ``server/discover``, answers nothing of the
other era (``silent``), answers nothing for some seconds (``late``), knows the oldest version alone
(``old``), or a later one too (``later``), or alone (``newest``).
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
PREFIX = "io.modelcontextprotocol/"
LISTS = {
    "toolsListChanged": "notifications/tools/list_changed",
    "resourcesListChanged": "notifications/resources/list_changed",
    "promptsListChanged": "notifications/prompts/list_changed",
}
TOOLS = ("seen", "log", "steps", "hang", "ask", "change", "touch", "array", "fail")
CAPABILITIES = {
    "tools": {"listChanged": True},
    "resources": {"listChanged": True, "subscribe": True},
    "prompts": {"listChanged": True},
    "logging": {},
    "completions": {},
}
INFO = {"name": "one-era", "version": "1.0.0"}


class Fault(Exception):
    """A JSON-RPC error to answer with."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message} | ({"data": data} if data else {})


class Server:
    """Answers each line; ``modern`` says which era it knows."""

    def __init__(self, modern: bool, manner: str = "") -> None:
        self.modern = modern
        self.manner = manner
        self.seen: list[Any] = []
        self.asked: dict[Any, Any] = {}
        self.level = "debug"
        self.subscribed: set[str] = set()
        self.listening: dict[Any, dict[str, Any]] = {}

    def send(self, message: dict[str, Any]) -> None:
        print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)

    def tell(self, method: str, params: dict[str, Any]) -> None:
        self.send({"method": method, "params": params})

    def take(self, message: dict[str, Any]) -> None:
        """Answers one message."""
        id, method, params = message.get("id"), message.get("method"), message.get("params") or {}
        if method is None:
            self.end_call(self.asked.pop(id), message.get("result") or message.get("error"))
            return
        self.seen.append([method, params])
        if id is None:
            if method == "notifications/cancelled":
                self.listening.pop(params["requestId"], None)
            return
        try:
            found = self.found(id, method, params)
            if found is not None:
                self.answer(id, found)
        except Fault as fault:
            self.send({"id": id, "error": fault.error})

    def answer(self, id: Any, found: dict[str, Any]) -> None:
        self.send(
            {"id": id, "result": {"resultType": "complete", **found} if self.modern else found}
        )

    def found(self, id: Any, method: str, params: dict[str, Any]) -> dict[str, Any] | None:
        """The result of a request, or nothing where that comes later."""
        meta = params.get("_meta") or {}
        if self.modern and self.manner == "silent" and method == "initialize":
            return None
        if self.modern and f"{PREFIX}protocolVersion" not in meta:
            raise Fault(-32602, "no envelope")
        kept = {"ttlMs": 5, "cacheScope": "public"} if self.modern else {}
        era = "modern" if self.modern else "legacy"
        versions = ["2026-07-28"] if self.manner != "newest" else []
        versions += ["2027-05-01"] if self.manner in ("later", "newest") else []
        requested = meta.get(f"{PREFIX}protocolVersion")
        if self.modern and requested not in versions:
            data = {"supported": versions, "requested": requested}
            raise Fault(-32022, "Unsupported protocol version", data)
        match era, method:
            case "modern", "server/discover":
                said = {"supportedVersions": versions, "instructions": "Be brief."}
                named = {"_meta": {f"{PREFIX}serverInfo": INFO}}
                return {"capabilities": CAPABILITIES, **said, **named, **kept}
            case "legacy", "initialize":
                capabilities = (
                    {**CAPABILITIES, "tasks": {}} if params.get("tasks") else CAPABILITIES
                )
                version = "2024-11-05" if self.manner == "old" else "2025-06-18"
                known = {"protocolVersion": version, "serverInfo": INFO}
                return {"capabilities": capabilities, "instructions": "Be brief.", **known}
            case "legacy", "server/discover" if self.manner == "dies":
                sys.exit(3)
            case "legacy", "server/discover" if self.manner == "silent":
                return None
            case "legacy", "ping":
                return {}
            case "legacy", "logging/setLevel":
                self.level = params["level"]
                return {}
            case "legacy", "resources/subscribe":
                self.subscribed.add(params["uri"])
                return {}
            case "legacy", "resources/unsubscribe":
                self.subscribed.discard(params["uri"])
                return {}
            case "modern", "subscriptions/listen":
                self.listening[id] = params["notifications"]
                mine = {f"{PREFIX}subscriptionId": id}
                granted = {"notifications": params["notifications"], "_meta": mine}
                self.tell("notifications/subscriptions/acknowledged", granted)
                return None
            case _, "tools/list":
                return {"tools": [*map(self.tool, TOOLS)], **kept}
            case _, "tools/call":
                return self.call(id, params["name"], params.get("arguments") or {}, params, meta)
            case _, "resources/list":
                return {"resources": [{"uri": "memo://a", "name": "a"}], **kept}
            case _, "resources/templates/list":
                return {"resourceTemplates": [{"uriTemplate": "memo://{x}", "name": "x"}], **kept}
            case _, "resources/read":
                uri = params["uri"]
                if uri != "memo://a":
                    code = -32602 if self.modern else -32002
                    raise Fault(code, "Resource not found", {"uri": uri})
                return {"contents": [{"uri": uri, "text": "hello"}], **kept}
            case _, "prompts/list":
                return {"prompts": [{"name": "greet"}], **kept}
            case _, "prompts/get":
                content = {"type": "text", "text": f"Greet {params['arguments']['whom']}"}
                return {"messages": [{"role": "user", "content": content}]}
            case _, "completion/complete":
                return {"completion": {"values": ["Ann"], "total": 1, "hasMore": False}}
            case _, "vendor/own":
                return {"own": True}
        raise Fault(-32601, f"Method not found: {method}")

    def tool(self, name: str) -> dict[str, Any]:
        array = {"outputSchema": {"type": "array"}} if self.modern and name == "array" else {}
        region = {"type": "string", "x-mcp-header": "Region"}
        marked = {"properties": {"region": region}} if name == "seen" else {}
        return {"name": name, "inputSchema": {"type": "object", **marked}, **array}

    def call(
        self, id: Any, name: str, given: dict[str, Any], params: dict[str, Any], meta: Any
    ) -> dict[str, Any] | None:
        """The result of a call of one of its tools."""
        match name:
            case "log":
                if self.modern:
                    self.level = meta.get(f"{PREFIX}logLevel", "none")
                if self.level in LEVELS and LEVELS.index(given["level"]) >= LEVELS.index(
                    self.level
                ):
                    said = {"level": given["level"], "logger": "own", "data": given["text"]}
                    self.tell("notifications/message", said)
            case "steps":
                for step in range(1, given["count"] + 1):
                    if (token := meta.get("progressToken")) is not None:
                        total = {"total": given["count"], "progress": step}
                        self.tell("notifications/progress", {"progressToken": token, **total})
            case "hang":
                return None
            case "ask" if self.modern:
                if "requestState" not in params:
                    question = {"method": given["method"], "params": given["params"]}
                    self.send_input(id, {"q": question})
                    return None
                return text({"state": params["requestState"], "given": params["inputResponses"]})
            case "ask":
                asking = f"ask-{id}"
                self.asked[asking] = id
                self.send({"id": asking, "method": given["method"], "params": given["params"]})
                return None
            case "change":
                for wish, method in LISTS.items():
                    self.publish(method, {}, lambda wishes, wish=wish: wishes.get(wish))
            case "touch":
                uri = given["uri"]
                updated = "notifications/resources/updated"
                if self.modern:
                    wanted = lambda wishes: uri in wishes.get("resourceSubscriptions", ())  # noqa: E731
                    self.publish(updated, {"uri": uri}, wanted)
                elif uri in self.subscribed:
                    self.tell(updated, {"uri": uri})
            case "array" if self.modern:
                return {"content": [], "structuredContent": [1, 2]}
            case "fail":
                raise Fault(-32050, "as you like", {"why": "own"})
        return text(self.seen)

    def publish(self, method: str, params: dict[str, Any], wanted: Any) -> None:
        """Sends a notification to those who listen for it, or to the one client that there is."""
        for id, wishes in self.listening.items():
            if wanted(wishes):
                self.tell(method, {**params, "_meta": {f"{PREFIX}subscriptionId": id}})
        if not self.modern:
            self.tell(method, params)

    def send_input(self, id: Any, questions: dict[str, Any]) -> None:
        result = {"inputRequests": questions, "requestState": "state-1"}
        self.send({"id": id, "result": {"resultType": "input_required", **result}})

    def end_call(self, id: Any, given: Any) -> None:
        self.answer(id, text(given))


def text(value: Any) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": json.dumps(value)}]}


if __name__ == "__main__":
    server = Server(sys.argv[1] == "modern", *sys.argv[2:])
    if server.manner == "late":
        time.sleep(3.5)
    for line in sys.stdin:
        server.take(json.loads(line))

"""Skills that a server of others serves: listed with digests, reached through the gateway."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from tests.facade.access.tokens import bearer, guarded
from tests.foreign.servers import SERVERS
from tests.foreign.servers import running as foreign
from tests.foreign.test_restricted import rules
from tests.stores.waiting import until

GREETER = next(each for each in SERVERS if each.name == "fastmcp-4")
NAMES = ["greetings", "partings"]


def request(method: str, **params: Any) -> dict[str, Any]:
    """A request of the modern era."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params | {"_meta": meta}}


async def test_listed_with_digests_and_reached_in_part(tmp_path: Path) -> None:
    parts = {"skills": ["greet*"], "resources": ["skill://greetings/*"]}
    async with (
        foreign(GREETER, tmp_path) as process,
        guarded(tmp_path, rules(**parts), gateway=True, probe_interval=1.0) as ask,
    ):
        body = {"id": "a", "name": "gate", "url": process.url}
        assert (await ask("POST", "/servers", body, headers=bearer("operator"))).status == 201

        async def named() -> bool:
            found = (await ask("GET", "/servers/a", headers=bearer("operator"))).json
            return bool(found["capabilities"].get("skills") == NAMES)

        await until(named, timeout=30, what="the skills of fastmcp")
        offered = (await ask("GET", "/servers/a/capabilities", headers=bearer("operator"))).json
        skill, other = offered["skills"]
        assert skill["frontmatter"]["description"] == "How to greet somebody in any language."
        (file,) = skill["resources"]

        employee = bearer("employee")
        (seen,) = (await ask("GET", "/servers?skill=greetings", headers=employee)).json["servers"]
        assert seen["capabilities"]["skills"] == ["greetings"]
        assert (await ask("GET", "/servers?skill=partings", headers=employee)).json["servers"] == []

        async def called(method: str, **params: Any) -> dict[str, Any]:
            headers = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": method, **employee}
            headers |= {"Mcp-Name": params["uri"]} if method == "resources/read" else {}
            headers["Accept"] = "application/json, text/event-stream"
            reply = await ask(
                "POST", "/gateway/gate/mcp", request(method, **params), headers=headers
            )
            found: dict[str, Any] = reply.json
            return found

        assert (await called("skills/list"))["result"]["skills"] == [skill]
        got = await called("skills/get", uri=skill["uri"])
        assert got["result"]["skill"] == skill
        assert "Unknown skill" in (await called("skills/get", uri=other["uri"]))["error"]["message"]
        (content,) = (await called("resources/read", uri=file["uri"]))["result"]["contents"]
        data = content["text"].encode()
        assert f"sha256:{hashlib.sha256(data).hexdigest()}" == file["digest"]
        assert len(data) == file["size"]
        refused = await called("resources/read", uri=other["uri"])
        assert "not found" in refused["error"]["message"]

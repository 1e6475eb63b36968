"""``call_tool`` for callers that may call some of what there is: the rest does not exist."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.facade.access.tokens import bearer, guarded
from tests.facade.gateway.plain import FaultyServer, faulty
from tests.facade.harness import Client, leased
from tests.facade.mcp.wire import modern
from tests.mcp_discovery.client.test_credentials import legacy

SECTIONS: Mapping[str, Any] = {
    "roles": {
        "operator": "read call register",
        "reader": "read",
        "employee": "some",
        "manager": "some more",
        "admin": "more",
        "registrar": "none",
    },
    "scopes": {
        "some": {"verbs": ["call"], "names": ["gate"], "tools": ["pay"]},
        "more": {"verbs": ["call"], "names": ["other"]},
        "none": {"verbs": ["read", "call"], "names": ["nothing"]},
    },
}


@pytest.fixture
async def server() -> AsyncIterator[FaultyServer]:
    async with faulty() as found:
        found.handler = legacy
        yield found


@pytest.fixture(params=[SECTIONS])
async def ask(
    tmp_path: Path, server: FaultyServer, request: pytest.FixtureRequest
) -> AsyncIterator[Client]:
    more: dict[str, Any] = {"mcp_call_tool": True, "probe_interval": 3600.0}
    async with guarded(tmp_path, request.param, **more) as client:
        for name, tools in (("gate", ["pay", "refund"]), ("other", ["pay", "audit"])):
            capabilities = {"tools": tools}
            body = leased(name, name=name, url=server.url, capabilities=capabilities)
            made = await client("POST", "/servers", body, headers=bearer("operator"))
            assert made.status == 201
        yield client


async def called(ask: Client, role: str, **arguments: Any) -> tuple[bool, str]:
    """Whether the call went through, and what was said."""
    params = {"name": "call_tool", "arguments": {"timeout": 10, **arguments}}
    reply = await modern(ask, "tools/call", params, **bearer(role))
    result = reply.json["result"]
    return not result.get("isError"), result["content"][0]["text"]


async def test_callers_call_what_they_may(ask: Client, server: FaultyServer) -> None:
    assert await called(ask, "employee", name="pay") == (True, "paid")
    assert await called(ask, "admin", name="audit") == (True, "paid")
    count = len(server.requests)
    for role, arguments in [
        ("employee", {"name": "refund"}),
        ("employee", {"name": "refund", "server": "gate"}),
        ("employee", {"name": "audit"}),
        ("employee", {"name": "other.pay"}),
        ("employee", {"name": "pay", "server": "other"}),
        ("admin", {"name": "refund"}),
        ("registrar", {"name": "pay"}),
    ]:
        fine, said = await called(ask, role, **arguments)
        assert not fine, said
        # The very words for what nobody has.
        absent = {key: value.replace("refund", "reread").replace("audit", "audio")
                  .replace("other", "ether") for key, value in arguments.items()}  # fmt: skip
        if role != "registrar":
            _, unknown = await called(ask, role, **absent)
            for real, made_up in (("refund", "reread"), ("audit", "audio"), ("other", "ether")):
                unknown = unknown.replace(made_up, real)
            assert said == unknown
    assert len(server.requests) == count


_BY_TOOLS = {"scopes": {**SECTIONS["scopes"], "some": ["audit"]}}


@pytest.mark.parametrize("ask", [{**SECTIONS, **_BY_TOOLS}], indirect=True)
async def test_servers_without_a_tool_that_may_be_called_are_none(ask: Client) -> None:
    """Where rights are for tools alone, other servers are told neither by name nor in number."""
    assert await called(ask, "employee", name="audit") == (True, "paid")
    for named, absent in (
        ({"server": "gate"}, {"server": "gale"}),
        ({"name": "gate.audit"}, {"name": "gale.audit"}),
        ({"name": "gate.pay"}, {"name": "gale.pay"}),
    ):
        _, said = await called(ask, "employee", **{"name": "audit"} | named)
        _, unknown = await called(ask, "employee", **{"name": "audit"} | absent)
        assert said == unknown.replace("gale", "gate")
    _, said = await called(ask, "employee", name="refund")
    assert "1 instance)" in said


async def test_two_that_others_take_for_one_are_one(ask: Client) -> None:
    """Who may call both has to say which; who may call one is not told that there are two."""
    fine, said = await called(ask, "manager", name="pay")
    assert not fine
    assert "gate.pay" in said
    assert "other.pay" in said
    assert await called(ask, "manager", name="other.pay") == (True, "paid")
    assert await called(ask, "employee", name="pay") == (True, "paid")
    assert await called(ask, "admin", name="pay") == (True, "paid")


async def test_without_the_right_to_call_there_is_no_call_tool(ask: Client) -> None:
    for role, there in (("reader", False), ("employee", True)):
        listed = await modern(ask, "tools/list", {}, **bearer(role))
        names = [each["name"] for each in listed.json["result"]["tools"]]
        assert ("call_tool" in names) is there
        assert listed.json["result"]["cacheScope"] == "private"
        found = await modern(ask, "server/discover", {}, **bearer(role))
        assert ("call_tool" in found.json["result"]["instructions"]) is there
    params = {"name": "call_tool", "arguments": {"name": "pay"}}
    reply = await modern(ask, "tools/call", params, **bearer("reader"))
    assert "Unknown tool: 'call_tool'" in reply.json["error"]["message"]

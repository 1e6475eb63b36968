"""Calls as models make them, by :meth:`Discovery.dispatch`, to a real server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mcp_discovery import Discovery
from tests.facade.harness import served
from tests.servers.process import example

#: One call as each API spells it, and where the answer has its text.
CALLS: dict[str, tuple[dict[str, Any], dict[str, Any], Any]] = {
    "chat": (
        {"format": "openai", "strict": True},
        {
            "id": "call_1",
            "type": "function",
            "function": {"name": "top_pages", "arguments": '{"period": null, "limit": 1}'},
        },
        lambda answer: answer["content"],
    ),
    "responses": (
        {"format": "openai", "api": "responses"},
        {
            "type": "function_call",
            "call_id": "call_1",
            "name": "top_pages",
            "arguments": '{"limit": 1}',
        },
        lambda answer: answer["output"],
    ),
    "anthropic": (
        {"format": "anthropic"},
        {"type": "tool_use", "id": "toolu_1", "name": "top_pages", "input": {"limit": 1}},
        lambda answer: answer["content"][0]["text"],
    ),
    "gemini": (
        {"format": "gemini"},
        {"functionCall": {"name": "top_pages", "args": {"limit": 1}}},
        lambda answer: answer["functionResponse"]["response"]["output"],
    ),
}


@pytest.mark.parametrize("api", CALLS)
async def test_arguments_come_back_as_the_server_wants_them(api: str) -> None:
    options, call, text_of = CALLS[api]
    async with served() as ask, example("analytics") as server:
        reply = await ask("POST", "/servers", {"id": "a-1", "name": "a", "url": server.url})
        assert reply.status in (200, 201), reply.body
        await ask.until_status("a-1", "healthy")
        async with Discovery(ask.url) as discovery:
            await discovery.tools(**options)
            answer = await discovery.dispatch(call)
    assert json.loads(text_of(answer))["views"] == 1840 * 7

"""Streams end when their caller's credential does, whatever kind of stream it is."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mcp_discovery.facade.access.lifetime import CLOSE_CODE
from mcp_discovery.facade.access.tokens import hash_of
from tests.facade.access.tokens import TOKENS, bearer, guarded, write_auth_file
from tests.facade.harness import Client, leased
from tests.stores.waiting import bounded

LISTEN = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "subscriptions/listen",
    "params": {
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        },
        "notifications": {"resourcesListChanged": True},
    },
}
MODERN = {
    "Accept": "application/json, text/event-stream",
    "MCP-Protocol-Version": "2026-07-28",
    "Mcp-Method": "subscriptions/listen",
}


async def _read_events(ask: Client) -> None:
    async with ask.events(**bearer("reader")) as events:
        await events.next()
        with pytest.raises(EOFError):
            while True:
                await events.next()


async def _poll(ask: Client) -> None:
    first = await ask("GET", "/servers", headers=bearer("reader"))
    revision = first.headers["X-Discovery-Revision"]
    reply = await ask("GET", f"/servers?wait=60&index={revision}", headers=bearer("reader"))
    assert reply.status == 401
    assert 'error="invalid_token"' in reply.headers["WWW-Authenticate"]


async def _read_socket(ask: Client) -> None:
    url = f"{ask.url}/registry/stream"
    async with ask.session.ws_connect(url, headers=bearer("reader")) as socket:
        await socket.send_json({"action": "subscribe", "events": ["connection.status"]})
        while (await socket.receive()).type not in (
            aiohttp.WSMsgType.CLOSE,
            aiohttp.WSMsgType.CLOSED,
        ):
            pass
        assert socket.close_code == CLOSE_CODE


async def _listen_to_mcp(ask: Client) -> None:
    headers = MODERN | bearer("reader")
    async with ask.session.post(f"{ask.url}/mcp", json=LISTEN, headers=headers) as response:
        assert response.status == 200, await response.text()
        assert response.content_type == "text/event-stream"
        await response.content.readany()
        await response.read()  # raises where it breaks off


STREAMS = [_read_events, _poll, _read_socket, _listen_to_mcp]


def _tokens(**more: Any) -> dict[str, Any]:
    operator = {"hash": hash_of(TOKENS["operator"]), "roles": ["operator"]}
    reader = {"hash": hash_of(TOKENS["reader"]), "roles": ["reader"]}
    return {"reader": reader | more, "operator": operator}


@pytest.mark.parametrize("stream", STREAMS)
async def test_a_stream_ends_when_the_token_is_revoked(tmp_path: Path, stream: Any) -> None:
    async with guarded(tmp_path, {"tokens": _tokens()}) as ask:
        reading = asyncio.create_task(stream(ask))
        await _opened(ask)
        write_auth_file(tmp_path / "auth.yaml", tokens={"operator": _tokens()["operator"]})
        await bounded(reading, 10)


@pytest.mark.slow
@pytest.mark.parametrize("stream", STREAMS)
async def test_a_stream_ends_when_the_token_expires(tmp_path: Path, stream: Any) -> None:
    ends = datetime.fromtimestamp(time.time() + 2, UTC).isoformat()
    async with guarded(tmp_path, {"tokens": _tokens(expires=ends)}) as ask:
        await bounded(stream(ask), 10)


async def test_other_rights_end_a_stream_and_the_same_do_not(tmp_path: Path) -> None:
    async with (
        guarded(tmp_path) as ask,
        ask.events(**bearer("reader")) as kept,
        ask.events(**bearer("admin")) as ended,
    ):
        for each in (kept, ended):
            await each.next()
        roles = {"reader": "read", "admin": "actions:read", "registrar": "read register"}
        tokens = {
            role: {"hash": hash_of(TOKENS[role]), "roles": role, "note": "another"}
            for role in roles
        }
        write_auth_file(tmp_path / "auth.yaml", roles=roles, tokens=tokens)
        with pytest.raises(EOFError):
            while True:
                await ended.next()
        made = await ask("POST", "/servers", leased("one"), headers=bearer("registrar"))
        assert made.status == 201
        assert (await kept.next()).data["id"] == "one"


async def _opened(ask: Client) -> None:
    """Waits until a stream is open: the file changes only then."""
    async with asyncio.timeout(10):
        while True:
            text = (await ask("GET", "/metrics", headers=bearer("operator"))).body.decode()
            if any(
                line.endswith((" 1.0", " 1"))
                for line in text.splitlines()
                if line.startswith(
                    (
                        "mcp_discovery_long_polls ",
                        "mcp_discovery_event_readers ",
                        "mcp_discovery_socket_readers ",
                        "mcp_discovery_mcp_streams ",
                    )
                )
            ):
                return
            await asyncio.sleep(0.02)

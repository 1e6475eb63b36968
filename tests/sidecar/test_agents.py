"""A sidecar beside an A2A agent: it keeps what it promises beside an MCP server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.errors import InvalidInputError
from mcp_discovery.health import ANSWERS_A2A, Status
from mcp_discovery.record import Auth
from mcp_discovery.sidecar.settings import SidecarSettings
from tests.servers.scripted_agent import (
    ScriptedAgent,
    hangs,
    interface,
    replies,
    scripted_agent,
)
from tests.sidecar.harness import Seen, sidecar

SOON = 4.0


@pytest.fixture
async def agent() -> AsyncIterator[ScriptedAgent]:
    async with scripted_agent() as running:
        yield running


async def test_its_options_come_before_the_card(
    store: EmbeddedStore, seen: Seen, agent: ScriptedAgent
) -> None:
    given: dict[str, Any] = {"name": "desk", "title": "Our desk", "tags": ("shop",)}
    async with sidecar(store, agent.url, kind="agent", auth=Auth(type="bearer"), **given):
        record = (await seen.until_status(Status.HEALTHY, within=SOON)).record
        assert (record.kind, record.name, record.title) == ("agent", "desk", "Our desk")
        assert (record.tags, record.auth.type) == (("shop",), "bearer")
        assert (record.description, record.version) == ("Plans and books journeys.", "1.2.0")
        assert record.endpoint.url == agent.url and record.endpoint.transport == "a2a"


async def test_it_is_waited_for_and_found_when_it_comes(store: EmbeddedStore, seen: Seen) -> None:
    async with scripted_agent() as earlier:
        pass
    async with sidecar(store, earlier.url, kind="agent"):
        async with scripted_agent(earlier.port):
            one = await seen.until_status(Status.HEALTHY, within=SOON)
            assert one.health.reason == ANSWERS_A2A
        await seen.until_status(Status.DOWN, within=SOON)
        async with scripted_agent(earlier.port):
            await seen.until_status(Status.HEALTHY, within=SOON)


@pytest.mark.slow
async def test_what_is_wrong_with_it_is_said(
    store: EmbeddedStore, seen: Seen, agent: ScriptedAgent
) -> None:
    async with sidecar(store, agent.url, kind="agent"):
        await seen.until_status(Status.HEALTHY, within=SOON)
        agent.rpc = hangs
        await seen.until_status(Status.DOWN, within=2 * SOON)
        agent.rpc = None
        await seen.until_status(Status.HEALTHY, within=2 * SOON)
        agent.card_handler = replies(text="[]")
        one = await seen.until_status(Status.DEGRADED, within=2 * SOON)
        why = "what it offers cannot be read: its agent card is not a JSON object"
        # On a busy machine it may have wavered before.
        assert one.health.reason.partition(";")[0] == f"{ANSWERS_A2A}, but {why}"
        assert one.record.capabilities.skills == ("Book a trip",)
        agent.card_handler = None
        await seen.until_status(Status.HEALTHY, within=2 * SOON)


async def test_one_that_only_grpc_could_ask(
    store: EmbeddedStore, seen: Seen, agent: ScriptedAgent
) -> None:
    agent.card = agent.usual_card(supportedInterfaces=[interface("127.0.0.1:50051", "GRPC")])
    async with sidecar(store, agent.url, kind="agent"):
        one = await seen.until(lambda _: True, within=SOON, what="being registered")
        assert one.health.status is Status.DEGRADED
        assert "none of its interfaces (GRPC) can be asked here" in one.health.reason
        assert one.record.capabilities.skills == ("Book a trip",)


async def test_the_address_that_is_advertised_has_to_lead_to_it(
    store: EmbeddedStore, seen: Seen, agent: ScriptedAgent
) -> None:
    async with scripted_agent() as other:
        other.card = other.usual_card(name="Another")
        async with sidecar(store, agent.url, kind="agent", advertise_url=other.url):
            one = await seen.until_status(Status.DEGRADED, within=SOON)
            why = "its advertised address leads to another server, 'Another'"
            assert one.health.reason == f"{ANSWERS_A2A}, but {why}"


async def test_one_that_asks_for_credentials(
    store: EmbeddedStore, seen: Seen, agent: ScriptedAgent
) -> None:
    agent.card = agent.usual_card(
        securitySchemes={"token": {"httpAuthSecurityScheme": {"scheme": "Bearer"}}},
        securityRequirements=[{"schemes": {"token": {}}}],
    )
    agent.rpc = replies(401)
    async with sidecar(store, agent.url, kind="agent"):
        one = await seen.until_status(Status.HEALTHY, within=SOON)
        assert one.health.reason == "answers, and asks for credentials as its record says"
        assert one.record.auth.type == "bearer"


async def test_its_token_goes_to_it_alone(
    store: EmbeddedStore, seen: Seen, agent: ScriptedAgent
) -> None:
    async with scripted_agent() as other:
        agent.card = agent.usual_card(
            supportedInterfaces=[interface(f"{other.url}/rpc"), interface(f"{agent.url}/rpc")]
        )
        async with sidecar(store, agent.url, kind="agent", server_token="s3cr3t"):
            await seen.until_status(Status.HEALTHY, within=SOON)
        assert not other.seen
    assert {headers.get("Authorization") for _, _, headers in agent.seen} == {"Bearer s3cr3t"}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"kind": "robot"}, "kind: is not one of 'server' or 'agent'"),
        ({"kind": "agent", "transport": "sse"}, "an agent, and no server, has the transport 'a2a'"),
        ({"transport": "a2a"}, "an agent, and no server, has the transport 'a2a'"),
        ({"kind": "agent", "url": "grpc://x"}, "has no scheme of http, https"),
    ],
)
def test_settings_that_cannot_be_used(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidInputError, match=sentence.replace("(", r"\(")):
        SidecarSettings(**({"url": "http://127.0.0.1:9999"} | given))

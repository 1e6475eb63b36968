"""What offers very much is described beside the event loop, and its index has an end."""

from __future__ import annotations

import threading

import aiohttp
import pytest

from mcp_discovery.probe import A2aProbe, Introspection, probing_session
from mcp_discovery.probe.offer import ServerOffer
from mcp_discovery.registrant.introspector import Introspector, ServerDescription
from tests.servers.scripted_agent import scripted_agent

QUICK = 5.0


@pytest.mark.parametrize(("number", "indexed", "beside"), [(10, 10, False), (2_500, 2_000, True)])
async def test_an_agent_with_many_skills(number: int, indexed: int, beside: bool) -> None:
    threads: list[threading.Thread] = []
    found: list[ServerDescription] = []

    def describe(offered: Introspection, url: str) -> ServerDescription:
        threads.append(threading.current_thread())
        offer = ServerOffer(offered)
        endpoint = {"url": url, "transport": "a2a"}
        record, notes = offer.record({"name": "a", "kind": "agent", "endpoint": endpoint})
        return ServerDescription(record, offer.document, notes)

    introspector = Introspector(
        describe=describe,
        described=found.append,
        unfit=lambda error: pytest.fail(str(error)),
        probe_soon=lambda: None,
        quiet_for=lambda: 0.0,
        unreadable=lambda: None,
        reconsider=lambda: None,
        expects_credentials=False,
        known=None,
        interval=1.0,
        timeout=QUICK,
        name="a",
    )
    async with scripted_agent() as agent, probing_session(aiohttp.TCPConnector()) as http:
        agent.card = agent.usual_card(skills=[{"name": f"skill-{n}"} for n in range(number)])
        await introspector.read(A2aProbe(agent.url, session=http), QUICK)
    assert [each is not threading.main_thread() for each in threads] == [beside]
    (described,) = found
    assert len(described.document.skills) == number
    assert len(described.record.capabilities.skills) == indexed
    assert any("names 2,000 of 2,500 skills" in note for note in described.notes) is beside

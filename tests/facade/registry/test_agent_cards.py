"""A posted A2A agent: listed by what its card says, its card passed on, named in catalogs."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from mcp_discovery.facade.registry.cards import AGENT_CARD
from tests.facade.harness import Client, leased, served
from tests.facade.mcp.wire import modern
from tests.servers.scripted_agent import SKILL, ScriptedAgent, hangs, replies, scripted_agent
from tests.stores.waiting import NotYet, until


@pytest.fixture
async def agent() -> AsyncIterator[ScriptedAgent]:
    async with scripted_agent() as found:
        yield found


async def post(ask: Client, agent: ScriptedAgent, **more: object) -> None:
    body = {"id": "travel-1", "name": "travel", "kind": "agent", "url": agent.url}
    answer = await ask("POST", "/servers", body | more)
    assert answer.status == 201, answer.body
    await ask.until_status("travel-1", "healthy")


async def test_it_is_listed_with_what_its_card_says(ask: Client, agent: ScriptedAgent) -> None:
    await post(ask, agent)
    [entry] = (await ask("GET", "/servers?kind=agent")).json["servers"]
    assert entry["reason"] == "answers A2A"
    assert entry["title"] == "Travel Agent" and entry["version"] == "1.2.0"
    assert entry["description"] == "Plans and books journeys."
    assert entry["tags"] == [] and entry["capabilities"]["skills"] == ["Book a trip"]
    assert entry["exampleQueries"] == SKILL["examples"]
    assert entry["protocol"]["bindings"] == ["JSONRPC"]
    assert (await ask("GET", "/servers?kind=agent&capability=Book a trip")).ids == ["travel-1"]


async def test_it_is_found_by_what_its_skills_are_said_to_do(
    ask: Client, agent: ScriptedAgent
) -> None:
    await post(ask, agent)
    await ask("POST", "/servers", leased("rail", name="rail", capabilities=["timetable"]))

    async def found() -> bool:
        for words in ("hotels", "book me a train tomorrow", "booking"):  # text, example, tag
            reply = await ask("GET", f"/servers?kind=agent&q={words}")
            if reply.ids != ["travel-1"]:
                raise NotYet(words)
        return True

    await until(found, timeout=10, what="its skills being searched")
    assert (await ask("GET", "/servers?q=hotels")).ids == []
    assert (await ask("GET", "/skills")).json["skills"] == []
    [skill] = (await ask("GET", "/skills?kind=agent")).json["skills"]
    assert (skill["name"], skill["servers"]) == ("Book a trip", 1)
    for kind, wanted in (({}, []), ({"kind": ["agent"]}, ["travel-1"])):
        call = {"name": "find_servers", "arguments": {"q": "hotels", **kind}}
        answer = (await modern(ask, "tools/call", call)).json["result"]["structuredContent"]
        assert [each["id"] for each in answer["servers"]] == wanted
    assert (await ask("GET", "/tools?kind=all&q=hotels")).json["tools"] == []


async def test_what_the_registrant_says_comes_first_and_the_rest_follows_the_card(
    ask: Client, agent: ScriptedAgent
) -> None:
    await post(ask, agent, title="Our travel desk", tags=["desk"])
    agent.card = agent.usual_card(description="Plans journeys.", version="2.0.0", skills=[])

    async def followed() -> dict[str, object]:
        entry: dict[str, object] = (await ask("GET", "/servers/travel-1")).json
        if entry["version"] != "2.0.0":
            raise NotYet(entry)
        return entry

    entry = await until(followed, timeout=10, what="the new card")
    assert entry["description"] == "Plans journeys."
    assert (entry["title"], entry["tags"]) == ("Our travel desk", ["desk"])
    assert entry["exampleQueries"] == []
    assert (await ask("GET", "/servers/travel/agent-card")).json == agent.card


async def test_its_card_is_passed_on(ask: Client, agent: ScriptedAgent) -> None:
    agent.card = agent.usual_card(
        signatures=[{"protected": "e30", "signature": "s"}], more={"x": 1}
    )
    await post(ask, agent)
    for name in ("travel", "travel-1", "local%2Ftravel"):
        found = await ask.raw(f"/servers/{name}/agent-card")
        assert (found.status, found.json) == (200, agent.card)
    assert found.headers["Content-Type"].startswith(AGENT_CARD)
    again = await ask(
        "GET", "/servers/travel/agent-card", headers={"If-None-Match": found.headers["ETag"]}
    )
    assert again.status == 304
    assert (await ask("GET", "/servers/travel/server-card")).status == 404
    assert (await ask("GET", "/servers/nobody/agent-card")).status == 404


async def test_catalogs_name_its_card(ask: Client, agent: ScriptedAgent) -> None:
    await post(ask, agent)
    for path in ("/.well-known/ai-catalog.json", "/.well-known/ard.json"):
        [entry] = [e for e in (await ask("GET", path)).json["entries"] if e["type"] == AGENT_CARD]
        assert entry["identifier"].endswith("travel") and "agent" in entry["identifier"]
        place = entry["url"].removeprefix(ask.url)
        assert (await ask.raw(place)).json == agent.card


@pytest.mark.slow
async def test_its_health_is_that_of_what_answers(agent: ScriptedAgent) -> None:
    async with served() as ask:
        await post(ask, agent)
        agent.rpc = replies(500)
        entry = await ask.until_status("travel-1", "down")
        assert entry["reason"] == "HTTP 500 from its A2A interface"
        agent.rpc = None
        await ask.until_status("travel-1", "healthy")
        agent.rpc = hangs
        await ask.until_status("travel-1", "down")
        agent.rpc = None
        await ask.until_status("travel-1", "healthy")
        agent.card_handler = replies(503)
        entry = await ask.until_status("travel-1", "degraded")
        assert entry["reason"].startswith(
            "answers A2A, but what it offers cannot be read: HTTP 503"
        )
        assert entry["capabilities"]["skills"] == ["Book a trip"]
        agent.card_handler = None
        await ask.until_status("travel-1", "healthy")


async def test_a_check_on_request(ask: Client, agent: ScriptedAgent) -> None:
    await post(ask, agent)
    answer = (await ask("POST", "/connections/travel-1/health-check")).json
    assert answer["health"]["status"] == "healthy", answer


async def test_credentials_of_its_card_are_announced(ask: Client, agent: ScriptedAgent) -> None:
    agent.rpc = replies(401)
    agent.card = agent.usual_card(
        securitySchemes={"token": {"httpAuthSecurityScheme": {"scheme": "Bearer"}}},
        securityRequirements=[{"schemes": {"token": {}}}],
    )
    await post(ask, agent)
    entry = (await ask("GET", "/servers/travel-1")).json
    assert entry["auth"] == {"type": "bearer", "scopes": []}
    assert entry["reason"] == "answers, and asks for credentials as its record says"


async def test_an_address_that_is_not_allowed_is_not_asked(agent: ScriptedAgent) -> None:
    async with served() as ask:
        body = {"name": "meta", "kind": "agent", "url": "http://169.254.169.254"}
        answer = await ask("POST", "/servers", body)
        assert answer.status == 422, answer.body

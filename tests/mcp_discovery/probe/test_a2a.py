"""What an A2A agent's answers mean: of its card, and to a question for a task that there is not."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web

from mcp_discovery.health import Status
from mcp_discovery.probe import (
    A2aProbe,
    BadAnswerError,
    NoAnswerError,
    NotAskedError,
    ProbeError,
    UnreachableError,
    probing_session,
)
from mcp_discovery.probe.agent_card import AgentCard
from mcp_discovery.probe.offer import ServerOffer
from mcp_discovery.registrant.watcher import HealthCheck
from tests.servers.scripted_agent import (
    NOT_FOUND,
    SKILL,
    ScriptedAgent,
    hangs,
    interface,
    replies,
    scripted_agent,
)

QUICK = 5.0
#: A card has no interfaces of 1.0.
LEGACY: dict[str, Any] = {"supportedInterfaces": None}


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with probing_session(aiohttp.TCPConnector()) as session:
        yield session


@pytest.fixture
async def agent() -> AsyncIterator[ScriptedAgent]:
    async with scripted_agent() as found:
        yield found


def probe_of(agent: ScriptedAgent, http: aiohttp.ClientSession, path: str = "") -> A2aProbe:
    return A2aProbe(agent.url + path, session=http)


async def failure_of(probe: A2aProbe, timeout: float = QUICK) -> ProbeError:
    with pytest.raises(ProbeError) as caught:
        await probe.ping(timeout)
    return caught.value


# -- life ---------------------------------------------------------------------------------------


async def test_a_steady_agent_costs_a_question_and_a_304(
    agent: ScriptedAgent, http: aiohttp.ClientSession
) -> None:
    probe = probe_of(agent, http)
    await probe.connect(QUICK)
    first = await probe.refresh(QUICK)
    before = len(agent.seen)
    for _ in range(3):
        await probe.ping(QUICK)
    asked = [(method, path) for method, path, _ in agent.seen[before:]]
    assert asked == 3 * [("POST", "/rpc"), ("GET", agent.card_path)]
    assert agent.counted(304) == 3
    assert probe.requests == 4  # each of which is due once in an interval
    assert await probe.refresh(QUICK) is first
    versions = {headers.get("A2A-Version") for method, _, headers in agent.seen if method == "POST"}
    assert versions == {"1.0"}


@pytest.mark.parametrize(
    ("card", "wanted"),
    [
        # A card of 0.3, whose preferred transport is JSON-RPC unless it says otherwise.
        (
            LEGACY | {"url": "{url}/rpc", "protocolVersion": "0.3.0"},
            "tasks/get",
        ),
        (LEGACY | {"url": "/rpc"}, "tasks/get"),
        # One that says 0.3 and speaks 1.0, and the other way round.
        (LEGACY | {"url": "{url}/rpc", "protocolVersion": "0.3"}, "GetTask"),
        ({}, "tasks/get"),
    ],
)
async def test_both_spellings(
    agent: ScriptedAgent, http: aiohttp.ClientSession, card: dict[str, Any], wanted: str
) -> None:
    filled = {k: v.format(url=agent.url) if isinstance(v, str) else v for k, v in card.items()}
    agent.card, agent.method = agent.usual_card(**filled), wanted
    probe = probe_of(agent, http)
    await probe.ping(QUICK)
    before = len(agent.seen)
    await probe.ping(QUICK)
    assert len(agent.seen) - before == 2  # it is known by then which


@pytest.mark.parametrize("code", [-32001, -32004, -32009, -32602])
async def test_errors_that_only_a_living_agent_gives(
    agent: ScriptedAgent, http: aiohttp.ClientSession, code: int
) -> None:
    agent.error = {"code": code, "message": "no"}
    await probe_of(agent, http).ping(QUICK)


async def test_http_json(agent: ScriptedAgent, http: aiohttp.ClientSession) -> None:
    rest = interface(f"{agent.url}/rest", "HTTP+JSON")
    agent.card = agent.usual_card(supportedInterfaces=[rest])
    probe = probe_of(agent, http)
    await probe.ping(QUICK)
    assert any(path.startswith("/rest/tasks/") for _, path, _ in agent.seen)
    # A 404 that any web server gives is no agent's.
    agent.card = agent.usual_card(supportedInterfaces=[rest | {"url": f"{agent.url}/other"}])
    failure = await failure_of(probe_of(agent, http))
    assert str(failure) == "HTTP 404 from its A2A interface"


@pytest.mark.parametrize(
    ("rpc", "why"),
    [
        (replies(500), "HTTP 500 from its A2A interface"),
        (replies(404), "HTTP 404 from its A2A interface"),
        (replies(text="<html>"), "answered, but not A2A: the body is not JSON"),
        (replies(text="{}"), "answered, but not A2A: the body is no JSON-RPC response"),
        (
            replies(text='{"jsonrpc":"2.0","id":77,"error":{"code":-32001}}'),
            "answered GetTask with another id instead of the request's",
        ),
        (replies(401), "HTTP 401 from its A2A interface: it wants credentials"),
    ],
)
async def test_bad_answers(
    agent: ScriptedAgent, http: aiohttp.ClientSession, rpc: Any, why: str
) -> None:
    probe = probe_of(agent, http)
    await probe.connect(QUICK)
    agent.rpc = rpc
    failure = await failure_of(probe)
    assert isinstance(failure, BadAnswerError) and str(failure) == why


async def test_internal_errors_and_other_protocols_are_bad_answers(
    agent: ScriptedAgent, http: aiohttp.ClientSession
) -> None:
    for code in (-32603, -32600, -32000):
        agent.error = {"code": code, "message": "no"}
        assert f"error {code}" in str(await failure_of(probe_of(agent, http)))
    agent.error, agent.method = NOT_FOUND, "initialize"
    assert "error -32601" in str(await failure_of(probe_of(agent, http)))


async def test_a_card_does_not_keep_an_agent_alive_that_hangs(
    agent: ScriptedAgent, http: aiohttp.ClientSession
) -> None:
    probe = probe_of(agent, http)
    await probe.connect(QUICK)
    agent.rpc = hangs
    assert isinstance(await failure_of(probe, 0.3), NoAnswerError)


async def test_nobody_there(http: aiohttp.ClientSession) -> None:
    async with scripted_agent() as agent:
        pass
    assert isinstance(await failure_of(probe_of(agent, http)), UnreachableError)


# -- the card -----------------------------------------------------------------------------------


async def test_a_change_of_the_card_is_noticed_by_the_next_ping(
    agent: ScriptedAgent, http: aiohttp.ClientSession
) -> None:
    for agent.etag in (True, False):
        agent.card = agent.usual_card()
        probe = probe_of(agent, http)
        await probe.connect(QUICK)
        before = await probe.refresh(QUICK)
        told: list[str] = []
        probe.noticed = lambda told=told: told.append("noticed")  # type: ignore[misc]
        await probe.ping(QUICK)
        assert not told
        agent.card = agent.usual_card(version="2.0.0", skills=[SKILL, SKILL | {"name": "Cancel"}])
        await probe.ping(QUICK)
        after = await probe.refresh(QUICK)
        assert told and after is not before
        assert after.card is not None and len(after.card.skills) == 2


async def test_a_card_that_is_signed_anew_each_time_has_not_changed(
    agent: ScriptedAgent, http: aiohttp.ClientSession
) -> None:
    agent.etag = False
    probe = probe_of(agent, http)
    await probe.connect(QUICK)
    before = await probe.refresh(QUICK)
    agent.card = agent.usual_card(signatures=[{"protected": "e30", "signature": "another"}])
    await probe.ping(QUICK)
    assert await probe.refresh(QUICK) is before


async def test_a_card_that_cannot_be_read_any_more_is_no_death(
    agent: ScriptedAgent, http: aiohttp.ClientSession
) -> None:
    probe = probe_of(agent, http)
    await probe.connect(QUICK)
    agent.card_handler = replies(503)
    await probe.ping(QUICK)
    with pytest.raises(BadAnswerError, match="HTTP 503 from where its agent card should be"):
        await probe.refresh(QUICK)
    agent.card_handler = None
    await probe.ping(QUICK)
    await probe.refresh(QUICK)


async def test_the_address_moves_with_the_card(
    agent: ScriptedAgent, http: aiohttp.ClientSession
) -> None:
    probe = probe_of(agent, http)
    await probe.ping(QUICK)
    rest = interface(f"{agent.url}/rest", "HTTP+JSON")
    agent.card = agent.usual_card(supportedInterfaces=[rest])
    await probe.ping(QUICK)
    agent.rpc = replies(404)
    await probe.ping(QUICK)


@pytest.mark.parametrize(
    ("where", "given"),
    [
        ("/.well-known/agent-card.json", ""),
        ("/.well-known/agent-card.json", "/"),
        ("/.well-known/agent-card.json", "/rpc"),
        ("/.well-known/agent.json", ""),
        ("/agents/travel/.well-known/agent-card.json", "/agents/travel"),
        ("/cards/travel.json", "/cards/travel.json"),
    ],
)
async def test_where_the_card_is(
    agent: ScriptedAgent, http: aiohttp.ClientSession, where: str, given: str
) -> None:
    agent.card_path = where
    await probe_of(agent, http, given).ping(QUICK)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("no", "answered, but not A2A: the body is not JSON"),
        ("[]", "its agent card is not a JSON object"),
        ('{"url": "/rpc"}', "its agent card has no name"),
        ('{"name": "a"}', "its agent card names no interface: .*"),
        ('{"name": "a", "supportedInterfaces": [{"url": ""}, 3]}', "its agent card names no .*"),
        ("[" * 3000 + "]" * 3000, ".*"),
        ('{"name": "' + "a" * 2**20 + '"}', "answered with more than 1048576 bytes"),
        ("[" + "[]," * 20_000 + "[]]", "answered with more than 20,000 JSON values at once"),
    ],
)
async def test_what_is_no_card(
    agent: ScriptedAgent, http: aiohttp.ClientSession, body: str, why: str
) -> None:
    agent.card_handler = replies(text=body)
    with pytest.raises(BadAnswerError, match=f"^{why}$"):
        await probe_of(agent, http).ping(QUICK)


@pytest.mark.parametrize(
    "header", [b"ETag: \xff", b"Last-Modified: now\x01", b"ETag: " + b"a" * 2000]
)
async def test_a_validator_that_cannot_be_sent_back_is_not(
    http: aiohttp.ClientSession, header: bytes
) -> None:
    seen = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        seen.append(head)
        answer: dict[str, Any] = {"name": "a", "url": "/rpc"}
        if head.startswith(b"POST"):
            length = int(head.lower().partition(b"content-length: ")[2].split()[0])
            asked = orjson.loads(await reader.readexactly(length))
            answer = {"jsonrpc": "2.0", "id": asked["id"], "error": NOT_FOUND}
        body = orjson.dumps(answer)
        size = b"Content-Length: %d\r\nConnection: close" % len(body)
        writer.write(b"HTTP/1.1 200 OK\r\n%b\r\n%b\r\n\r\n%b" % (header, size, body))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1") as server:
        host, port = server.sockets[0].getsockname()
        probe = A2aProbe(f"http://{host}:{port}", session=http)
        for _ in range(2):
            await probe.ping(QUICK)
    assert sum(head.startswith(b"GET") for head in seen) == 3
    assert not any(b"\r\nif-" in head.lower() for head in seen)


@pytest.mark.parametrize(
    "odd",
    [
        {"protocolVersion": "1.0\r\nX: y"},
        {"protocolBinding": "GRPC\nERROR"},
        {"tenant": "t" * 2000},
    ],
)
async def test_an_interface_whose_words_no_header_or_reason_can_hold_is_none(
    agent: ScriptedAgent, http: aiohttp.ClientSession, odd: dict[str, str]
) -> None:
    agent.card["supportedInterfaces"][0] |= odd
    assert "names no interface" in str(await failure_of(probe_of(agent, http)))


async def test_credentials_in_an_interfaces_url_are_not_used(
    agent: ScriptedAgent, http: aiohttp.ClientSession
) -> None:
    there = interface(f"http://u:p@127.0.0.1:{agent.port}/rpc")
    agent.card = agent.usual_card(supportedInterfaces=[there])
    await A2aProbe(agent.url, session=http, headers={"Authorization": "Bearer t"}).ping(QUICK)
    assert {seen["Authorization"] for *_, seen in agent.seen} == {"Bearer t"}


def test_what_hostile_cards_say_is_read_in_little_time() -> None:
    many = [{"name": "a"}] * 8_000 + [{"name": "b", "examples": ["e", "e\x1b\nf", *["e"] * 8_000]}]
    card = {"name": "n" * 900_000, "url": "/rpc", "skills": many}
    gc.collect()  # what others left behind is not counted
    began = time.thread_time()
    offer = ServerOffer(AgentCard.of(card, "http://127.0.0.1").introspection)
    assert offer.said["exampleQueries"] == ["e", "e f"]
    assert time.thread_time() - began < 2.0  # each of them beside each takes some seconds
    assert len(offer.info["name"]) < 20_000  # tokens are looked for in no more
    assert len(offer.said["title"]) == 200


async def test_a_redirect_does_not_lead_elsewhere(
    agent: ScriptedAgent, http: aiohttp.ClientSession
) -> None:
    async with scripted_agent() as other:
        agent.card_handler = replies(302, headers={"Location": other.url + other.card_path})
        assert "HTTP 302" in str(await failure_of(probe_of(agent, http)))
        assert not other.seen


# -- whom it asks -------------------------------------------------------------------------------


async def test_nothing_that_a_card_names_elsewhere_is_asked(
    agent: ScriptedAgent, http: aiohttp.ClientSession
) -> None:
    async with scripted_agent() as victim:
        there = interface(f"{victim.url}/pay")
        agent.card = agent.usual_card(supportedInterfaces=[there])
        failure = await failure_of(probe_of(agent, http))
        assert isinstance(failure, NotAskedError)
        assert not victim.seen
        # An agent behind a proxy names the proxy; its path leads to it here as well.
        proxied = interface("https://agents.example.com/rpc")
        agent.card = agent.usual_card(supportedInterfaces=[there, proxied])
        await probe_of(agent, http).ping(QUICK)
        assert not victim.seen


async def test_grpc_alone_cannot_be_asked_but_by_a_health_url(
    agent: ScriptedAgent, http: aiohttp.ClientSession
) -> None:
    grpc = {"url": "127.0.0.1:50051", "protocolBinding": "GRPC", "protocolVersion": "1.0"}
    agent.card = agent.usual_card(supportedInterfaces=[grpc])
    wanted = "serves its card, but none of its interfaces (GRPC) can be asked here"
    probe = probe_of(agent, http)
    for url, status, reason in (
        (None, Status.DEGRADED, wanted),
        (agent.url + agent.card_path, Status.HEALTHY, "its health endpoint answers"),
        (f"{agent.url}/none", Status.DEGRADED, "the health endpoint answered HTTP 404"),
    ):
        check = HealthCheck(http=http, health_url=url, slow_after=1.0, agent=True)
        found = (await check.run(probe, timeout=QUICK)).verdict
        assert (found.status, found.reason) == (status, reason)
    agent.card_handler = replies(500)
    check = HealthCheck(http=http, health_url=None, slow_after=1.0, agent=True)
    assert (await check.run(probe, timeout=QUICK)).verdict.status is Status.DOWN


async def test_an_agent_that_asks_for_credentials_as_its_card_says_is_healthy(
    agent: ScriptedAgent, http: aiohttp.ClientSession
) -> None:
    check = HealthCheck(http=http, health_url=None, slow_after=1.0, agent=True)
    agent.rpc = replies(401)
    found = (await check.run(probe_of(agent, http), timeout=QUICK)).verdict
    assert found.status is Status.DOWN
    scheme = {"httpAuthSecurityScheme": {"scheme": "Bearer"}}
    agent.card = agent.usual_card(
        securitySchemes={"token": scheme}, securityRequirements=[{"schemes": {"token": {}}}]
    )
    for probe in (probe_of(agent, http), A2aProbe(agent.url, session=http)):
        found = (await check.run(probe, timeout=QUICK)).verdict
        assert found.status is Status.HEALTHY
        assert found.reason == "answers, and asks for credentials as its record says"
    # One that has a token, and is refused, is told so.
    token = {"Authorization": "Bearer not-the-right-one"}
    refused = A2aProbe(agent.url, session=http, headers=token)
    assert (await check.run(refused, timeout=QUICK)).verdict.status is Status.DOWN


async def test_reasons_name_the_protocol(agent: ScriptedAgent, http: aiohttp.ClientSession) -> None:
    check = HealthCheck(http=http, health_url=None, slow_after=1.0, agent=True)
    found = (await check.run(probe_of(agent, http), timeout=QUICK)).verdict
    assert (found.status, found.reason) == (Status.HEALTHY, "answers A2A")


async def test_a_secret_in_a_header_stays_out_of_reasons(
    agent: ScriptedAgent, http: aiohttp.ClientSession
) -> None:
    async def echo(request: web.Request) -> web.StreamResponse:
        error = {"code": -32603, "message": request.headers["Authorization"]}
        return web.json_response(
            {"jsonrpc": "2.0", "id": (await request.json())["id"], "error": error}
        )

    agent.rpc = echo
    headers = {"Authorization": "Bearer s3cr3t-of-mine"}
    failure = await failure_of(A2aProbe(agent.url, session=http, headers=headers))
    assert "s3cr3t" not in str(failure)


# -- what is made of a card ---------------------------------------------------------------------


def fields_of(**more: Any) -> dict[str, Any]:
    card = ScriptedAgent().usual_card(**more)
    return ServerOffer(AgentCard.of(card, "http://127.0.0.1").introspection).said


def test_what_a_card_gives_the_record() -> None:
    said = fields_of(
        documentationUrl="https://example.com/docs", iconUrl="https://example.com/a.png"
    )
    assert said["name"] == "travel-agent" and said["title"] == "Travel Agent"
    assert said["description"] == "Plans and books journeys." and said["version"] == "1.2.0"
    assert said["websiteUrl"] == "https://example.com/docs"
    assert said["icons"] == [{"src": "https://example.com/a.png"}]
    assert "tags" not in said  # rights hang on them
    assert said["exampleQueries"] == ["Book me a train to Lyon tomorrow"]


BEARER = {"type": "http", "scheme": "bearer"}
NO_AUTH: dict[str, Any] = {"type": "none", "scopes": []}
OAUTH2 = {"flows": {"clientCredentials": {"tokenUrl": "https://id.example/token", "scopes": {}}}}
WANTED = {"type": "oauth2", "tokenEndpoint": "https://id.example/token", "scopes": ["read"]}


@pytest.mark.parametrize(
    ("schemes", "needed", "auth"),
    [
        ({}, {}, NO_AUTH),
        (
            {"a": BEARER},
            {"security": []},
            NO_AUTH,
        ),
        # Without credentials is one of the alternatives.
        (
            {"a": BEARER},
            {"security": [{"a": []}, {}]},
            NO_AUTH,
        ),
        (
            {"a": BEARER},
            {"security": [{"a": []}]},
            {"type": "bearer", "scopes": []},
        ),
        ({"a": {"type": "oauth2"} | OAUTH2}, {"security": [{"a": ["read"]}]}, WANTED),
        (
            {"a": {"oauth2SecurityScheme": OAUTH2}},
            {"securityRequirements": [{"schemes": {"a": {"list": ["read"]}}}]},
            WANTED,
        ),
        (
            {"a": {"openIdConnectSecurityScheme": {"openIdConnectUrl": "https://id.example"}}},
            {"securityRequirements": [{"schemes": {"a": {"list": ["read"]}}}]},
            {"type": "bearer", "scopes": ["read"]},
        ),
        (
            {"a": {"apiKeySecurityScheme": {"location": "header", "name": "X-Key"}}},
            {"securityRequirements": [{"schemes": {"a": {}}}]},
            {"type": "other", "scopes": []},
        ),
        ({}, {"security": [{"lost": []}]}, {"type": "other", "scopes": []}),
        ({}, {"security": "no", "securityRequirements": 3}, NO_AUTH),
    ],
)
def test_credentials(schemes: dict[str, Any], needed: dict[str, Any], auth: dict[str, Any]) -> None:
    assert fields_of(securitySchemes=schemes, **needed)["auth"] == auth


def test_the_document_gives_the_card_back_and_has_its_skills_once() -> None:
    card = ScriptedAgent().usual_card(signatures=[{"protected": "e30", "signature": "s"}])
    offer = ServerOffer(AgentCard.of(card, "http://127.0.0.1").introspection)
    assert offer.document.agent_card() == card
    assert offer.document.skills == (SKILL,)
    assert offer.document.canonical.count(b"Books trains") == 1
    again = type(offer.document).from_json(offer.document.canonical, digest=offer.document.digest)
    assert again.agent_card() == card
    record, notes = offer.record(
        {"name": "travel", "kind": "agent", "endpoint": {"url": "http://127.0.0.1:9"}}
    )
    assert not notes
    assert record.capabilities.skills == ("Book a trip",)
    assert record.protocol.versions == ("1.0",) and record.protocol.bindings == ("JSONRPC",)
    assert record.protocol.era is None

"""Two lists that differ only in what a caller may not see give it equal bytes, at every door."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.adapters.store import Registration
from mcp_discovery.facade.access.tokens import hash_of, new_token
from mcp_discovery.facade.mcp.resources import SERVERS
from mcp_discovery.facade.registry.index import RegistryIndex
from mcp_discovery.health import Health, utcnow
from mcp_discovery.instance import Holder
from mcp_discovery.query.definition import QueryDefinition
from mcp_discovery.record import is_label
from tests.facade.harness import Client, Reply, served
from tests.facade.mcp.wire import Legacy, enveloped, told
from tests.facade.visibility.asking import Asked, arguments, requests
from tests.facade.visibility.scenes import PARTS, SENTINEL, Made, Scene, scenes, sees_all_of

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
TOKENS = {"caller": new_token("caller"), "operator": new_token("operator")}
#: Differ from request to request, whoever asks for what.
MOVING = {"date", "x-request-id", "server-timing", "mcp-session-id"}


def _now() -> datetime:
    return NOW


def _token(size: int) -> str:
    """Like :func:`secrets.token_hex`, but for the epochs of lists, which are all the same."""
    return "e" * 12 if size == 6 else os.urandom(size).hex()


@pytest.fixture
def clock_stands_still(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every moment in an answer is the same."""
    for name, module in list(sys.modules.items()):
        if name.startswith("mcp_discovery") and getattr(module, "utcnow", None) is utcnow:
            monkeypatch.setattr(module, "utcnow", _now)
    monkeypatch.setattr(secrets, "token_hex", _token)
    monkeypatch.setattr(
        secrets, "token_bytes", bytes
    )  # which versions of named queries are made with
    monkeypatch.setattr("mcp_discovery.adapters.heartbeats.LOAD_EVERY", 0.0)
    usual = {**(RegistryIndex.__init__.__kwdefaults__ or {}), "now": _now}
    monkeypatch.setattr(RegistryIndex.__init__, "__kwdefaults__", usual)
    yield


class Door:
    """One of the two facades: its store, what is registered there, and its clients."""

    def __init__(self, store: EmbeddedStore, ask: Client, operator: Client) -> None:
        self.store = store
        self.ask = ask
        self.operator = operator
        self.registered: dict[str, tuple[Made, Registration]] = {}

    async def show(self, made: tuple[Made, ...]) -> None:
        """Lets the store have ``made`` and nothing else; by their ids, since the order of what is
        seen to happen is seen."""
        wanted = {each.id: each for each in made}
        for id in sorted({*self.registered, *wanted}):
            known, each = self.registered.get(id), wanted.get(id)
            if each is None:
                await self.registered.pop(id)[1].deregister()
                continue
            if known is not None and known[0] == each:
                continue
            if known is not None and known[0].record == each.record:
                await known[1].heartbeat(Health(each.status, "as made", NOW, NOW), each.load)
                self.registered[id] = each, known[1]
                continue
            if known is not None and known[0].owner == each.owner:
                await known[1].update(each.record, each.document)
                await known[1].heartbeat(Health(each.status, "as made", NOW, NOW), each.load)
                self.registered[id] = each, known[1]
                continue
            if known is not None:
                await known[1].deregister()
            registration = await self.store.register(
                each.record,
                each.document,
                ttl=3600,
                reap_after=7200,
                health=Health(each.status, "as made", NOW, NOW),
                holder=Holder("h" * 16, "host", "sidecar", owner=each.owner),
            )
            await registration.heartbeat(Health(each.status, "as made", NOW, NOW), each.load)
            self.registered[id] = each, registration

    def masked(self, data: bytes) -> bytes:
        """``data`` without what is random for each process."""
        return re.sub(rb'"uptime":\d+', b'"uptime":0', data)

    def plain(self, reply: Reply) -> tuple[int, list[tuple[str, str]], bytes]:
        """All of an answer that must not depend on what its caller may not see."""
        body = self.masked(reply.body)
        # Of 9 s and of 10 s the lengths differ, too.
        moving = {*MOVING, "content-length"} if b'"uptime":0' in body else MOVING
        headers = [
            (name, self.masked(value.encode()).decode())
            for name, value in reply.headers.items()
            if name.lower() not in moving
        ]
        return reply.status, headers, body


@asynccontextmanager
async def door(folder: Path, scene: Scene, made: tuple[Made, ...]) -> AsyncIterator[Door]:
    """A facade over a store that has ``made`` from the start."""
    rules = {
        "roles": {"caller": "some", "operator": "read call register report admin"},
        "scopes": {"some": [dict(each) for each in scene.grants]},
        "tokens": {name: {"hash": hash_of(token), "roles": name} for name, token in TOKENS.items()},
    }
    file = folder / "auth.yaml"
    file.write_text(yaml.safe_dump(rules))
    async with EmbeddedStore() as store, AsyncExitStack() as stack:
        first = Door(store, None, None)  # type: ignore[arg-type]
        await first.show(made)
        for name, definition in named_queries(scene):
            await store.put_query(name, definition.encode())
        asked = await stack.enter_async_context(
            served(store, auth=str(file), gateway=True, public_url="http://facade.test")
        )
        for name in TOKENS:
            session = aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKENS[name]}"})
            await stack.enter_async_context(session)
            setattr(first, "ask" if name == "caller" else name, Client(asked.url, session))
        yield first


def named_queries(scene: Scene) -> Iterator[tuple[str, QueryDefinition]]:
    """A named query for each word, about what its caller sees and what it does not."""
    chance = Random(scene.seed)
    for word in filter(is_label, scene.words):
        steps = [
            {
                "filters": {
                    chance.choice(("name", "tags", "tool", "zone")): chance.choice(scene.words)
                }
            }
            for _ in range(3)
        ]
        first: dict[str, Any] = chance.choice([steps[0], {}, {"q": chance.choice(scene.words)}])
        more: dict[str, Any] = {"fallbacks": steps[1:], "least": chance.randint(1, 3)}
        more |= {"strategy": chance.choice((None, "round-robin")), "zone": "eu"}
        yield word, QueryDefinition.model_validate(first | more | {"description": "asked"})


async def both(doors: tuple[Door, Door], asked: Asked) -> Reply:
    """One request at both; returns the answer of the first."""
    replies = [
        await each.ask(asked.method, asked.path, asked.body, headers=asked.headers)
        for each in doors
    ]
    one, other = (door.plain(reply) for door, reply in zip(doors, replies, strict=True))
    if one != other:
        pytest.fail(f"{asked.method} {asked.path} {asked.body}\n{one}\n{other}")
    return replies[0]


async def ask(doors: tuple[Door, Door], scene: Scene, chance: Random, share: float) -> None:
    """Every operation, and everything of ``/mcp``; a random ``share`` of all requests."""
    for asked in requests(scene, chance):
        if chance.random() > share:
            continue
        if asked.path == "/openapi.json" and scene.seed % 8:
            continue  # it is large, and the same for all lists
        if asked.path == "/metrics" and any({*each} == {"verbs"} for each in scene.grants):
            continue  # a clock, and for who administers everything: those see everything, too
        reply = await both(doors, asked)
        assert reply.status < 500, (asked, reply.body)
        if asked.method == "GET" and reply.headers.get("Content-Type") == "application/json":
            await _next_page(doors, asked, reply)
    await _ask_mcp(doors, scene, chance, share)


async def _next_page(doors: tuple[Door, Door], asked: Asked, reply: Reply) -> None:
    content = reply.json if isinstance(reply.json, dict) else {}
    found = content.get("nextCursor") or content.get("metadata", {}).get("nextCursor")
    if reply.status == 200 and found:
        sign = "&" if "?" in asked.path else "?"
        await both(doors, Asked("GET", f"{asked.path}{sign}cursor={found}"))


async def _ask_mcp(doors: tuple[Door, Door], scene: Scene, chance: Random, share: float) -> None:
    async def mcp(method: str, **params: Any) -> Any:
        body, headers = enveloped(method, params)
        return (await both(doors, Asked("POST", "/mcp", body, headers))).json

    for method in ("server/discover", "resources/list", "resources/templates/list"):
        await mcp(method)
    for tool in (await mcp("tools/list"))["result"]["tools"]:
        for _ in range(3):
            given = arguments(scene, tool["inputSchema"], chance)
            await mcp("tools/call", name=tool["name"], arguments=given)
    await mcp("tools/call", name="find_tools", arguments={"limit": 1})  # which has groups
    template = await mcp("resources/templates/list")
    for each in template["result"]["resourceTemplates"]:
        head, _, _ = each["uriTemplate"].partition("{")
        for word in scene.words:
            if chance.random() < share:
                await mcp("resources/read", uri=head + word)


class Streams:
    """What one door sends of itself, until the sentinel comes."""

    def __init__(self, door: Door, scene: Scene) -> None:
        self.door = door
        self.uris = [f"{SERVERS}/{id}" for id in [*scene.ids, SENTINEL]]
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Streams:
        ask, enter = self.door.ask, self._stack.enter_async_context
        no_limit = aiohttp.ClientTimeout()
        self._events = await enter(ask.session.get(f"{ask.url}/events", timeout=no_limit))
        self._socket = await enter(ask.session.ws_connect(f"{ask.url}/registry/stream"))
        await self._socket.send_json(
            {
                "action": "subscribe",
                "events": ["connection-status", "health-check", "capability-request"],
            }
        )
        self._first = [await self._socket.receive_str(timeout=30)]
        position = (await ask("GET", f"/servers?name={SENTINEL}")).headers["X-Discovery-Revision"]
        self.position = position
        self._poll = asyncio.create_task(
            ask("GET", f"/servers?name={SENTINEL}&wait=60s&index={position}")
        )
        body, headers = enveloped(
            "subscriptions/listen",
            {
                "notifications": {
                    "resourcesListChanged": True,
                    "resourceSubscriptions": self.uris,
                }
            },
        )
        self._listen = await enter(told(ask, "POST", body, headers))
        await self._listen.next()
        self._legacy = await Legacy.begun(ask)
        for uri in self.uris:
            await self._legacy.result("resources/subscribe", {"uri": uri})
        self._legacy_stream = await enter(self._legacy.stream())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def received(self) -> tuple[Any, ...]:
        """All that came, the sentinel included."""
        events = b""
        async with asyncio.timeout(30):
            while f'"id":"{SENTINEL}"'.encode() not in events:
                events += await self._events.content.readany()
            messages = self._first
            while SENTINEL not in messages[-1] or '"revision"' in messages[-1]:
                messages.append(await self._socket.receive_str())
            notices = [await self._noticed(each) for each in (self._listen, self._legacy_stream)]
            polled = await self._poll
        resumed = await self._resumed()
        masked = self.door.masked
        return (
            masked(events),
            [masked(each.encode()) for each in messages],
            notices,
            self.door.plain(polled),
            masked(resumed),
        )

    async def _noticed(self, stream: Any) -> set[str]:
        found: set[str] = set()
        while self.uris[-1] not in found:
            message = await stream.next()
            found.add(message.get("params", {}).get("uri", message["method"]))
        return found

    async def _resumed(self) -> bytes:
        ask = self.door.ask
        headers = {"Last-Event-ID": self.position}
        async with ask.session.get(f"{ask.url}/events", headers=headers) as response:
            found = b""
            while f'"id":"{SENTINEL}"'.encode() not in found:
                found += await response.content.readany()
            return found


async def tell_of_use(doors: tuple[Door, Door], scene: Scene) -> None:
    """At the first door, what the caller does not see is used; nothing of what it will see whole,
    figures included."""
    seen = {
        each["id"]: {name for part in PARTS for name in each["capabilities"][part]}
        for each in (await doors[0].ask("GET", "/servers?status=all")).json["servers"]
    }
    whole = {each.id for each in scene.after[0] if sees_all_of(scene.grants, each)}
    outcomes = [
        {"id": made.id, "success": False, "latency": 900, "capability": name}
        for made in scene.before[0]
        for part, name, _ in made.offers
        if part == "tools" and name not in seen.get(made.id, ()) and made.id not in whole
    ]
    if outcomes:
        reply = await doors[0].operator("POST", "/outcomes", {"outcomes": outcomes})
        assert reply.json["counted"] == len(outcomes), reply.body


async def run(scene: Scene) -> None:
    """Everything, before and after the changes, and what comes of itself meanwhile."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with (
            door(folder, scene, scene.before[0]) as one,
            door(folder, scene, scene.before[1]) as other,
        ):
            doors = one, other
            await ask(doors, scene, Random(scene.seed), 0.2)
            async with Streams(one, scene) as first, Streams(other, scene) as second:
                await tell_of_use(doors, scene)
                for each, made in zip(doors, scene.after, strict=True):
                    await each.show(made)
                came, came_too = await first.received(), await second.received()
                for mine, its in zip(came, came_too, strict=True):
                    assert mine == its
            await ask(doors, scene, Random(scene.seed), 1.0)


# Each example takes seconds: to shrink one that fails would take many minutes.
@pytest.mark.slow
@given(scenes())
@settings(max_examples=12, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
def test_what_a_caller_may_not_see_changes_no_byte(clock_stands_still: None, scene: Scene) -> None:
    asyncio.run(run(scene))

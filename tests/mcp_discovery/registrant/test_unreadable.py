"""A server whose lists cannot be read is registered, and degraded with the reason."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.health import ANSWERS, Status
from mcp_discovery.instance import Instance
from mcp_discovery.record import Auth
from tests.facade.harness import served
from tests.facade.plain import HealthServer
from tests.sidecar.harness import Seen, sidecar, watching
from tests.stores.ports import draw
from tests.stores.waiting import until

pytestmark = pytest.mark.slow  # what is tested takes its seconds

INTERVAL = 0.5
#: Seconds for reading all lists: where some never end, and for all others on a busy machine.
BUDGET = 1.0
ENOUGH = 20.0
#: The limit of a document here: the true one takes a busy machine longer to read than the budget.
MOST_BYTES = 2**20
REGISTRANTS = ["sidecar", "facade"]
LISTS = {
    "tools/list": ("tools", [{"name": "search", "inputSchema": {"type": "object"}}]),
    "resources/list": ("resources", [{"uri": "shop://a", "name": "a"}]),
    "resources/templates/list": ("resourceTemplates", [{"uriTemplate": "shop://{a}", "name": "t"}]),
    "prompts/list": ("prompts", [{"name": "explain"}]),
    "skills/list": (
        "skills",
        [{"uri": "skill://refunds/SKILL.md", "frontmatter": {"name": "refunds"}}],
    ),
}
Answer = Callable[["Offering", dict[str, Any]], Any]


@dataclass
class Offering(HealthServer):
    """A server that offers one of each; what is in ``broken`` is answered as that says."""

    broken: dict[str, Answer] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        super().__init__()
        self.fault = self._offered

    async def _offered(self, request: web.Request) -> web.StreamResponse:
        message = await request.json()
        method = message["method"]
        self.counts[method] += 1
        if method == "server/discover":
            everything: dict[str, Any] = {"tools": {}, "resources": {}, "prompts": {}}
            everything["extensions"] = {"io.modelcontextprotocol/skills": {}}
            result = {"supportedVersions": ["2026-07-28"], "capabilities": everything}
            info = {"io.modelcontextprotocol/serverInfo": {"name": "shop", "version": "1.0.0"}}
            return self._result(message, result | {"_meta": info})
        if (broken := self.broken.get(method)) is not None:
            found = broken(self, message)
            if inspect.isawaitable(found):
                found = await found
            if isinstance(found, web.Response):
                return found
            if isinstance(found, dict):
                return self._result(message, found)
            if found is None:
                assert request.transport is not None
                request.transport.close()
            else:
                await asyncio.sleep(found)
        if method not in LISTS:
            return self._result(message, {})
        key, items = LISTS[method]
        return self._result(message, {key: items})

    def _result(self, message: dict[str, Any], result: dict[str, Any]) -> web.Response:
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": result})


def status(number: int) -> Answer:
    return lambda _, __: web.Response(status=number)


def error(code: int) -> Answer:
    def answer(_: Offering, message: dict[str, Any]) -> web.Response:
        body = {"jsonrpc": "2.0", "id": message["id"], "error": {"code": code, "message": "no"}}
        return web.json_response(body)

    return answer


def loop(_: Offering, __: dict[str, Any]) -> dict[str, Any]:
    return {"tools": [{"name": "search"}], "nextCursor": "again"}


def endless(server: Offering, message: dict[str, Any]) -> dict[str, Any]:
    number = int(message["params"].get("cursor", "0"))
    return {"tools": [{"name": f"tool-{number}"}], "nextCursor": str(number + 1)}


async def endless_and_slow(server: Offering, message: dict[str, Any]) -> dict[str, Any]:
    await asyncio.sleep(0.02)
    return endless(server, message)


def shape(key: str, value: Any) -> Answer:
    return lambda _, __: {key: value}


def too_large(_: Offering, __: dict[str, Any]) -> dict[str, Any]:
    return {"tools": [{"name": "big", "description": "x" * (MOST_BYTES + 1)}]}


def hangs(_: Offering, __: dict[str, Any]) -> float:
    return 30.0


CASES: list[tuple[str, dict[str, Answer], str]] = [
    ("500", {"tools/list": status(500)}, "its tools cannot be read: HTTP 500 from the MCP"),
    ("an error", {"tools/list": error(-32603)}, "its tools cannot be read: answered tools/list"),
    ("hangs", {"tools/list": hangs}, "its tools cannot be read: tools/list is not"),
    ("loop", {"tools/list": loop}, "its tools cannot be read: tools/list gives the cursor"),
    ("endless", {"tools/list": endless}, "its tools cannot be read: tools/list"),
    ("slow", {"tools/list": endless_and_slow}, "its tools cannot be read: tools/list is not"),
    ("closes", {"tools/list": lambda _, __: None}, "its tools cannot be read: the server closed"),
    ("shape", {"tools/list": shape("tools", {})}, "its tools cannot be read: answered, but not"),
    ("no page", {"tools/list": lambda _, __: web.Response()}, "its tools cannot be read: answered"),
    ("limits", {"tools/list": status(429)}, "its tools cannot be read: HTTP 429 from the MCP"),
    ("prompts", {"prompts/list": status(500)}, "its prompts cannot be read: HTTP 500 from"),
    ("resources", {"resources/list": error(-32000)}, "its resources cannot be read: answered"),
    (
        "templates",
        {"resources/templates/list": status(500)},
        "its resource templates cannot be read: HTTP 500",
    ),
    ("skills", {"skills/list": status(500)}, "its skills cannot be read: HTTP 500 from"),
    (
        "several",
        {"tools/list": status(500), "prompts/list": status(500)},
        "its tools and prompts cannot be read: HTTP 500",
    ),
    ("too large", {"tools/list": too_large}, "what it offers cannot be listed: the capability"),
]


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Offering]:
    monkeypatch.setattr("mcp_discovery.document.MAX_DOCUMENT_BYTES", MOST_BYTES)
    server = Offering()
    await server.start()
    yield server
    await server.stop()


@asynccontextmanager
async def registered(
    by: str, server: Offering, broken: dict[str, Answer]
) -> AsyncIterator[tuple[Seen, str]]:
    """What a store shows of a server that is, or will be, ``broken``, and where the registrant's
    figures are."""
    budget = ENOUGH if {hangs, endless, endless_and_slow}.isdisjoint(broken.values()) else BUDGET
    url = f"{server.base_url}/mcp"
    async with EmbeddedStore() as store, watching(store) as seen:
        if by == "sidecar":
            port = draw().number
            terms: dict[str, Any] = {"name": "products", "probe_interval": INTERVAL}
            terms |= {"introspect_timeout": budget, "health_port": port, "slow_after": 0.4}
            async with sidecar(store, url, **terms):
                yield seen, f"http://127.0.0.1:{port}/metrics"
        else:
            async with served(store, probe_interval=INTERVAL, probe_timeout=budget) as ask:
                body: dict[str, Any] = {"id": "a", "name": "products", "url": url}
                assert (await ask("POST", "/servers", body)).status == 201
                yield seen, f"{ask.url}/metrics"


async def troubled(seen: Seen, reason: str) -> Instance:
    return await seen.until(
        lambda one: (
            one.health.status is Status.DEGRADED
            and one.health.reason.startswith(f"{ANSWERS}, but {reason}")
        ),
        within=15.0,
        what=reason,
    )


async def read_whole(seen: Seen) -> Instance:
    return await seen.until(
        lambda one: (
            one.record.capabilities.tools == ("search",)
            and one.record.capabilities.prompts == ("explain",)
            and one.record.capabilities.skills == ("refunds",)
        ),
        within=15.0,
        what="all that it offers",
    )


async def counted(metrics: str) -> float:
    async with aiohttp.ClientSession() as http, http.get(metrics) as response:
        lines = (await response.text()).splitlines()
    found = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return next(float(value) for name, value in found.items() if name.endswith("unreadable_total"))


@pytest.mark.parametrize("by", REGISTRANTS)
@pytest.mark.parametrize(
    ("broken", "reason"), [each[1:] for each in CASES], ids=[c[0] for c in CASES]
)
async def test_what_cannot_be_read_from_the_first(
    server: Offering, by: str, broken: dict[str, Answer], reason: str
) -> None:
    """It is registered with what can be read, and whole when it all can."""
    server.broken = dict(broken)
    async with registered(by, server, broken) as (seen, metrics):
        one = await troubled(seen, reason)
        offered = one.record.capabilities
        if "tools/list" in broken:
            assert offered.tools == ()
        if "what it offers" not in reason and "prompts/list" not in broken:
            assert offered.prompts == ("explain",)
        if "prompts/list" in broken and "tools/list" not in broken:
            assert offered.tools == ("search",)
        if "what it offers" not in reason:
            assert offered.skills == (() if "skills/list" in broken else ("refunds",))
        assert await counted(metrics) == 1
        server.broken.clear()
        one = await seen.until_status(Status.HEALTHY, within=15.0)
        assert one.health.reason == ANSWERS
        await read_whole(seen)
        assert "down" not in {one.health.status.value for _, _, one in seen.history if one}


@pytest.mark.parametrize("by", REGISTRANTS)
@pytest.mark.parametrize(
    ("broken", "reason"), [each[1:] for each in CASES], ids=[c[0] for c in CASES]
)
async def test_what_was_known_stays_while_it_cannot_be_read(
    server: Offering, by: str, broken: dict[str, Answer], reason: str
) -> None:
    async with registered(by, server, broken) as (seen, _):
        await seen.until_status(Status.HEALTHY, within=15.0)
        whole = await read_whole(seen)
        server.broken = dict(broken)
        one = await troubled(seen, reason)
        assert one.record.capabilities == whole.record.capabilities
        server.broken.clear()
        one = await seen.until_status(Status.HEALTHY, within=15.0)
        assert one.record.capabilities == whole.record.capabilities


@pytest.mark.parametrize("by", REGISTRANTS)
async def test_a_list_that_never_ends_is_begun_and_not_read_again_and_again(
    server: Offering, by: str
) -> None:
    server.broken = {"tools/list": endless}
    async with registered(by, server, server.broken) as (seen, _):
        await troubled(seen, "its tools cannot be read: tools/list")
        await asyncio.sleep(2.0)
        before = sum(server.counts.values())
        await asyncio.sleep(20 * INTERVAL)
        assert sum(server.counts.values()) - before <= 20 + 4


@pytest.mark.parametrize("by", REGISTRANTS)
async def test_a_list_that_never_ends_keeps_no_other_from_being_read_later(
    server: Offering, by: str
) -> None:
    def late_at_first(server: Offering, _: dict[str, Any]) -> float:
        # The second list has a quarter of the time.
        return BUDGET / 2 if server.counts["resources/list"] == 1 else 0.0

    server.broken = {"tools/list": endless_and_slow, "resources/list": late_at_first}
    async with registered(by, server, server.broken) as (seen, _):
        await troubled(seen, "its tools and resources cannot be read")
        await troubled(seen, "its tools cannot be read: tools/list is not read to its end")
        await seen.until(
            lambda one: one.record.capabilities.resources, within=15.0, what="its resources"
        )


@pytest.mark.parametrize("by", REGISTRANTS)
async def test_reading_in_vain_while_the_machine_stands_still_puts_nothing_off(
    server: Offering, by: str
) -> None:
    """All the time for a reading is over at once, after more requests than are due in a minute."""
    stalled = False

    def stalls(server: Offering, message: dict[str, Any]) -> dict[str, Any]:
        nonlocal stalled
        if server.counts["tools/list"] == 200 and not stalled:
            stalled = True
            time.sleep(1.2 * BUDGET)
        return endless(server, message)

    server.broken = {"tools/list": stalls, "resources/templates/list": endless}
    async with registered(by, server, server.broken) as (seen, _):
        await troubled(seen, "its tools")
        assert stalled


@pytest.mark.parametrize("by", REGISTRANTS)
async def test_lists_that_want_the_credentials_that_the_record_announces_are_no_trouble(
    server: Offering, by: str
) -> None:
    server.broken = dict.fromkeys(LISTS, status(401))
    url = f"{server.base_url}/mcp"
    async with EmbeddedStore() as store, watching(store) as seen:
        auth = {"type": "bearer"}
        if by == "sidecar":
            terms: dict[str, Any] = {"name": "products", "probe_interval": INTERVAL}
            async with sidecar(store, url, auth=Auth.model_validate(auth), **terms):
                one = await seen.until_status(Status.HEALTHY, within=15.0)
        else:
            async with served(store, probe_interval=INTERVAL) as ask:
                body = {"id": "a", "name": "products", "url": url, "auth": auth}
                assert (await ask("POST", "/servers", body)).status == 201
                one = await seen.until_status(Status.HEALTHY, within=15.0)
        assert one.health.reason == ANSWERS


async def test_a_posted_server_keeps_what_is_known_of_it_when_another_facade_takes_over(
    server: Offering,
) -> None:
    async with EmbeddedStore() as store, watching(store) as seen:
        async with served(store, probe_interval=INTERVAL, posted_ttl=2.0) as ask:
            body = {"id": "a", "name": "products", "url": f"{server.base_url}/mcp"}
            assert (await ask("POST", "/servers", body)).status == 201
            await seen.until(
                lambda one: one.record.capabilities.tools == ("search",),
                within=15.0,
                what="its tools",
            )
        server.broken = {"tools/list": status(500)}
        async with served(store, probe_interval=INTERVAL) as ask:

            async def told() -> bool:
                entry = (await ask("GET", "/servers/a")).json
                return "its tools cannot be read" in entry["reason"]

            await until(told, timeout=20.0, what="the reason")
            entry = (await ask("GET", "/servers/a")).json
            assert entry["capabilities"]["tools"] == ["search"]
            assert entry["status"] == "degraded"

"""How much a caller may ask for: rates, open streams, and what it is told of them."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mcp_discovery.adapters import open_store
from mcp_discovery.adapters.store import StoreOptions
from mcp_discovery.errors import InvalidInputError
from mcp_discovery.facade.access import quotas
from mcp_discovery.facade.access.caller import Caller, key_of_address
from mcp_discovery.facade.access.limits_section import (
    DEFAULTS,
    CallerLimits,
    LimitRules,
    LimitsSection,
    limits_of_options,
)
from mcp_discovery.facade.access.quota_stores import LocalCounts, LocalWindows
from mcp_discovery.facade.access.rights import Rights
from mcp_discovery.health import Health, Status
from tests.facade.access.tokens import TOKENS, bearer, guarded, write_auth_file
from tests.facade.harness import Client, Reply, leased, served
from tests.records import document, record
from tests.stores.waiting import until

_PING = {"jsonrpc": "2.0", "id": 7, "method": "ping"}
_MCP = {"Accept": "application/json, text/event-stream"}


def limited(section: dict[str, Any]) -> dict[str, Any]:
    return {"limits": section}


def is_refused(reply: Reply, kind: str) -> None:
    assert reply.status == 429, reply.body
    assert reply.json["type"] == "urn:mcp-discovery:problem:quota-exceeded"
    assert reply.json["violated-policies"] == [kind]
    after = int(reply.headers["Retry-After"])
    assert 1 <= after <= 60
    assert re.fullmatch(rf'"{kind}";r=0(;t=\d+)?', reply.headers["RateLimit"])


# -- what the file and the options say --------------------------------------------------------


def _caller(*roles: str, anonymous: bool = False) -> Caller:
    if anonymous:
        return Caller("", "anonymous", roles, Rights(()), "192.0.2.1")
    return Caller("a", "token", roles, Rights(()), "192.0.2.1")


def test_the_most_generous_role_counts_in_each() -> None:
    section = LimitsSection.model_validate(
        {
            "default": {"reads": "10/minute", "streams": 2, "writes": "1/hour"},
            "roles": {
                "a": {"reads": "100/minute", "least_ttl": 10, "most_ttl": 60},
                "b": {"reads": "20/second", "streams": "unlimited", "least_ttl": 5},
            },
        }
    )
    rules = LimitRules(section, DEFAULTS)
    both, one = rules.of(_caller("a", "b")), rules.of(_caller("a"))
    assert (str(both.reads), both.streams, both.least_ttl) == ("20 in 1 s", None, 5)
    assert (str(one.reads), one.streams, str(one.writes)) == ("100 in 60 s", 2, "1 in 3600 s")
    assert str(rules.of(_caller("c")).reads) == "10 in 60 s"
    assert rules.of(_caller(anonymous=True)).reads == DEFAULTS.reads


@pytest.mark.parametrize(
    "given",
    ["600", "0/minute", "a/minute", "5/year", "5/month", "-1/second", 600, "1/minute;2/day"],
)
def test_rates_that_are_none(given: object) -> None:
    with pytest.raises(ValueError, match="is no rate; write for example 600/minute"):
        CallerLimits.model_validate({"reads": given})


def test_options_say_the_same() -> None:
    found = limits_of_options(["reads=5/second", "streams=unlimited", "entries=7", "most_ttl=60"])
    assert (str(found.reads), found.streams, found.entries) == ("5 in 1 s", None, 7)
    assert found.writes == DEFAULTS.writes
    for wrong, words in (("reeds=5/second", "did you mean reads"), ("reads=5", "is no rate")):
        with pytest.raises(InvalidInputError, match=words):
            limits_of_options([wrong])


def test_a_client_has_a_whole_64_of_ipv6() -> None:
    assert key_of_address("2001:db8::1") == key_of_address("2001:db8::ffff:1")
    assert key_of_address("2001:db8::1") != key_of_address("2001:db8:0:1::1")
    assert key_of_address("192.0.2.1") != key_of_address("192.0.2.2")


async def test_windows_in_memory_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_discovery.facade.access.quota_stores._MOST_KEYS", 10)
    storage = LocalWindows()
    counts = LocalCounts(storage)
    rate = limits_of_options(["reads=200/minute"]).reads
    assert rate is not None
    for number in range(50):
        count = await counts.take(rate, "reads", str(number))
        assert (count.taken, count.remaining) == (2, 198)
    assert await storage.reset() == 10


async def test_a_window_slides() -> None:
    counts = LocalCounts()
    rate = limits_of_options(["reads=3/second"]).reads
    assert rate is not None

    async def left() -> bool:
        return (await counts.take(rate, "reads", "a")).taken > 0

    assert [await left() for _ in range(3)] == [True] * 3
    assert not await left()
    await until(left, timeout=5, what="more after the window")


# -- at the facade ----------------------------------------------------------------------------


async def test_an_anonymous_caller_is_told_what_is_left_and_then_when_to_come_again() -> None:
    async with served(limits=("reads=5/minute",)) as ask:
        replies = [await ask("GET", "/servers") for _ in range(8)]
        good = [each for each in replies if each.status == 200]
        assert len(good) == 5
        assert good[0].headers["RateLimit-Policy"] == '"reads";q=5;w=60'
        left = [int(re.findall(r"r=(\d+)", each.headers["RateLimit"])[0]) for each in good]
        assert left == list(range(len(good)))[::-1]
        is_refused(replies[-1], "reads")
        # What is open to everybody is not counted, and other kinds are left.
        assert (await ask("GET", "/health")).status == 200
        assert (await ask("POST", "/servers", leased("a"))).status == 201
        reply = await ask("POST", "/mcp", _PING, headers=_MCP)
        assert (reply.status, reply.json["error"]["data"]["status"]) == (429, 429)
        assert reply.headers["Content-Type"].startswith("application/json")


async def test_limits_are_a_callers_own_and_follow_the_file(tmp_path: Path) -> None:
    section = {"default": {"reads": "3/minute"}, "roles": {"operator": {"reads": "unlimited"}}}
    async with guarded(tmp_path, limited(section)) as ask:
        for _ in range(3):
            assert (await ask("GET", "/servers", headers=bearer("reader"))).status == 200
        is_refused(await ask("GET", "/servers", headers=bearer("reader")), "reads")
        assert (await ask("GET", "/servers", headers=bearer("registrar"))).status == 200
        for _ in range(10):
            reply = await ask("GET", "/servers", headers=bearer("operator"))
            assert (reply.status, "RateLimit" in reply.headers) == (200, False)
        write_auth_file(tmp_path / "auth.yaml", limits={"default": {"reads": "1000/minute"}})

        async def is_let_in() -> bool:
            return (await ask("GET", "/servers", headers=bearer("reader"))).status == 200

        await until(is_let_in, timeout=10, what="the new limit counting")


async def test_what_is_refused_counts_too(tmp_path: Path) -> None:
    section = {"default": {"writes": "3/minute"}, "anonymous": {"refusals": "4/minute"}}
    async with guarded(tmp_path, limited(section)) as ask:
        for _ in range(3):
            assert (await ask("DELETE", "/servers/a", headers=bearer("reader"))).status == 403
        is_refused(await ask("DELETE", "/servers/a", headers=bearer("reader")), "writes")
        wrong = {"Authorization": "Bearer mcpd_reader_" + "x" * 43}
        for _ in range(4):
            assert (await ask("GET", "/servers", headers=wrong)).status == 401
        is_refused(await ask("GET", "/servers", headers=wrong), "refusals")
        # Who has a valid one at the same address is not concerned.
        assert (await ask("GET", "/servers", headers=bearer("reader"))).status == 200


async def test_heartbeats_are_not_starved_by_reads_and_writes(tmp_path: Path) -> None:
    section = {"default": {"reads": "1/minute", "writes": "1/minute"}}
    async with guarded(tmp_path, limited(section)) as ask:
        mine = bearer("registrar")
        lease = {"holder": "h" * 16, "ttl": 30}
        body = leased("a", lease=lease)
        assert (await ask("POST", "/servers", body, headers=mine)).status == 201
        is_refused(await ask("POST", "/servers", body, headers=mine), "writes")
        for _ in range(20):
            beat = await ask("POST", "/servers/a/heartbeat", {"holder": "h" * 16}, headers=mine)
            assert beat.status == 200, beat.body


def test_streams_that_are_open_are_counted_in_words() -> None:
    for most, says in ((1, "you have 1 stream open, "), (2, "you have 2 streams open, ")):
        assert str(quotas._too_many_streams(most)).startswith(says)


async def test_open_streams(tmp_path: Path) -> None:
    async with guarded(tmp_path, limited({"default": {"streams": 2}})) as ask:
        mine, other = bearer("reader"), bearer("operator")
        async with (
            ask.events(**mine) as events,
            ask.session.ws_connect(f"{ask.url}/registry/stream", headers=mine),
        ):
            await events.next()
            is_refused(await ask("GET", "/events", headers=mine), "streams")
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await ask.session.ws_connect(f"{ask.url}/registry/stream", headers=mine)
            assert refused.value.status == 429
            async with ask.events(**other) as others:
                await others.next()
            assert (await ask("GET", "/servers", headers=mine)).status == 200

        async def is_let_in() -> bool:
            async with ask.session.get(f"{ask.url}/events", headers=mine) as response:
                return response.status == 200

        await until(is_let_in, timeout=10, what="a stream that was closed being free")


async def test_messages_of_a_websocket_are_counted(tmp_path: Path) -> None:
    async with guarded(tmp_path, limited({"default": {"reads": "3/minute"}})) as ask:
        url = f"{ask.url}/registry/stream"
        async with ask.session.ws_connect(url, headers=bearer("reader")) as socket:
            kinds = []
            for _ in range(4):
                await socket.send_json({"action": "unsubscribe"})
                kinds.append((await socket.receive_json(timeout=10))["type"])
            assert kinds == ["unsubscribed", "unsubscribed", "error", "error"]


async def test_calls_through_the_facade_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = {"default": {"calls": "2/minute"}}
    async with guarded(tmp_path, limited(section), gateway=True) as ask:
        mine = _MCP | bearer("operator")
        for _ in range(2):
            assert (await ask("POST", "/gateway/a/mcp", _PING, headers=mine)).status == 404
        reply = await ask("POST", "/gateway/a/mcp", _PING, headers=mine)
        assert (reply.status, reply.json["error"]["data"]["violated-policies"]) == (429, ["calls"])
        assert int(reply.headers["Retry-After"]) >= 1


async def test_nothing_is_counted_unless_it_is_asked_for(ask: Client) -> None:
    reply = await ask("GET", "/servers")
    assert "RateLimit" not in reply.headers
    assert "limits" not in (await ask("GET", "/status")).json


@pytest.mark.parametrize("role", ["registrar", None])
async def test_entries_are_bounded_however_they_come(tmp_path: Path, role: str | None) -> None:
    limits = {"entries": 3}
    section = {"default": limits, "anonymous": limits, "roles": {"operator": {"entries": 100}}}
    sections = limited(section) | {"anonymous": "registrar"}
    async with guarded(tmp_path, sections) as ask:
        mine = {} if role is None else bearer(role)
        new = [leased(f"a{n}", lease={"holder": f"{n:016}", "ttl": 30}) for n in range(6)]
        replies = await asyncio.gather(*(ask("POST", "/servers", b, headers=mine) for b in new))
        assert sorted(each.status for each in replies) == [201, 201, 201, 403, 403, 403]
        refused = next(each for each in replies if each.status == 403).json
        assert refused["type"].endswith("too-many-entries")
        assert (refused["entries"], refused["most"]) == (3, 3)
        # One of these again is no other; others of other callers are none of these.
        mine_again = new[[each.status for each in replies].index(201)]
        assert (await ask("POST", "/servers", mine_again, headers=mine)).status == 201
        other = leased("b0", name="b", lease={"holder": "b" * 16, "ttl": 30})
        assert (await ask("POST", "/servers", other, headers=bearer("operator"))).status == 201
        item = {"name": "c", "endpoint": "http://127.0.0.1:1/mcp", "protocol": "http"}
        assert (await ask("POST", "/connections", item, headers=mine)).status == 403
        reply = await ask("POST", "/registry/import", {"connections": [item]}, headers=mine)
        assert reply.status == 409
        assert "entries that you may have" in reply.json["refused"][0]["reason"]


async def test_the_ttl_of_registrations_is_bounded(tmp_path: Path) -> None:
    section = {"default": {"least_ttl": 10, "most_ttl": 60}}
    async with guarded(tmp_path, limited(section)) as ask:
        for ttl, status in ((5, 422), (10, 201), (60, 201), (61, 422)):
            body = leased("a", lease={"holder": "h" * 16, "ttl": ttl})
            reply = await ask("POST", "/servers", body, headers=bearer("registrar"))
            assert reply.status == status, reply.body
            if status == 422:
                assert "give one from 10 s to 60 s" in reply.json["detail"]


@pytest.mark.slow
async def test_a_sidecars_store_waits_as_long_as_it_is_told(tmp_path: Path) -> None:
    async with guarded(tmp_path, limited({"default": {"writes": "1/second"}})) as ask:
        options = StoreOptions(token=TOKENS["registrar"], timeout=20)
        async with open_store(ask.url, options) as store:
            for number in range(4):
                mine = record(f"a-{number}")
                registration = await store.register(mine, document("find"), ttl=30, reap_after=60)
                await registration.heartbeat(Health(Status.HEALTHY, "answers MCP"))
        assert len((await ask("GET", "/servers", headers=bearer("operator"))).ids) == 4

"""Named queries over HTTP: kept, answered with fall-backs and zones, changed by nobody else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.facade.servers.search_index import ServerSearch
from mcp_discovery.query.definition import MAX_DEFINITION, MAX_QUERIES
from mcp_discovery.query.question import Question
from tests.facade.harness import Client, leased, served
from tests.facade.mcp.wire import enveloped
from tests.stores.waiting import until


async def _registered(ask: Client, id: str, **more: Any) -> None:
    reply = await ask("POST", "/servers", leased(id, **more))
    assert reply.status == 201, reply.body


async def _kept(ask: Client, name: str, **definition: Any) -> str:
    reply = await ask("PUT", f"/queries/{name}", definition)
    assert reply.status in (200, 201), reply.body
    etag: str = reply.headers["ETag"]
    return etag


async def test_a_query_is_kept_and_answered_in_the_shape_of_a_list() -> None:
    async with served() as ask:
        await _registered(ask, "a", tags=["payments"])
        await _registered(ask, "b", tags=["other"])
        put = await ask("PUT", "/queries/pay", {"filters": {"tags": ["payments"]}})
        assert put.status == 201
        assert put.json["definition"] == {"filters": {"tags": ["payments"]}}
        assert (await ask("PUT", "/queries/pay", put.json["definition"])).status == 200
        reply = await ask("GET", "/queries/pay")
        assert (reply.status, reply.ids) == (200, ["a"])
        assert {**reply.json, "servers": None} == {
            "query": "pay",
            "answeredBy": 0,
            "total": 1,
            "servers": None,
        }
        listed = await ask("GET", "/servers?tags=payments")
        assert reply.json["servers"] == listed.json["servers"]
        assert reply.headers["X-Discovery-Revision"] == listed.headers["X-Discovery-Revision"]
        again = await ask("GET", "/queries/pay", headers={"If-None-Match": reply.headers["ETag"]})
        assert again.status == 304
        some = await ask("GET", "/queries/pay?fields=name")
        assert some.json["servers"] == [{"id": "a", "name": "products"}]
        kept = await ask("GET", "/queries")
        assert kept.json == {"queries": [put.json | {"description": ""}]}
        assert (await ask("DELETE", "/queries/pay")).status == 204
        gone = await ask("GET", "/queries/pay")
        assert (gone.status, gone.json["type"]) == (404, "urn:mcp-discovery:problem:unknown-query")
        assert (await ask("DELETE", "/queries/pay")).status == 404
        assert (await ask("GET", "/queries")).json == {"queries": []}


async def test_fall_backs_are_asked_in_order_while_there_are_too_few() -> None:
    steps = [{"filters": {"tags": [tag]}} for tag in ("first", "second", "third")]
    async with served() as ask:
        await _kept(ask, "pay", **steps[0], fallbacks=steps[1:])
        none = await ask("GET", "/queries/pay")
        assert (none.status, none.ids, none.json["answeredBy"]) == (200, [], None)
        for number, tag in ((2, "third"), (1, "second"), (0, "first")):
            await _registered(ask, f"of-{tag}", tags=[tag])
            reply = await ask("GET", "/queries/pay")
            assert (reply.ids, reply.json["answeredBy"]) == ([f"of-{tag}"], number)
        await _kept(ask, "pay", **steps[0], fallbacks=steps[1:], least=2)
        # None has two: the one with most, and of equals the first.
        assert (await ask("GET", "/queries/pay")).json["answeredBy"] == 0
        await _registered(ask, "of-second-2", tags=["second"])
        reply = await ask("GET", "/queries/pay")
        assert (sorted(reply.ids), reply.json["answeredBy"]) == (["of-second", "of-second-2"], 1)
        health = {"status": "down", "reason": "broken"}
        for id in ("of-second", "of-second-2"):
            assert (await ask("POST", f"/servers/{id}/heartbeat", health)).status == 200
        assert (await ask("GET", "/queries/pay")).ids == ["of-first"]


async def test_a_zone_comes_first_and_the_askers_own_takes_its_place() -> None:
    async with served() as ask:
        for id, zone in (("a", "eu-1"), ("b", "eu-2"), ("c", "eu-1"), ("d", "eu-2")):
            await _registered(ask, id, zone=zone)
        await _kept(ask, "near", zone="eu-2")
        reply = await ask("GET", "/queries/near")
        assert (reply.ids, reply.json["inZone"]) == (["b", "d", "a", "c"], 2)
        reply = await ask("GET", "/queries/near?zone=eu-1&limit=3")
        assert (reply.ids, reply.json["inZone"], reply.json["total"]) == (["a", "c", "b"], 2, 4)
        reply = await ask("GET", "/queries/near?zone=moon")
        assert (reply.ids, reply.json["inZone"]) == (["a", "b", "c", "d"], 0)
        await _kept(ask, "anywhere", limit=1)
        reply = await ask("GET", "/queries/anywhere?limit=7")
        assert (reply.ids, "inZone" in reply.json) == (["a"], False)


async def test_a_strategy_orders_each_zone_by_itself() -> None:
    async with served() as ask:
        for id, zone, active in (("a", "x", 9), ("b", "x", 1), ("c", "y", 0)):
            await _registered(ask, id, zone=zone)
            load = {"load": {"active": active, "capacity": 10}}
            assert (await ask("POST", f"/servers/{id}/heartbeat", load)).status == 200
        await _kept(ask, "pay", strategy="least-loaded", zone="x")
        assert (await ask("GET", "/queries/pay")).ids == ["b", "a", "c"]
        await _kept(ask, "turns", strategy="round-robin", limit=1)
        assert [(await ask("GET", "/queries/turns")).ids for _ in range(4)] == [
            ["a"],
            ["b"],
            ["c"],
            ["a"],
        ]
        await _kept(ask, "sticky", strategy="consistent-hash", limit=1)
        answers = {tuple((await ask("GET", "/queries/sticky?key=me")).ids) for _ in range(5)}
        assert len(answers) == 1
        for path, problem in (("sticky", "key is missing"), ("turns?key=me", "key means nothing")):
            reply = await ask("GET", f"/queries/{path}")
            assert reply.status == 400
            assert problem in reply.json["detail"]


async def test_words_find_the_best_first() -> None:
    async with served() as ask:
        await _registered(ask, "a", name="ledger", description="books, and some payments")
        await _registered(ask, "b", name="payments")
        await _registered(ask, "c", name="weather")
        await _kept(ask, "pay", q="payments")
        reply = await ask("GET", "/queries/pay")
        assert reply.ids == ["b", "a"]
        listed = await ask("GET", "/servers?q=payments")
        assert reply.json["servers"] == listed.json["servers"]
        assert "payments (name)" in reply.json["servers"][0]["why"]
        some = await ask("GET", "/queries/pay?fields=why&limit=1")
        assert some.json["servers"][0].keys() == {"id", "why"}


async def test_words_that_many_ask_for_are_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    searches: list[str] = []
    search = ServerSearch.servers

    async def counted(self: ServerSearch, question: Question, *scales: Any) -> Any:
        searches.append(str(question.words))
        return await search(self, question, *scales)

    monkeypatch.setattr(ServerSearch, "servers", counted)
    async with served() as ask:
        await _registered(ask, "a", description="Weather forecasts")
        await _kept(ask, "sky", q="weather", least=2, fallbacks=[{"q": "forecasts"}])
        zones = [f"?zone=zone-{number}" for number in range(10)]
        replies = await asyncio.gather(*(ask("GET", f"/queries/sky{each}") for each in zones))
        assert [each.ids for each in replies] == [["a"]] * 10
        assert len(searches) == 2
        await _registered(ask, "b", description="Weather at sea")
        assert set((await ask("GET", "/queries/sky")).ids) == {"a", "b"}


async def test_a_model_asks_by_the_name() -> None:
    async with served() as ask:
        await _registered(ask, "a", tags=["spare"])
        await _kept(ask, "pay", filters={"tags": "pay"}, fallbacks=[{"filters": {"tags": "spare"}}])

        async def call(**arguments: Any) -> Any:
            params = {"name": "find_servers", "arguments": arguments}
            body, headers = enveloped("tools/call", params)
            return (await ask("POST", "/mcp", body, headers=headers)).json["result"]

        told = (await call(query="pay"))["structuredContent"]
        assert ([each["id"] for each in told["servers"]], told["matched"]) == (["a"], 1)
        await _kept(ask, "same", filters={"tags": "spare"}, strategy="consistent-hash")
        assert (await call(query="same"))["structuredContent"]["matched"] == 1
        for arguments, problem in (
            ({"query": "pya"}, "did you mean 'pay'?"),
            ({"query": "pay", "tags": ["x"], "q": "y"}, "leave out q, tags"),
        ):
            refused = await call(**arguments)
            assert refused["isError"]
            assert problem in refused["content"][0]["text"]


@pytest.mark.parametrize(
    ("definition", "field", "says"),
    [
        ({"filters": {"tagz": ["a"]}}, "filters", "unknown filter 'tagz'; did you mean 'tags'?"),
        ({"filters": {"status": "healty"}}, "filters", "did you mean 'healthy'?"),
        ({"filters": {"version": "latest!"}}, "filters", "write for example"),
        ({"filters": {"min_uptime": "soon"}}, "filters", "write 30s or 10m"),
        ({"filters": {"match": "all"}}, "filters", "write it beside filters"),
        ({"filters": {"tags": []}}, "filters.tags", "at least 1"),
        ({"filter": {}}, "filter", "did you mean 'filters'?"),
        ({"tags": ["a"]}, "tags", 'is a filter; write it in filters: {"tags"'),
        ({"fallbacks": [{}, {"name": "a"}]}, "fallbacks.1.name", "is a filter; write it in"),
        ({"fallbacks": {"name": "a"}}, "fallbacks", "is not a list"),
        ({"strategy": "least-busy"}, "strategy", "'least-loaded'"),
        ({"least": 0}, "least", "1 or more"),
        ({"limit": 1001}, "limit", "1000 or less"),
        ({"fallbacks": [{}] * 9}, "fallbacks", "more than 8"),
        ({"fallbacks": [{"strategy": "random"}]}, "fallbacks.0.strategy", "is not known"),
        ({"fallbacks": [{"filters": {"nme": "a"}}]}, "fallbacks.0.filters", "did you mean 'name'?"),
        ({"q": "?!"}, "q", "has no word"),
        ({"q": ""}, "q", "at least 1"),
    ],
)
async def test_what_cannot_be_asked_is_refused_in_a_sentence(
    definition: Any, field: str, says: str
) -> None:
    async with served() as ask:
        reply = await ask("PUT", "/queries/pay", definition)
        assert (reply.status, reply.json["field"]) == (422, field), reply.json
        assert says in reply.json["detail"]
        assert "\n" not in reply.json["detail"]
        assert (await ask("GET", "/queries")).json == {"queries": []}


async def test_names_sizes_and_numbers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_discovery.adapters.named_queries.MAX_QUERIES", 3)
    assert MAX_QUERIES == 1000
    async with served() as ask:
        for name in ("Upper", "a_b", "x" * 64, "a.b"):
            reply = await ask("PUT", f"/queries/{name}", {})
            assert reply.status == 400
            assert "is no name of a query" in reply.json["detail"]
        many = {"filters": {"tags": [f"tag-{n:060}" for n in range(200)]}}
        reply = await ask("PUT", "/queries/large", many)
        assert reply.status in (400, 422)
        assert f"{MAX_DEFINITION:,}" in reply.json["detail"]
        reply = await ask("PUT", "/queries/large", {"description": "a" * 2**16})
        assert (reply.status, reply.json["detail"]) == (
            413,
            "the body is over the limit of 32,768 bytes; send less",
        )
        for number in range(3):
            await _kept(ask, f"q-{number}")
        reply = await ask("PUT", "/queries/q-3", {})
        assert reply.status == 400
        assert "which is the most; remove one first" in reply.json["detail"]
        await _kept(ask, "q-2", limit=7)


async def test_a_near_miss_is_told_the_name() -> None:
    async with served() as ask:
        await _kept(ask, "payments")
        reply = await ask("GET", "/queries/paymnets")
        assert (reply.status, reply.json["nearest"]) == (404, ["payments"])
        assert "did you mean 'payments'?" in reply.json["detail"]


async def test_a_change_of_what_another_has_changed_is_refused() -> None:
    async with served() as ask:
        first = await ask("PUT", "/queries/pay", {}, headers={"If-None-Match": "*"})
        assert first.status == 201
        tag = first.headers["ETag"]
        again = await ask("PUT", "/queries/pay", {}, headers={"If-None-Match": "*"})
        assert (again.status, again.json["version"]) == (412, first.json["etag"])
        definition = await ask("GET", "/queries/pay/definition")
        assert (definition.json, definition.headers["ETag"]) == ({}, tag)
        unchanged = await ask("GET", "/queries/pay/definition", headers={"If-None-Match": tag})
        assert unchanged.status == 304
        second = await ask("PUT", "/queries/pay", {"limit": 2}, headers={"If-Match": tag})
        assert second.status == 200
        for method in ("PUT", "DELETE"):
            late = await ask(method, "/queries/pay", {"limit": 3}, headers={"If-Match": tag})
            assert (late.status, late.json["name"]) == (412, "pay")
            assert "was changed meanwhile" in late.json["detail"]
        assert (await ask("GET", "/queries/pay/definition")).json == {"limit": 2}
        anything = await ask("PUT", "/queries/pay", {"limit": 4}, headers={"If-Match": "*"})
        assert anything.status == 200
        none = await ask("PUT", "/queries/new", {}, headers={"If-Match": "*"})
        assert none.status == 412
        both = f'"old", {anything.headers["ETag"]}'
        assert (await ask("DELETE", "/queries/pay", headers={"If-Match": both})).status == 204


async def test_a_poll_returns_with_another_answer_and_with_another_question() -> None:
    async with served() as ask:
        await _registered(ask, "a", tags=["first"])
        await _kept(ask, "pay", filters={"tags": ["first"]})
        tag = (await ask("GET", "/queries/pay")).headers["ETag"]

        def poll(tag: str) -> asyncio.Task[Any]:
            headers = {"If-None-Match": tag}
            return asyncio.create_task(ask("GET", "/queries/pay?wait=60s", headers=headers))

        async def waits() -> bool:
            status = (await ask("GET", "/metrics")).body.decode()
            return "mcp_discovery_query_polls 1.0" in status

        waiting = poll(tag)
        await until(waits, timeout=20, what="a poll that waits")
        await _registered(ask, "b", tags=["first"])
        reply = await waiting
        assert (reply.status, reply.ids) == (200, ["a", "b"])
        await _registered(ask, "c", tags=["second"])  # which is no part of the answer
        waiting = poll(reply.headers["ETag"])
        await until(waits, timeout=20, what="a poll that waits")
        await _kept(ask, "pay", filters={"tags": ["second"]})
        reply = await waiting
        assert (reply.status, reply.ids) == (200, ["c"])
        waiting = poll(reply.headers["ETag"])
        await until(waits, timeout=20, what="a poll that waits")
        assert (await ask("DELETE", "/queries/pay")).status == 204
        assert (await waiting).status == 404
        short = await ask("GET", "/queries/pay?wait=1ms")
        assert short.status == 404


async def test_a_poll_that_nothing_happens_to_ends_with_304() -> None:
    async with served() as ask:
        await _kept(ask, "pay")
        tag = (await ask("GET", "/queries/pay")).headers["ETag"]
        reply = await ask("GET", "/queries/pay?wait=200ms", headers={"If-None-Match": tag})
        assert reply.status == 304


async def test_what_another_program_wrote_is_said_to_be_unreadable() -> None:
    async with EmbeddedStore() as store, served(store) as ask:
        await store.put_query("broken", b"{")
        await store.put_query("newer", b'{"planet":"mars"}')
        kept = {each["name"]: each for each in (await ask("GET", "/queries")).json["queries"]}
        assert "problem" in kept["broken"] and "problem" in kept["newer"]
        reply = await ask("GET", "/queries/newer")
        assert reply.status == 502
        assert "PUT it anew" in reply.json["detail"]
        await _kept(ask, "newer")
        assert (await ask("GET", "/queries/newer")).status == 200


async def test_a_facade_that_changes_nothing_keeps_no_query() -> None:
    async with served(read_only=True) as ask:
        for method in ("PUT", "DELETE"):
            reply = await ask(method, "/queries/pay", {})
            assert (reply.status, reply.json["needs"]) == (403, "register")
            assert "--read-only" in reply.json["detail"]
    async with served(open_writes=False) as ask:
        reply = await ask("PUT", "/queries/pay", {})
        assert reply.status == 403
        assert "--open-writes" in reply.json["detail"]

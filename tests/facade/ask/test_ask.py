"""``POST /api/ask`` and ``POST /api/platform/query``: letter for letter, and with nobody's rights
but the caller's."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.facade.access.tokens import bearer
from tests.facade.ask.conftest import SECTIONS, Asking
from tests.facade.harness import served
from tests.mcp_discovery.ask.fake_anthropic import FakeAnthropic
from tests.mcp_discovery.ask.fake_gemini import FakeGemini
from tests.mcp_discovery.ask.fake_models import (
    SEARCH,
    Fails,
    FakeModelServer,
    Hangs,
    Says,
)
from tests.mcp_discovery.ask.fake_openai import FakeOpenAI
from tests.stores.waiting import bounded, until

QUESTION = "Search the products for a kettle and check the stock, please."
ANSWER = "15 kettles are there."
STOCK = Says(calls=(("products__check_stock", {"sku": "KET-100"}),))
PAGES = Says(calls=(("figures__top_pages", {"period": "day", "limit": 1}),))


@pytest.mark.parametrize("fake", [FakeOpenAI, FakeAnthropic, FakeGemini])
async def test_a_question_is_answered(asking: Asking, fake: type[FakeModelServer]) -> None:
    async with asking(STOCK, Says(ANSWER), STOCK, Says(ANSWER), fake=fake) as asked:
        reply = await asked("employee", {"question": QUESTION})
        assert reply.status == 200 and reply.json.keys() == {"answer", "requestId"}
        assert reply.json["answer"] == ANSWER
        assert reply.json["requestId"] == reply.headers["X-Request-Id"]
        assert "available" in json.dumps(asked.fake.requests[1])

        reply = await asked("employee", {"question": QUESTION, "details": True})
        told = reply.json
        assert (told["provider"], told["turns"], told["calls"]) == (fake.provider, 2, 1)
        kinds = [each["event"] for each in told["steps"]]
        assert kinds == ["search", "usage", "call", "result", "usage"]


async def test_the_statuses_and_words_of_a_platform(asking: Asking) -> None:
    sections = {**SECTIONS, "limits": {"roles": {"manager": {"questions": "1/minute"}}}}
    async with asking(Says(ANSWER), sections=sections) as asked:
        for path in ("/api/ask", "/api/platform/query"):
            reply = await asked(None, {"question": QUESTION}, path)
            assert (reply.status, reply.json) == (401, {"error": "Bearer token required"})
            assert reply.headers["WWW-Authenticate"].startswith("Bearer")
            reply = await asked.client(
                "POST", path, {"question": "x"}, headers={"Authorization": "Bearer none"}
            )
            assert (reply.status, reply.json) == (401, {"error": "Invalid token"})
            for body in ({}, {"question": " \n"}, {"question": 7}):
                reply = await asked("employee", body, path)
                assert (reply.status, reply.json) == (400, {"error": "question is required"})
            reply = await asked("reader", {"question": QUESTION}, path)
            assert reply.status == 403 and "has no right to call" in reply.json["error"]
        reply = await asked("manager", {"question": QUESTION})
        assert reply.status == 200
        reply = await asked("manager", {"question": QUESTION})
        assert (reply.status, reply.json) == (429, {"error": "Rate limit exceeded"})
        assert 0 < int(reply.headers["Retry-After"]) <= 60


async def test_a_fault_of_the_model_is_a_500(asking: Asking) -> None:
    async with asking(Fails(401, "authentication_error"), Fails(400, "no_such_model")) as asked:
        reply = await asked("employee", {"question": QUESTION})
        assert reply.status == 500
        id = reply.headers["X-Request-Id"]
        assert reply.json == {"error": "Agent execution failed", "requestId": id}
        reply = await asked("employee", {"question": QUESTION, "details": True})
        assert "no_such_model" in reply.json["detail"]


async def test_who_is_asked(asking: Asking) -> None:
    async with asking(Says(ANSWER), Says(ANSWER), fake=FakeAnthropic) as asked:
        reply = await asked("employee", {"question": QUESTION, "preferredProvider": "claude"})
        assert reply.status == 200
        reply = await asked("employee", {"question": QUESTION, "preferredProvider": "openai"})
        assert reply.status == 400
        assert "openai has no key here: set OPENAI_API_KEY" in reply.json["error"]
        body = {"question": QUESTION, "provider": "auto"}
        reply = await asked("employee", body, "/api/platform/query")
        assert (reply.status, reply.json) == (200, {"answer": ANSWER})


async def test_what_a_caller_may_not_call_does_not_exist(asking: Asking) -> None:
    """Neither the search nor a name from elsewhere gets a model to it."""
    search = Says(calls=((SEARCH, {"query": "which pages are read most: top pages report"}),))
    script = (search, PAGES, Says("No."))
    async with asking(*script, *script) as asked:
        await asked("employee", {"question": QUESTION})
        told = json.dumps(asked.fake.requests)
        assert "sales_report" not in told
        # But for the name that the model made up, nothing tells that there is such a server.
        assert told.count("figures") == told.count("figures__top_pages") > 0
        assert "there is no tool 'figures__top_pages'" in told
        assert await asked.logs(eventType="call") == []

        before = len(asked.fake.requests)
        await asked("manager", {"question": QUESTION})
        told = json.dumps(asked.fake.requests[before:])
        assert "figures__sales_report" in told and "views" in told
        (called,) = await asked.logs(eventType="call")
        assert called["target"]["tool"] == "top_pages"
        assert called["actor"]["userId"] == "manager" and called["outcome"]["success"] is True


async def test_nobody_takes_all_the_room(asking: Asking) -> None:
    async with asking(*[Hangs()] * 8, Says(ANSWER)) as asked:
        body = {"question": QUESTION}
        waiting = [asyncio.create_task(asked("employee", body)) for _ in range(8)]

        async def all_asked() -> bool:
            return len(asked.fake.requests) == 8

        await until(all_asked, timeout=30, what="eight questions that hang")
        reply = await asked("employee", body)
        assert (reply.status, "8 of your questions" in reply.json["error"]) == (503, True)
        assert (await asked("manager", body)).status == 200
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_user_id_gives_nobody_other_rights(asking: Asking) -> None:
    async with asking(*[Says(ANSWER)] * 3, PAGES, Says("No.")) as asked:
        path = "/api/platform/query"
        for own in ({}, {"userId": "employee"}):
            assert (await asked("employee", {"question": QUESTION, **own}, path)).status == 200
        reply = await asked("employee", {"question": QUESTION, "userId": "manager"}, path)
        assert reply.status == 403 and "userId is 'manager'" in reply.json["error"]
        # Who administers may name another one: the audit tells, and the rights are its own.
        reply = await asked("operator", {"question": QUESTION, "userId": "employee"}, path)
        assert reply.status == 200
        events = await asked.logs(eventType="api_request", userId="operator")
        (reply_event,) = events
        assert reply_event["onBehalfOf"] == "employee"
        assert len(await asked.logs(eventType="refusal", userId="employee")) == 1


async def test_what_the_audit_tells(asking: Asking) -> None:
    question = f"{QUESTION} {'x' * 200}"
    async with asking(STOCK, Says(ANSWER), Fails(400, "broken")) as asked:
        reply = await asked("employee", {"question": question})
        id = reply.json["requestId"]
        asked_, called, answered = await asked.logs(requestId=id)
        assert asked_["eventType"] == "api_request" and asked_["scope"] == ["stock:read"]
        assert asked_["request"] == {"question": question[:100]}
        assert asked_["actor"]["userId"] == "employee" and asked_["actor"]["roles"] == ["employee"]
        assert (called["eventType"], called["target"]["tool"]) == ("call", "check_stock")
        assert called["operation"]["route"] == "/api/ask"
        assert called["arguments"]["json"] == '{"sku":"KET-100"}'
        assert answered["eventType"] == "api_response" and answered["outcome"]["success"] is True

        reply = await asked("employee", {"question": QUESTION})
        _, failed = await asked.logs(requestId=reply.json["requestId"])
        assert failed["eventType"] == "api_error" and failed["outcome"]["success"] is False
        assert "broken" in failed["outcome"]["error"]
        page = await asked.client("GET", "/ui/audit", headers=bearer("operator"))
        assert page.status == 200 and b"api_error" in page.body


async def test_no_page_of_another_origin_asks(asking: Asking) -> None:
    async with asking() as asked:
        headers = {**bearer("employee"), "Origin": "https://evil.example"}
        reply = await asked.client("POST", "/api/ask", {"question": QUESTION}, headers=headers)
        assert reply.status == 403 and asked.fake.requests == []
        form = {**bearer("employee"), "Content-Type": "text/plain"}
        reply = await asked.client("POST", "/api/ask", b'{"question": "x"}', headers=form)
        assert reply.status == 415


async def test_a_stream_is_kept_open_while_a_model_thinks(asking: Asking) -> None:
    async with asking(Hangs(), ping=0.2, ask_timeout=1.5) as asked:
        headers = {**bearer("employee"), "Accept": "text/event-stream"}
        reply = await asked.client("POST", "/api/ask", {"question": QUESTION}, headers=headers)
        assert reply.body.count(b": ping\n\n") > 1
        assert b"there is no answer after 1.5 s" in reply.body


async def test_calls_of_a_model_count_as_calls(asking: Asking) -> None:
    sections = {**SECTIONS, "limits": {"roles": {"employee": {"calls": "2/minute"}}}}
    async with asking(STOCK, STOCK, Says(ANSWER), sections=sections) as asked:
        reply = await asked("employee", {"question": QUESTION, "details": True})
        results = [each for each in reply.json["steps"] if each["event"] == "result"]
        # The question itself is one.
        assert [each["success"] for each in results] == [True, False]
        assert "you have made your 2 calls in 60 s" in results[1]["text"]


def events_of(data: bytes) -> list[tuple[str, Any]]:
    """The events of a stream."""
    found = []
    for block in data.decode().strip().split("\n\n"):
        name, _, text = block.partition("\n")
        found.append((name.removeprefix("event: "), json.loads(text.removeprefix("data: "))))
    return found


async def test_the_steps_are_streamed(asking: Asking) -> None:
    async with asking(STOCK, Says(ANSWER), Fails(400, "broken")) as asked:
        headers = {**bearer("employee"), "Accept": "text/event-stream"}
        reply = await asked.client("POST", "/api/ask", {"question": QUESTION}, headers=headers)
        assert reply.headers["Content-Type"].startswith("text/event-stream")
        found = events_of(reply.body)
        names = [name for name, _ in found if name != "text"]
        assert names == ["search", "usage", "call", "result", "usage", "done"]
        told = dict(found)
        assert "".join(each["text"] for name, each in found if name == "text") == ANSWER
        assert told["call"]["arguments"] == {"sku": "KET-100"}
        assert told["done"]["answer"] == ANSWER and told["done"]["requestId"]
        reply = await asked.client("POST", "/api/ask", {"question": QUESTION}, headers=headers)
        (_, (name, told)) = events_of(reply.body)
        assert name == "error" and told["error"] == "Agent execution failed"
        assert "broken" in told["detail"]


@pytest.mark.parametrize("accept", ["text/event-stream", "application/json"])
async def test_a_client_that_leaves_ends_all_of_it(asking: Asking, accept: str) -> None:
    async with asking(Hangs()) as asked:
        headers = {**bearer("employee"), "Accept": accept}
        task = asyncio.create_task(
            asked.client("POST", "/api/ask", {"question": QUESTION}, headers=headers)
        )

        async def arrived() -> bool:
            return bool(asked.fake.requests)

        await until(arrived, timeout=30, what="the question at the model")
        task.cancel()
        await bounded(asked.fake.left.wait(), 20)

        async def recorded() -> bool:
            return len(await asked.logs(eventType="api_error")) == 1

        await until(recorded, timeout=20, what="the end in the audit")
        (event,) = await asked.logs(eventType="api_error")
        assert event["outcome"]["error"] == "the client went away"


async def test_without_a_model_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.delenv(key, raising=False)
    strangers = ({"open_to_strangers": True}, {"open_writes": False})
    off: list[dict[str, Any]] = [{}, {"ask": "off"}, *strangers]
    for number, options in enumerate(off):
        if number:
            monkeypatch.setenv("OPENAI_API_KEY", "x")
        async with served(**options) as ask:
            reply = await ask("POST", "/api/ask", {"question": QUESTION})
            assert reply.status == 404
            assert "OPENAI_API_KEY, ANTHROPIC_API_KEY or GEMINI_API_KEY" in reply.json["error"]

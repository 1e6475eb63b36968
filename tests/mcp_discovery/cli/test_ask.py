"""``mcp-discovery ask``: what it prints where, and how it ends."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.facade.harness import served
from tests.mcp_discovery.ask.fake_anthropic import FakeAnthropic
from tests.mcp_discovery.ask.fake_gemini import FakeGemini
from tests.mcp_discovery.ask.fake_models import Fails, FakeModelServer, Hangs, Says
from tests.mcp_discovery.ask.fake_openai import FakeOpenAI
from tests.programs import Ended, command, running
from tests.servers.process import example
from tests.stores.waiting import bounded, until

QUESTION = "Search the products for a kettle."
ANSWER = "One is there.\nIt is KET-100."
CALL = Says("Let me look.", (("search_products", {"query": "kettle"}),))


@pytest.fixture(scope="module")
async def facade() -> AsyncIterator[str]:
    """The URL of a facade that knows one server."""
    async with AsyncExitStack() as stack:
        ask = await stack.enter_async_context(served())
        server = await stack.enter_async_context(example("product_catalog"))
        body = {"id": "p-1", "name": "products", "url": server.url, "tags": ["shop"]}
        assert (await ask("POST", "/servers", body)).status in (200, 201)
        await ask.until_status("p-1", "healthy")
        yield ask.url


def environment(fake: FakeModelServer) -> dict[str, Any]:
    """What tells the SDK of ``fake`` where it is."""
    address, key = fake.variables
    return {address: fake.base_url, key: "key-of-a-fake"}


async def asked(fake: FakeModelServer, *arguments: str) -> Ended:
    """The end of the command, with ``fake`` as the only model."""
    return await command("ask", QUESTION, *arguments, **environment(fake))


@pytest.mark.parametrize("fake", [FakeOpenAI, FakeAnthropic, FakeGemini])
async def test_the_answer_is_printed_and_the_steps_beside_it(
    facade: str, fake: type[FakeModelServer]
) -> None:
    async with fake(CALL, Says(ANSWER), CALL, Says(ANSWER)).running() as model:
        ended = await asked(model, "--facade", facade, "--tag", "shop")
        assert (ended.code, ended.out) == (0, f"{ANSWER}\n")
        found, call, result, used = ended.err.splitlines()
        assert found.startswith("tools found: products.")
        assert call == '→ products.search_products {"query":"kettle"}'
        assert result.startswith("← products.search_products ") and "KET-100" in result
        assert used.startswith(f"{fake.provider} ") and "2,100 tokens, 2 turns, 1 calls" in used

        ended = await asked(model, "--facade", facade, "--json")
        lines = [json.loads(each) for each in ended.out.splitlines()]
        kinds = [each["event"] for each in lines if each["event"] != "text"]
        assert kinds == ["search", "usage", "call", "result", "usage", "done"]
        assert lines[-1]["answer"] == ANSWER and lines[-1]["provider"] == fake.provider


async def test_how_it_ends(facade: str) -> None:
    async with FakeOpenAI(
        *(Fails(401, "authentication_error"), Fails(400, "no_such_model"), Hangs())
    ).running() as model:
        for code, said in ((4, "401: authentication_error says"), (1, "no_such_model")):
            ended = await asked(model, "--facade", facade)
            assert (ended.code, ended.out) == (code, "") and said in ended.err
        ended = await asked(model, "--facade", facade, "--timeout", "0.5")
        assert ended.code == 8 and "there is no answer after 0.5 s" in ended.err
    ended = await command("ask", QUESTION, "--facade", facade)
    assert (ended.code, ended.out) == (2, "")
    assert "set OPENAI_API_KEY, ANTHROPIC_API_KEY or GEMINI_API_KEY" in ended.err
    assert ended.err.count("\n") == 1
    keys: dict[str, Any] = {"OPENAI_API_KEY": "x", "GEMINI_API_KEY": "x"}
    ended = await command("ask", QUESTION, "--model", "some", **keys)
    assert ended.code == 2 and "say --provider" in ended.err
    ended = await command("ask", QUESTION, "--provider", "claude", **keys)
    assert ended.code == 2 and "give one of openai, gemini, auto" in ended.err
    ended = await command("ask", QUESTION, "--facade", "http://127.0.0.1:9", **keys)
    assert ended.code == 3


async def test_ctrl_c_ends_the_models_stream(facade: str, tmp_path: Path) -> None:
    async with FakeOpenAI(Hangs()).running() as model:
        arguments = ("ask", QUESTION, "--facade", facade, "--json")
        async with running(tmp_path, *arguments, **environment(model)) as process:

            async def said() -> bool:
                return '"event":"text"' in process.log

            await until(said, timeout=30, what="the beginning of an answer")
            assert await process.stop(signal.SIGINT) == 130
            await bounded(model.left.wait(), 20)

"""A facade with a model of meaning, and one without: what is found, and what is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from mcp_discovery.cli.exit_codes import INVALID_INPUT
from mcp_discovery.cli.main import main
from mcp_discovery.query import embedding
from tests.facade.harness import Client, leased, served
from tests.stores.waiting import until

ROOT = Path(__file__).parents[3]
TOOLS = {
    "weather": ("get_forecast", "Get the weather forecast for a city."),
    "mail": ("send_email", "Send an email to one or more recipients."),
    "money": ("convert_currency", "Convert an amount between currencies."),
}
RAIN = "will it rain in Lisbon"


async def _filled(ask: Client) -> None:
    for server, (tool, description) in TOOLS.items():
        document = {"tools": [{"name": tool, "description": description, "inputSchema": {}}]}
        body = leased(f"{server}-1", name=server, document=document)
        assert (await ask("POST", "/servers", body)).status == 201


async def _semantic(ask: Client) -> Any:
    return (await ask("GET", "/status")).json.get("semantic")


async def test_the_model_is_loaded_while_words_are_searched_already(gate: threading.Event) -> None:
    async with served(semantic="wordllama") as ask:
        await _filled(ask)
        assert (await _semantic(ask))["model"] == "wordllama"
        words = await ask("GET", "/tools?q=weather")
        assert [each["name"] for each in words.json["tools"]] == ["get_forecast"]
        assert (await _semantic(ask))["state"] == "loading"
        gate.set()

        async def ready() -> bool:
            return bool((await _semantic(ask))["state"] == "ready")

        await until(ready, timeout=30, what="the model being loaded")
        # A list that was cached before is made anew.
        for path, kind, name in (
            ("/tools", "tools", "get_forecast"),
            ("/servers", "servers", "weather"),
        ):
            found = (await ask("GET", f"{path}?q={RAIN}")).json[kind]
            assert [each["name"] for each in found] == [name], path
            assert found[0]["why"] == "close in meaning"


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """The model is loaded once this is set."""
    gate, load = threading.Event(), embedding.load

    def when_it_is_open(point: EntryPoint) -> embedding.Embedder:
        assert gate.wait(30)
        return load(point)

    monkeypatch.setattr(embedding, "load", when_it_is_open)
    return gate


async def test_what_was_answered_by_words_is_answered_anew_when_the_model_is_there(
    gate: threading.Event,
) -> None:
    async with served(semantic="wordllama") as ask:
        await _filled(ask)
        before = await ask("GET", f"/servers?q={RAIN}")
        assert before.json["servers"] == []
        gate.set()
        known = {"If-None-Match": before.headers["ETag"]}

        async def found() -> bool:
            reply = await ask("GET", f"/servers?q={RAIN}", headers=known)
            return reply.status == 200 and bool(reply.json["servers"])

        await until(found, timeout=30, what="the list being made anew")


async def test_without_a_model_words_alone_find() -> None:
    async with served() as ask:
        await _filled(ask)
        assert await _semantic(ask) is None
        assert (await ask("GET", f"/tools?q={RAIN}")).json["tools"] == []


#: Starts a facade without a model, searches it, and prints what of the extra was imported.
_WITHOUT = """
import asyncio, sys
import aiohttp
from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.facade.app import create_app
from mcp_discovery.facade.options import FacadeOptions
from mcp_discovery.facade.run import serving

async def main():
    store = EmbeddedStore()
    app = create_app(store, FacadeOptions(semantic=sys.argv[1]))
    async with serving(app, "127.0.0.1", 0) as url, aiohttp.ClientSession() as session:
        async with session.get(f"{url}/tools?q=weather") as reply:
            assert reply.status in (200, 503), reply.status
    await store.close()

if sys.argv[1] == "auto":
    sys.modules["wordllama"] = None  # as if it were not installed
asyncio.run(main())
print(sorted({each.partition(".")[0] for each in sys.modules} & {"numpy", "tokenizers"}))
print("mcp_discovery.query.vectors" in sys.modules)
"""


@pytest.mark.parametrize("semantic", ["none", "auto"])
def test_without_the_extra_nothing_of_it_is_imported(semantic: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", _WITHOUT, semantic],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.stdout.splitlines() == ["[]", "False"], run.stderr


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("wordllama", "pip install 'mcp-discovery[semantic]'"),
        ("gpt-9", "use auto, none, wordllama, or install the package"),
    ],
)
def test_a_model_that_is_not_there_is_said_in_a_sentence(
    name: str,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "wordllama", None)
    monkeypatch.setattr(sys, "argv", ["mcp-discovery", "facade", "--port", "0", "--semantic", name])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == INVALID_INPUT
    assert said in " ".join(capsys.readouterr().err.split())

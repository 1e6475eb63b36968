"""A question to a model does not hold up the event loop, however large the list is."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import orjson
import pytest

from mcp_discovery.document import CapabilityDocument
from mcp_discovery.health import Health, Status, utcnow
from mcp_discovery.instance import Instance
from tests.facade.large_catalog import LEASE, listing
from tests.facade.mcp.wire import JSON
from tests.facade.stalls import (
    MOST_SECONDS,
    collected_as_when_serving,
    longest_stall,
    shortest,
)
from tests.mcp_discovery.ask.fake_models import SEARCH, FakeModelServer, Says
from tests.mcp_discovery.ask.fake_openai import FakeOpenAI
from tests.records import record

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures(collected_as_when_serving.__name__),
]
_SERVERS = 10_000


def _offering(number: int) -> tuple[Instance, CapabilityDocument]:
    tool = {
        "name": f"get_weather_{number}",
        "description": f"Tells the weather of place {number}.",
        "inputSchema": {"type": "object", "properties": {"day": {"type": "string"}}},
    }
    document = CapabilityDocument(tools=(tool,))
    offers = {"tools": [tool["name"]], "digest": document.digest}
    made = record(f"s-{number}", name=f"s-{number}", description="Weather", capabilities=offers)
    return Instance(made, Health(Status.HEALTHY, "is", utcnow(), utcnow()), LEASE), document


@contextmanager
def _elsewhere(fake: FakeModelServer) -> Iterator[None]:
    """Runs ``fake`` in a thread of its own: what it takes is not the facade's time."""
    ready, over = threading.Event(), threading.Event()

    async def serve() -> None:
        async with fake.running():
            ready.set()
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(30)
        yield
    finally:
        over.set()
        thread.join(30)


async def test_no_question_to_a_model_holds_up_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [_offering(number) for number in range(_SERVERS)]
    texts = {document.digest: document for _, document in made}
    search = Says(calls=((SEARCH, {"query": "what is the weather tomorrow"}),))
    fake = FakeOpenAI(*(search, Says("Fine.")) * 6)
    body = orjson.dumps({"question": "What is the weather in place 77?"})
    with _elsewhere(fake):
        fake.use(monkeypatch)
        async with listing((each for each, _ in made), texts) as large:
            # What is imported, opened and indexed once is not counted.
            first = await large.ask("POST", "/api/ask", body, headers=JSON)
            assert first.status == 200, first.body

            async def once(_: int) -> float:
                return await longest_stall(large.ask, "POST", "/api/ask", body, JSON, wanted=200)

            stall = await shortest(once)
    assert "get_weather_77" in str(fake.requests[0])
    assert stall <= MOST_SECONDS, f"{stall * 1000:.0f} ms"

"""No question holds up the event loop, whichever door it is asked at, however large the list is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import quote

import orjson
import pytest
import pytest_asyncio

from mcp_discovery.adapters.store import Change
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.health import Health, Status, utcnow
from mcp_discovery.instance import Instance
from tests.facade.large_catalog import LEASE, LargeCatalog, listing
from tests.facade.mcp.wire import JSON, enveloped
from tests.facade.stalls import MOST_SECONDS, collected_as_when_serving, longest_stall, shortest
from tests.records import record

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures(collected_as_when_serving.__name__),
]
_SERVERS, _TOOLS = 2_500, 4
_WORDS = (
    *("weather", "stock", "order", "file", "search", "image", "mail"),
    *("price", "map", "train", "flight", "chart", "table"),
)


def _instance(number: int, change: int = 0) -> tuple[Instance, CapabilityDocument]:
    words = [_WORDS[(number + each) % len(_WORDS)] for each in range(_TOOLS)]
    tools = [
        {
            "name": f"get_{word}_{number}",
            "description": f"Tells the {word} of place {number}. Change {change}.",
            "inputSchema": {"type": "object", "properties": {word: {"type": "string"}}},
        }
        for word in words
    ]
    document = CapabilityDocument(tools=tuple(tools))
    names = [str(each["name"]) for each in tools]
    offers = {"tools": names, "digest": document.digest}
    made = record(f"s-{number}", name=f"s-{number}", description=words[0], capabilities=offers)
    return Instance(made, Health(Status.HEALTHY, "is", utcnow(), utcnow()), LEASE), document


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["none", "wordllama"])
async def large(request: pytest.FixtureRequest) -> AsyncIterator[LargeCatalog]:
    """A facade whose list has 10,000 tools, each with a definition of its own."""
    made = [_instance(number) for number in range(_SERVERS)]
    texts = {document.digest: document for _, document in made}
    async with listing((each for each, _ in made), texts, semantic=request.param) as found:
        yield found


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    "question",
    ["what is the weather tomorrow", "get", "wether", "place " * 600, " ".join(_WORDS), "w" * 900],
)
async def test_no_question_holds_up_the_loop(large: LargeCatalog, question: str) -> None:
    asked = quote(question)
    doors: dict[str, tuple[str, str, object]] = {
        path: ("GET", path + asked, None)
        for path in (
            *("/servers?limit=20&q=", "/tools?q=", "/tools?schema=true&limit=20&q=", "/skills?q="),
            *("/v0.1/servers?search=", "/servers?limit=20&explain=true&q="),
        )
    }
    for tags in ((), ("products",)):
        query = {"text": question[:1000], "filter": {"tags": list(tags)} if tags else {}}
        doors[f"ARD {tags}"] = "POST", "/api/ard/search", {"query": query}
    stalls = {}
    for door, (method, path, body) in doors.items():
        stalls[door] = await _stall(large, method, path, body, JSON)
    for tool in ("find_servers", "find_tools"):
        call, headers = enveloped("tools/call", {"name": tool, "arguments": {"q": question[:1000]}})
        stalls[tool] = await _stall(large, "POST", "/mcp", call, headers)
    assert {k: f"{v * 1000:.0f} ms" for k, v in stalls.items() if v > MOST_SECONDS} == {}


async def _stall(
    large: LargeCatalog, method: str, path: str, body: object, headers: dict[str, str]
) -> float:
    """Each try is of a list that has just changed."""
    data = None if body is None else orjson.dumps(body)

    async def once(number: int) -> float:
        changed, document = _instance(0, len(large.documents))
        large.facade.documents.put(document)
        large.documents[document.digest] = document
        large.facade.catalog.apply(Change(changed.id, changed))
        return await longest_stall(large.ask, method, path, data, headers, wanted=200)

    return await shortest(once)


@pytest.mark.asyncio(loop_scope="module")
async def test_neither_does_the_list_of_all_tools(large: LargeCatalog) -> None:
    stall = await _stall(large, "GET", "/api/platform/tools", None, {})
    assert stall <= MOST_SECONDS, f"{stall * 1000:.0f} ms"

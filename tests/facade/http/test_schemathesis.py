"""The OpenAPI document against a real facade: no 500, and no answer that is not declared."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import checks
from schemathesis.config import SchemathesisConfig

from mcp_discovery.facade.app import OPERATIONS
from mcp_discovery.facade.http.openapi import document, operation_id
from mcp_discovery.facade.http.operation import Operation
from tests.facade.harness import leased, served
from tests.records import tool

CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.unsupported_method,
    checks.allow_header_conformance,
]
#: The tool's own strategies, not ours.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisDeprecationWarning"),
]
CONFIG = SchemathesisConfig(seed=20260728)
SCHEMA = schemathesis.openapi.from_dict(document(OPERATIONS), config=CONFIG)
#: Streams do not end by themselves, and have tests of their own.
EXCLUDED = ("streams",)

DOCUMENT = {"tools": [tool("find"), tool("buy")], "prompts": [{"name": "explain"}]}
ENTRIES = (
    leased("alpha", tags=["products"], document=DOCUMENT, zone="eu", owner="shop"),
    leased("beta", tags=["products", "stock"], capabilities=["find"]),
    leased("gamma", name="reports", health={"status": "down", "reason": "refused"}),
    leased("delta", name="files", url=None, command="npx", args=["-y", "server-files"]),
)
#: What stands in a path, so that what is asked for is sometimes there.
KNOWN = {
    "id": "alpha",
    "name": "find",
    "namespace": "local",
    "serverName": "products",
    "version": "latest",
}


class Line:
    """A facade in a thread of its own: the tests here are synchronous, as their tool is."""

    def __init__(self, **options: Any) -> None:
        self.url = ""
        self._options = {"probe_timeout": 0.2, "first_probe": 0.05, "settle": 0.1} | options
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="facade")

    def __enter__(self) -> Line:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        async with served(**self._options) as client:
            self.url = client.url
            self._ready.set()
            await self._stop.wait()


@pytest.fixture(scope="module")
def line() -> Iterator[Line]:
    """A facade with a few entries."""
    with Line() as running:
        fill(running.url)
        yield running


def fill(url: str) -> None:
    """Puts the entries there; those that are there already stay."""
    for each in ENTRIES:
        answer = requests.post(f"{url}/servers", json=each, timeout=10)
        assert answer.status_code in (201, 409), answer.text


def check(case: Any, url: str) -> None:
    """Sends ``case`` as it was generated and, where it names something, once more for something
    that is there."""
    case.call_and_validate(base_url=url, checks=CHECKS, timeout=10)
    if not case.path_parameters:
        return
    if case.method != "GET":
        fill(url)
    generated = case.path_parameters
    case.path_parameters = {name: KNOWN.get(name, given) for name, given in generated.items()}
    try:
        case.call_and_validate(base_url=url, checks=CHECKS, timeout=10)
    finally:
        case.path_parameters = generated


def checking(operation: Operation) -> Any:
    """A test of one operation: a function for each, since pytest tells tests by their names."""

    @pytest.mark.timeout(60)
    @SCHEMA.include(method=operation.method, path=operation.path).parametrize()
    @settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
    def test(case: Any, line: Line) -> None:
        check(case, line.url)

    return test


globals().update(
    {
        f"test_{operation_id(each)}": checking(each)
        for each in OPERATIONS
        if each.group not in EXCLUDED
    }
)

"""How many bad answers in a row make a server down, whether a sidecar or a facade registers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.health import Status
from tests.facade.harness import served
from tests.facade.plain import HealthServer
from tests.sidecar.harness import Seen, sidecar, watching
from tests.stores.waiting import until

pytestmark = pytest.mark.slow  # what is tested takes its seconds

#: Of a facade's probes: long enough for a list that hangs, and the usual question after it.
TIMEOUT = 1.2
REGISTRANTS = ["sidecar", "facade"]


@dataclass
class Answers:
    """Bad answers to the next questions whether a server lives; then it is well again.

    A status is answered so, 0 closes the connection, -1 keeps the client waiting. What else is
    asked meanwhile is answered as badly.
    """

    server: HealthServer
    left: list[int] = field(default_factory=list)
    last: int | None = None  # goes on after these, where it is given
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.server.fault = self._answer

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(time.monotonic())
        probes = b"server/discover" in await request.read()
        if self.left:
            status = self.left.pop(0) if probes else self.left[0]
        elif self.last is not None:
            status = self.last
        else:
            return await self.server.answer(request)
        if status == 0:
            assert request.transport is not None
            request.transport.close()
        if status == -1:
            await asyncio.sleep(30.0)
        return web.Response(status=status if status > 0 else 500, headers=self.headers)


@pytest.fixture
async def answers() -> AsyncIterator[Answers]:
    server = HealthServer()
    await server.start()
    yield Answers(server)
    await server.stop()


@asynccontextmanager
async def registered(
    by: str, answers: Answers, fail_after: int | None, *, per_entry: bool = False
) -> AsyncIterator[Seen]:
    """What a store shows of the server, from when it is healthy on."""
    url = f"{answers.server.base_url}/mcp"
    async with EmbeddedStore() as store, watching(store) as seen:
        if by == "sidecar":
            terms: dict[str, Any] = {"probe_interval": 0.6, "slow_after": 0.5, "name": "products"}
            async with sidecar(store, url, **terms, fail_after=fail_after):
                await seen.until_status(Status.HEALTHY, within=5.0)
                yield seen
        else:
            options: dict[str, Any] = {} if per_entry else {"fail_after": fail_after}
            async with served(store, probe_timeout=TIMEOUT, **options) as ask:
                body: dict[str, Any] = {"id": "a", "name": "products", "url": url}
                if per_entry:
                    body["connection"] = {"healthCheck": {"failAfter": fail_after}}
                assert (await ask("POST", "/servers", body)).status == 201
                await seen.until_status(Status.HEALTHY, within=5.0)
                yield seen


def statuses(seen: Seen) -> list[str]:
    """The statuses that were seen one after the other, from the first healthy one on."""
    every = [one.health.status.value for _, _, one in seen.history if one is not None]
    every = every[every.index("healthy") :]
    return [each for number, each in enumerate(every) if not number or each != every[number - 1]]


async def spent(answers: Answers) -> None:
    """Waits until the bad answers were given, and a good one after them."""
    length = len(answers.asked) + len(answers.left) + 2

    async def given() -> bool:
        return not answers.left and len(answers.asked) >= length

    await until(given, timeout=15.0, what="the bad answers being given")


@pytest.mark.parametrize("by", REGISTRANTS)
@pytest.mark.parametrize(
    ("bad", "fail_after", "down"),
    [
        ([503], None, False),
        ([502, 504], None, True),
        ([-1], None, False),
        ([-1, 503], None, True),
        ([500], None, True),
        ([0, 0], None, True),  # a closed connection is tried twice within one probe
        ([500, 501], 3, False),
        ([0, 0], 3, False),
        ([500, 501, 503], 3, True),
        ([503], 1, True),
        ([-1], 1, True),
        ([429, 429, 429, 429], None, False),
        ([429, 429], 1, False),
        ([503, 429, 429], 3, False),
        ([429, 503], None, True),
    ],
)
async def test_as_many_as_it_takes(
    answers: Answers, by: str, bad: list[int], fail_after: int | None, down: bool
) -> None:
    async with registered(by, answers, fail_after) as seen:
        answers.left = list(bad)
        if down:
            answers.last = bad[-1]
            await seen.until_status(Status.DOWN, within=10.0)
            answers.left, answers.last = [], None
        await spent(answers)
        await seen.until_status(Status.HEALTHY, within=10.0)
        found = statuses(seen)
        assert ("down" in found) is down, found
        if found[-3:-1] == ["down", "degraded"]:  # until its lists are read again
            del found[-2]
        # What a sidecar asks beside its probes may have got the only bad answer.
        assert found[:-1] in (
            ["healthy", "degraded"],
            ["healthy", "down"],
            ["healthy", "degraded", "down"],
            [] if by == "sidecar" and not down else None,
        )


async def test_a_posted_entry_has_a_number_of_its_own(answers: Answers) -> None:
    async with registered("facade", answers, 3, per_entry=True) as seen:
        answers.left = [500, 500]
        await spent(answers)
        await seen.until_status(Status.HEALTHY, within=10.0)
        assert statuses(seen) == ["healthy", "degraded", "healthy"]


@pytest.mark.parametrize("by", REGISTRANTS)
async def test_a_refused_connection_counts_as_the_option_says(answers: Answers, by: str) -> None:
    async with registered(by, answers, 4) as seen:
        await answers.server.stop()
        degraded = await seen.until_status(Status.DEGRADED, within=3.0)
        assert degraded.health.reason == "connection refused"
        await seen.until_status(Status.DOWN, within=15.0)
        await answers.server.start()
        await seen.until_status(Status.HEALTHY, within=5.0)


@pytest.mark.parametrize("by", REGISTRANTS)
async def test_who_limits_requests_is_left_alone_for_as_long_as_it_says(
    answers: Answers, by: str
) -> None:
    async with registered(by, answers, None) as seen:
        answers.headers["Retry-After"] = "4"
        answers.left = [429]
        await seen.until_status(Status.DEGRADED, within=3.0)
        refused = answers.asked[-1]
        await seen.until_status(Status.HEALTHY, within=8.0)
        later = [each for each in answers.asked if each > refused]
        # What was on its way at that moment is not held against it; its lease lasts meanwhile.
        assert later[0] - refused >= 3.9, later[0] - refused
        assert statuses(seen) == ["healthy", "degraded", "healthy"]


@pytest.mark.parametrize("by", REGISTRANTS)
async def test_who_limits_requests_without_a_word_is_asked_less_and_less(
    answers: Answers, by: str
) -> None:
    async with registered(by, answers, None) as seen:
        answers.left = [429] * 4
        await seen.until_status(Status.DEGRADED, within=3.0)
        await spent(answers)
        await seen.until_status(Status.HEALTHY, within=10.0)
        assert "down" not in statuses(seen)

"""A facade that wants tokens, asked by the client library with tokens that change."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web

from mcp_discovery import Discovery, ForbiddenError, StoreUnavailableError, UnauthenticatedError
from mcp_discovery.bearer_tokens import BearerToken
from mcp_discovery.client.calls import OutcomeReporter
from mcp_discovery.client.facade import FacadeSource
from mcp_discovery.client.source import CallOutcome
from mcp_discovery.client.transports import SharedHttp
from mcp_discovery.facade.access.tokens import hash_of, new_token
from tests.facade.access.tokens import TOKENS, guarded, write_auth_file
from tests.facade.harness import leased

_BAD = "mcpd_reader_" + "x" * 43


class Asked:
    """What is asked for a token: it issues those that are given it, the last one for ever."""

    def __init__(self, *tokens: str) -> None:
        self._tokens = list(tokens)
        self.asked = 0

    async def __call__(self) -> str:
        self.asked += 1
        return self._tokens.pop(0) if len(self._tokens) > 1 else self._tokens[0]


async def test_a_function_is_asked_again_once_when_the_facade_refuses_the_token(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with guarded(tmp_path) as ask:
        asked = Asked(_BAD, TOKENS["reader"])
        with caplog.at_level(logging.DEBUG):
            async with Discovery(ask.url, token=asked) as d:
                lists = await asyncio.gather(*(d.servers() for _ in range(20)))
                await d.connect()
        assert lists == [[]] * 20
        assert asked.asked == 2
        assert _BAD not in caplog.text + repr(vars(d))
        assert TOKENS["reader"] not in caplog.text + repr(vars(d))


async def test_what_is_refused_says_what_to_do_and_holds_no_token(tmp_path: Path) -> None:
    async with guarded(tmp_path) as ask:
        for token in (None, _BAD, lambda: _BAD):
            async with Discovery(ask.url, token=token) as d:
                with pytest.raises(UnauthenticatedError, match="token= or token_file=") as refused:
                    await d.servers()
            assert _BAD not in str(refused.value)

        async def broken() -> str:
            raise OSError("the vault is sealed")

        async with Discovery(ask.url, token=broken) as d:
            with pytest.raises(StoreUnavailableError, match="OSError: the vault is sealed"):
                await d.servers()


async def test_a_missing_right_is_named_and_no_other_token_is_asked_for(tmp_path: Path) -> None:
    sections = {"roles": {"reader": "report"}, "tokens": _tokens("reader")}
    async with guarded(tmp_path, sections) as ask:
        asked = Asked(TOKENS["reader"])
        async with Discovery(ask.url, token=asked) as d:
            with pytest.raises(ForbiddenError, match=r"reader .* has no right to read") as caught:
                await d.servers()
        assert caught.value.needs == "read"
        assert asked.asked == 1


async def test_a_followed_list_lasts_through_a_token_that_counts_no_more(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKENS["registrar"])
    async with guarded(tmp_path) as ask:
        own = {"Authorization": f"Bearer {TOKENS['operator']}"}
        first = await ask("POST", "/servers", leased("a"), headers=own)
        assert first.status == 201
        async with Discovery(ask.url, token_file=str(file)) as d:
            changes = d.watch()
            async with asyncio.timeout(20):
                assert (await anext(changes)).id == "a"
                write_auth_file(tmp_path / "auth.yaml", tokens=_tokens("reader", "operator"))
                file.write_text(TOKENS["reader"])
                second = await ask("POST", "/servers", leased("b"), headers=own)
                assert second.status == 201
                while True:
                    change = await anext(changes)
                    assert change.kind not in ("removed", "stale")
                    if change.id == "b":
                        break
                await changes.aclose()
            assert [each.id for each in await d.servers(status="all")] == ["a", "b"]


def _tokens(*roles: str) -> dict[str, object]:
    return {role: {"hash": hash_of(TOKENS[role]), "roles": role} for role in roles}


@asynccontextmanager
async def redirecting(target: str) -> AsyncIterator[tuple[str, list[str]]]:
    """Somebody at a facade's address who leads elsewhere: a real facade never does."""
    seen: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization", ""))
        raise web.HTTPTemporaryRedirect(f"{target}{request.path_qs}")

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", seen
    finally:
        await runner.cleanup()


async def test_no_redirect_takes_the_token_elsewhere() -> None:
    async with redirecting("http://127.0.0.1:9") as (elsewhere, at_target):
        async with redirecting(elsewhere) as (url, seen), Discovery(url, token="t") as d:
            with pytest.raises(StoreUnavailableError, match="HTTP 307"):
                await d.servers()
            with pytest.raises(StoreUnavailableError, match="HTTP 307"):
                await d.connect()
            assert set(seen) == {"Bearer t"}
        assert at_target == []


@pytest.mark.slow
async def test_no_change_is_lost_or_told_twice_where_streams_end_with_their_tokens(
    tmp_path: Path,
) -> None:
    """Every second the token of the stream ends, and with it the stream."""
    tokens = [new_token(f"short-{number}") for number in range(4)]

    def ending(number: int) -> dict[str, object]:
        when = datetime.now(UTC) + timedelta(seconds=1.5 * (number + 1))
        lasts = number == len(tokens) - 1
        expires = None if lasts else when.isoformat()
        return {"hash": hash_of(tokens[number]), "roles": "reader", "expires": expires}

    known = {f"short-{number}": ending(number) for number in range(4)}
    asked = Asked(*tokens)
    async with guarded(tmp_path, {"tokens": known | _tokens("operator", "reader")}) as ask:
        own = {"Authorization": f"Bearer {TOKENS['operator']}"}
        async with Discovery(ask.url, token=asked) as d:
            seen: list[str] = []
            posted = 0
            changes = d.watch()
            async with asyncio.timeout(30):

                async def follow() -> None:
                    async for change in changes:
                        assert change.kind == "added"
                        seen.append(str(change.id))
                        if change.id == "the-last":
                            return

                following = asyncio.create_task(follow())
                while asked.asked < 4:
                    reply = await ask("POST", "/servers", leased(f"s-{posted}"), headers=own)
                    assert reply.status == 201
                    posted += 1
                    await asyncio.sleep(0.02)
                await ask("POST", "/servers", leased("the-last"), headers=own)
                await following
                await changes.aclose()
    assert seen == [*(f"s-{number}" for number in range(posted)), "the-last"]


async def test_who_may_not_report_outcomes_stops_doing_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with guarded(tmp_path) as ask:
        for role, refused in (("reader", True), ("registrar", False)):
            source = FacadeSource(
                ask.url,
                SharedHttp(connect_timeout=5, guard=None),
                token=BearerToken("token", TOKENS[role]),
            )
            reporter = OutcomeReporter(source)
            with caplog.at_level(logging.INFO, "mcp_discovery.client.calls"):
                for _ in range(3):
                    reporter.add(CallOutcome("a", "tool", success=True, latency=0.1))
                    await reporter.flush()
            said = [each for each in caplog.messages if "has no right to report" in each]
            assert len(said) == (1 if refused else 0)
            caplog.clear()


async def test_a_facade_that_asks_to_come_again_later_is_away(tmp_path: Path) -> None:
    limits = {"limits": {"anonymous": {"reads": "2/minute"}}, "anonymous": "reader"}
    async with guarded(tmp_path, limits) as ask, Discovery(ask.url) as d:
        with pytest.raises(StoreUnavailableError, match="HTTP 429") as caught:
            for _ in range(5):
                await d.servers()
        assert caught.value.retry_after > 0

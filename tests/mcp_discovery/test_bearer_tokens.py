"""Tokens that are asked for: once for all who want one, before they end, and when refused."""

from __future__ import annotations

import asyncio
import logging
import time
from base64 import urlsafe_b64encode

import orjson
import pytest

from mcp_discovery import bearer_tokens
from mcp_discovery.bearer_tokens import BearerToken, IssuedToken, expiry_of
from mcp_discovery.credential_files import read_again
from mcp_discovery.errors import InvalidInputError, TokenError


def jwt(**claims: object) -> str:
    parts = ({"alg": "none"}, claims)
    encoded = (urlsafe_b64encode(orjson.dumps(each)).rstrip(b"=").decode() for each in parts)
    return ".".join([*encoded, "c2ln"])


class Issuer:
    """Issues numbered tokens, which live for ``lifetime`` seconds."""

    def __init__(self, lifetime: float | None = None) -> None:
        self.asked = 0
        self.lifetime = lifetime
        self.failure: Exception | None = None

    async def __call__(self) -> IssuedToken:
        await asyncio.sleep(0)
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        ends = None if self.lifetime is None else time.time() + self.lifetime
        return IssuedToken(f"token-{self.asked}", ends)


async def test_many_at_once_ask_once_also_after_a_refusal() -> None:
    issuer = Issuer()
    token = BearerToken("token", issuer)
    assert set(await asyncio.gather(*(token.current() for _ in range(50)))) == {"token-1"}
    refused = await asyncio.gather(*(token.after_refusal("token-1") for _ in range(50)))
    assert set(refused) == {"token-2"}
    # One that was sent with the former token is refused late: there is a newer one already.
    assert await token.after_refusal("token-1") == "token-2"
    assert issuer.asked == 2


async def test_a_failure_is_told_to_all_who_waited_and_asked_about_once() -> None:
    issuer = Issuer()
    issuer.failure = OSError("no way there")
    token = BearerToken("facade's token", issuer)
    found = await asyncio.gather(*(token.current() for _ in range(20)), return_exceptions=True)
    assert {str(each) for each in found} == {
        "asking for the facade's token failed: OSError: no way there"
    }
    assert issuer.asked == 1
    issuer.failure = None
    assert await token.current() == "token-2"


async def test_a_cancelled_one_leaves_the_asking_to_the_next() -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def ask() -> str:
        started.set()
        await go_on.wait()
        return "token"

    token = BearerToken("token", ask)
    first = asyncio.create_task(token.current())
    await started.wait()
    second = asyncio.create_task(token.current())
    await asyncio.sleep(0)
    first.cancel()
    go_on.set()
    assert await second == "token"


async def test_it_is_renewed_before_its_known_end_and_the_last_one_serves_while_that_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(bearer_tokens, "_PAUSE", 0.0)
    monkeypatch.setattr(bearer_tokens, "_EARLY_PART", 1.0)  # its end is always near
    issuer = Issuer(lifetime=30)
    token = BearerToken("token", issuer)
    assert await token.current() == "token-1"
    assert await token.current() == "token-2"
    issuer.failure = OSError("away")
    with caplog.at_level(logging.WARNING):
        assert await token.current() == "token-2"
        assert await token.current() == "token-2"
    assert "OSError: away; the last one goes on being used" in caplog.text
    assert issuer.asked == 3  # not again for a while


async def test_an_issuer_that_hangs_holds_nobody_up_who_has_a_valid_token(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(bearer_tokens, "_PATIENCE", 0.2)
    asked = 0

    async def ask() -> str:
        nonlocal asked
        asked += 1
        if asked > 1:
            await asyncio.Event().wait()
        return "token"

    token = BearerToken("token", ask)
    assert await token.current() == "token"
    read_again()  # has it be asked for again
    began = time.monotonic()
    many = await asyncio.gather(*(token.current() for _ in range(10)))
    assert set(many) == {"token"}
    assert time.monotonic() - began < 2
    before = asked
    assert await token.current() == "token"
    assert asked == before
    assert "asking for the token takes over 0.2 s" in caplog.text


async def test_one_whose_end_is_far_or_past_by_this_clock_is_kept_until_it_is_refused() -> None:
    for lifetime in (3600, -3600):
        issuer = Issuer(lifetime)
        token = BearerToken("token", issuer)
        assert {await token.current() for _ in range(3)} == {"token-1"}
        read_again()  # SIGHUP
        assert await token.current() == "token-2"


def test_the_end_of_a_jwt_is_read_and_nothing_else() -> None:
    assert expiry_of(jwt(exp=1234.5)) == 1234.5
    unreadable = ("opaque", "a.b.c", "a..c", jwt(), jwt(exp="1"), jwt(exp=True) + ".d")
    assert [expiry_of(each) for each in unreadable] == [None] * len(unreadable)


async def test_plain_functions_are_asked_in_a_thread() -> None:
    def blocking() -> str:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        return "token"

    assert await BearerToken("token", blocking).current() == "token"

    async def ask() -> str:
        return "another"

    assert await BearerToken("token", lambda: ask()).current() == "another"


async def test_what_cannot_be_sent_is_told_without_being_repeated() -> None:
    for bad in ("", "geheim\nx", "gehéim"):
        with pytest.raises(TokenError) as caught:
            await BearerToken("token", lambda bad=bad: bad).current()
        assert "geh" not in str(caught.value)
    with pytest.raises(TokenError, match="returned NoneType and no text"):
        await BearerToken("token", lambda: None).current()  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="asked for and in a file"):
        BearerToken("token", lambda: "x", "file")
    with pytest.raises(InvalidInputError, match="neither text nor a function"):
        BearerToken("token", 7)  # type: ignore[arg-type]


async def test_a_failure_does_not_repeat_a_token() -> None:
    issuer = Issuer()
    token = BearerToken("token", issuer)
    await token.current()
    issuer.failure = OSError(f"token-1 is refused, and so is {jwt(exp=1, sub='somebody-known')}")
    with pytest.raises(TokenError, match=r"OSError: \*\*\* is refused, and so is \*\*\*$"):
        await token.after_refusal("token-1")
    assert "token-1" not in repr(IssuedToken("token-1"))

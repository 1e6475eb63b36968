"""What an issuer, or whoever is between it and the browser, may answer a sign-in with."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import pytest
from yarl import URL

from mcp_discovery.errors import InvalidInputError
from mcp_discovery.facade.access.auth_file import follow
from tests.facade.access.browser import CookieClient, browser_of, cookie_name
from tests.facade.access.issuer import AUDIENCE, StubIssuer, public_jwk, stub_issuer
from tests.facade.access.tokens import guarded, write_auth_file
from tests.facade.harness import Reply
from tests.stores.waiting import until

CLIENT = "pages"


@dataclass
class SignIn:
    """A sign-in that has begun: what the facade asked the issuer for."""

    browser: CookieClient
    issuer: StubIssuer
    asked: URL
    name: str = "idp"

    async def answer(self, **changes: Any) -> Reply:
        """Comes back with a code, or with ``changes`` in the query."""
        query = {"code": "a code", "state": self.asked.query["state"], "iss": self.issuer.url}
        given = {name: str(each) for name, each in (query | changes).items() if each is not None}
        path = URL(f"/ui/login/{self.name}/callback").with_query(given)
        return await self.browser.open(str(path))

    def grants(
        self, key: str = "one", headers: Mapping[str, Any] | None = None, **changes: Any
    ) -> None:
        """The code is worth an ID token with ``changes`` in its claims, to who has its verifier."""
        claims = {"aud": CLIENT, "nonce": self.asked.query["nonce"]} | changes
        challenge = self.asked.query["code_challenge"]

        def exchange(form: Mapping[str, str]) -> dict[str, Any]:
            digest = hashlib.sha256(form["code_verifier"].encode()).digest()
            if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != challenge:
                return {"error": "invalid_grant"}
            assert form["redirect_uri"] == self.asked.query["redirect_uri"]
            assert form["client_id"] == CLIENT
            token = self.issuer.token("EC", key, headers, **claims)
            return {"access_token": "opaque", "token_type": "Bearer", "id_token": token}

        self.issuer.exchange = exchange

    @property
    def is_over(self) -> bool:
        """Whether somebody is signed in."""
        return cookie_name(self.browser.url) in self.browser.cookies


def section(issuer: StubIssuer, name: str = "idp", **more: Any) -> dict[str, Any]:
    """The issuer in the file."""
    login = {"client_id": CLIENT, "name": name}
    return {"issuer": issuer.url, "audience": AUDIENCE, "login": login} | more


async def begun(browser: CookieClient, issuer: StubIssuer, name: str = "idp") -> SignIn:
    """A sign-in at ``issuer``."""

    async def is_known() -> bool:
        return "/jwks" in issuer.requests

    await until(is_known, timeout=10, what="the issuer's keys")
    sent = await browser.open(f"/ui/login/{name}?next=/ui/me")
    assert sent.status == 303, sent.body
    return SignIn(browser, issuer, URL(sent.headers["Location"]), name)


@asynccontextmanager
async def signing_in(folder: Path, **more: Any) -> AsyncIterator[SignIn]:
    """A browser that has begun to sign in."""
    async with stub_issuer() as issuer:
        issuer.metadata = {"authorization_response_iss_parameter_supported": True}
        sections = {"issuers": [section(issuer, **more)]}
        async with guarded(folder, sections) as ask, browser_of(ask) as browser:
            yield await begun(browser, issuer)


async def test_what_is_asked_for(tmp_path: Path) -> None:
    async with signing_in(tmp_path) as found:
        query = found.asked.query
        assert (query["response_type"], query["scope"]) == ("code", "openid")
        assert query["code_challenge_method"] == "S256"
        assert query["redirect_uri"] == f"{found.browser.url}/ui/login/idp/callback"
        assert len(query["state"]) >= 40 <= len(query["nonce"])
        found.grants()
        reply = await found.answer()
        assert reply.status == 200
        assert reply.headers["Refresh"] == "0; url=../../../ui/me"
        assert found.is_over
        who = (await found.browser("GET", "/whoami")).json
        assert (who["subject"], who["roles"]) == (f"{found.issuer.url}#alice", ["reader"])


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "another-client"},
        {"aud": AUDIENCE},
        {"aud": [CLIENT, "other"]},
        {"aud": [CLIENT, "other"], "azp": "other"},
        {"azp": "other"},
        {"aud": None},
        {"nonce": "another"},
        {"nonce": None},
        {"nonce": 1},
        {"iss": "https://evil.example"},
        {"exp": 1},
        {"exp": None},
        {"iat": 1e11},
        {"sub": None},
        {"sub": "a\nb"},
        {"headers": {"typ": "at+jwt"}},
        {"headers": {"jku": "https://evil.example"}},
        {"headers": {"crit": ["x"]}},
        {"key": "another"},
    ],
)
async def test_an_id_token_that_does_not_count(tmp_path: Path, changes: dict[str, Any]) -> None:
    async with signing_in(tmp_path) as found:
        found.grants(**changes)
        reply = await found.answer()
        assert reply.status == 401
        assert b"answer does not count here" in reply.body
        assert not found.is_over
        found.grants()  # what failed cannot be tried again: it was for one time
        assert (await found.answer()).status == 400


@pytest.mark.parametrize("algorithm", ["none", "HS256"])
async def test_a_signature_that_anybody_can_make(tmp_path: Path, algorithm: str) -> None:
    async with signing_in(tmp_path) as found:
        nonce = found.asked.query["nonce"]
        claims = found.issuer.claims(aud=CLIENT, nonce=nonce)
        key = "" if algorithm == "none" else public_jwk("EC", "one")["x"]
        forged = jwt.encode(claims, key, algorithm, headers={"kid": "one"})
        found.issuer.exchange = lambda form: {"id_token": forged, "access_token": "x"}
        assert (await found.answer()).status == 401
        assert not found.is_over


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"state": None}, 400),
        ({"state": "another"}, 400),
        ({"state": "é"}, 400),
        ({"iss": None}, 401),
        ({"iss": "https://evil.example"}, 401),
        ({"code": None}, 401),
        ({"code": None, "error": "access_denied"}, 403),
        ({"code": None, "error": "<b>", "error_description": "\u202e<script>"}, 403),
    ],
)
async def test_an_answer_that_is_not_to_the_question(
    tmp_path: Path, changes: dict[str, Any], status: int
) -> None:
    async with signing_in(tmp_path) as found:
        if changes.get("code", "") is not None:
            found.grants()
        reply = await found.answer(**changes)
        assert reply.status == status
        assert not found.is_over
        assert b"<script>" not in reply.body
        assert "\u202e" not in reply.body.decode()


async def test_an_answer_in_a_browser_that_asked_nothing(tmp_path: Path) -> None:
    """Login CSRF: whoever has a code of their own has somebody else's browser follow it."""
    async with signing_in(tmp_path) as attacker, browser_of(attacker.browser) as victim:
        attacker.grants()
        theirs = SignIn(victim, attacker.issuer, attacker.asked)
        assert (await theirs.answer()).status == 400
        own = await begun(victim, attacker.issuer)
        assert (await theirs.answer()).status == 400
        assert not theirs.is_over
        # What somebody was about to do goes on.
        own.grants()
        assert (await own.answer()).status == 200


async def test_a_code_of_somebody_else(tmp_path: Path) -> None:
    """Code injection: the code was asked for with another verifier, and nonce."""
    async with signing_in(tmp_path) as victim, browser_of(victim.browser) as other:
        attacker = await begun(other, victim.issuer)
        victim.grants()
        assert (await attacker.answer()).status == 401
        # Even an issuer that does not look at PKCE says for whom the token was made.
        token = victim.issuer.token(aud=CLIENT, nonce=victim.asked.query["nonce"])
        victim.issuer.exchange = lambda form: {"id_token": token}
        attacker = await begun(other, victim.issuer)
        assert (await attacker.answer()).status == 401
        assert not attacker.is_over


async def test_an_answer_of_one_issuer_for_another(tmp_path: Path) -> None:
    """Mix-up (RFC 9700, 4.4): with and without issuers that name themselves."""
    async with stub_issuer() as honest, stub_issuer() as evil:
        sections = {"issuers": [section(honest, "honest"), section(evil, "evil")]}
        async with guarded(tmp_path, sections) as ask, browser_of(ask) as browser:
            await begun(browser, honest, "honest")
            found = await begun(browser, evil, "evil")
            codes: list[str] = []

            def steal(form: Mapping[str, str]) -> dict[str, Any]:
                codes.append(form["code"])
                return {"error": "invalid_grant"}

            evil.exchange = steal
            # The honest one answers to its own redirect URI, with the state that the evil one gave.
            found.name = "honest"
            assert (await found.answer(iss=None)).status == 400
            found.name, found.issuer = "evil", honest
            assert (await found.answer()).status == 401
            assert codes == []
            assert not found.is_over


@pytest.mark.slow
async def test_a_session_ends_with_what_it_rests_on(tmp_path: Path) -> None:
    async with signing_in(tmp_path) as found:
        found.grants()
        await found.answer()

        async def changed(expected: int, **more: Any) -> None:
            async def answers() -> bool:
                reply = await found.browser("GET", "/servers")
                return reply.status == expected

            path = tmp_path / "auth.yaml"
            write_auth_file(path, issuers=[section(found.issuer, **more)])
            await until(answers, timeout=15, what=f"{expected} with {more}")

        await changed(401, login=None)
        await changed(200)
        await changed(401, login={"client_id": "another", "name": "idp"})
        await changed(200)
        await changed(401, roles_claim="groups")
        await changed(200)
        await changed(403, roles={"nobody": "reader"})
        await changed(200)
        # A key that the issuer drops: what it signed counts no more.
        found.issuer.keys = {"two": "EC"}
        await changed(401, refresh=11)


async def test_an_issuer_that_is_away_is_told(tmp_path: Path) -> None:
    async with stub_issuer() as issuer:
        issuer.is_up = False
        async with guarded(tmp_path, {"issuers": [section(issuer)]}) as ask:
            reply = await ask("GET", "/ui/login/idp", allow_redirects=False)
            assert reply.status == 503
            assert b"cannot be asked now" in reply.body
            assert (await ask("GET", "/ui/login/another")).status == 404


@pytest.mark.parametrize("field", ["authorization_endpoint", "token_endpoint"])
async def test_endpoints_without_tls_are_not_used(tmp_path: Path, field: str) -> None:
    async with stub_issuer() as issuer:
        issuer.metadata = {field: "http://elsewhere.example/x"}
        async with guarded(tmp_path, {"issuers": [section(issuer)]}) as ask:
            assert (await ask("GET", "/ui/login/idp", allow_redirects=False)).status == 503


async def test_too_many_groups_are_cut_to_those_that_mean_something(tmp_path: Path) -> None:
    groups = [hashlib.sha256(b"%d" % each).hexdigest() for each in range(300)]
    mapped = {"roles": {groups[-1]: "reader"}}
    async with signing_in(tmp_path, **mapped) as found:
        found.grants(roles=groups)
        assert (await found.answer()).status == 200
        assert (await found.browser("GET", "/whoami")).json["roles"] == ["reader"]
        assert len(found.browser.cookies[cookie_name(found.browser.url)]) < 4000


@pytest.mark.parametrize(
    ("login", "said"),
    [
        ({"client_id": "a", "scopes": "profile"}, "openid is missing"),
        ({"client_id": "a", "client_secret_file": "/nowhere"}, "/nowhere"),
        ({"client_id": "a", "name": "a/b"}, "name"),
        ({"client": "a"}, "did you mean client_id"),
    ],
)
def test_what_the_file_may_not_say(tmp_path: Path, login: dict[str, Any], said: str) -> None:
    issuer = {"issuer": "https://a.example", "audience": "b", "login": login}
    path = write_auth_file(tmp_path / "auth.yaml", issuers=[issuer])
    with pytest.raises(InvalidInputError, match=said):
        follow(path)


def test_two_issuers_of_one_name(tmp_path: Path) -> None:
    issuers = [
        {"issuer": f"https://a.example/{each}", "audience": "b", "login": {"client_id": "a"}}
        for each in ("one", "two")
    ]
    path = write_auth_file(tmp_path / "auth.yaml", issuers=issuers)
    with pytest.raises(InvalidInputError, match=r"two that are called a\.example"):
        follow(path)

"""The page Me: what it tells of somebody, and of nobody else."""

from __future__ import annotations

import re
from pathlib import Path

from mcp_discovery.facade.access.tokens import hash_of, new_token
from tests.facade.access.browser import browser_of, signed_in
from tests.facade.access.tokens import ROLES, TOKENS, bearer, guarded
from tests.facade.harness import Client, leased


def shown(page: bytes) -> str:
    """The text of the page's main part."""
    main = page.decode().partition("<main")[2].partition("</main>")[0]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", main))


async def test_it_tells_roles_rights_and_what_they_are_for(tmp_path: Path) -> None:
    async with signed_in(tmp_path, "manager") as browser:
        text = shown((await browser.open("/ui/me")).body)
        assert "Who I am Name manager Known by a token of this facade" in text
        assert "read see servers" in text
        assert "tools: search_knowledge, get_article, list_categories" in text
        assert "tools: get_ticket, list_tickets, get_report" in text
        assert "register change" not in text
    async with signed_in(tmp_path, "operator") as browser:
        text = shown((await browser.open("/ui/me")).body)
        assert "admin see and do what concerns the facade itself everything" in text


async def test_it_shows_ones_own_tokens_without_secrets(tmp_path: Path) -> None:
    mine, other, theirs = map(new_token, ("desk", "laptop", "theirs"))
    tokens = {
        "desk": {"hash": hash_of(mine), "subject": "alice", "roles": "reader"},
        "laptop": {
            "hash": hash_of(other),
            "subject": "alice",
            "roles": ["reader"],
            "expires": "2020-01-01",
            "note": "<b>hers</b>\u202e",
        },
        "theirs": {"hash": hash_of(theirs), "subject": "bob", "roles": "reader"},
    }
    async with guarded(tmp_path, {"tokens": tokens}) as ask, browser_of(ask) as browser:
        assert (await browser.sign_in(mine)).status == 303
        body = (await browser.open("/ui/me")).body
        text = shown(body)
        assert "desk this session reader no end" in text
        assert "laptop reader expired 2020-01-01T00:00:00.000Z" in text
        assert "&lt;b&gt;hers&lt;/b&gt;\\u{202E}" in text
        for hidden in ("theirs", "bob", "sha256", mine, other):
            assert hidden.encode() not in body


async def test_it_shows_ones_own_servers_that_one_sees(tmp_path: Path) -> None:
    async with guarded(tmp_path) as ask, browser_of(ask) as browser:
        for id, role in (("mine", "registrar"), ("yours", "operator")):
            made = await ask("POST", "/servers", leased(id, name=id), headers=bearer(role))
            assert made.status == 201
        await browser.sign_in(TOKENS["registrar"])
        text = shown((await browser.open("/ui/me")).body)
        assert "My servers mine" in text
        assert "yours" not in text


async def test_who_is_not_signed_in_is_told(tmp_path: Path, ask: Client) -> None:
    assert "started without --auth" in shown((await ask("GET", "/ui/me")).body)
    roles = dict(ROLES) | {"guest": "read"}
    async with guarded(tmp_path, {"roles": roles, "anonymous": "guest"}) as other:
        text = shown((await other("GET", "/ui/me")).body)
        assert "Nobody is signed in here" in text
        assert "My tokens" not in text


async def test_who_shows_a_token_sees_the_same_without_a_session(tmp_path: Path) -> None:
    async with guarded(tmp_path) as ask:
        text = shown((await ask("GET", "/ui/me", headers=bearer("reader"))).body)
        assert "Name reader" in text
        assert "Sign out" not in text

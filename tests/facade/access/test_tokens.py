"""Tokens of the facade itself, over HTTP."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import yaml
from yarl import URL

from mcp_discovery.facade.access.tokens import TokenEntry, find, hash_of, new_token
from tests.facade.access.tokens import ROLES, TOKENS, bearer, guarded, write_auth_file
from tests.facade.harness import Client, leased
from tests.stores.waiting import bounded, until


async def test_each_role_may_do_what_it_may(tmp_path: Path) -> None:
    async with guarded(tmp_path) as ask:
        for role in ROLES:
            assert (await ask("GET", "/servers", headers=bearer(role))).status == 200
        made = await ask("POST", "/servers", leased("one"), headers=bearer("registrar"))
        assert made.status == 201
        refused = await ask("POST", "/servers", leased("two"), headers=bearer("manager"))
        assert refused.status == 403
        assert refused.json["type"].endswith(":forbidden")
        challenge = refused.headers["WWW-Authenticate"]
        assert 'error="insufficient_scope"' in challenge
        assert 'scope="register"' in challenge


async def test_without_a_credential(tmp_path: Path) -> None:
    async with guarded(tmp_path) as ask:
        refused = await ask("GET", "/servers")
        assert refused.status == 401
        assert refused.headers["WWW-Authenticate"].startswith("Bearer ")
        assert "error=" not in refused.headers["WWW-Authenticate"]
        assert (await ask("GET", "/health")).status == 200
        assert (await ask("OPTIONS", "/servers")).status == 204


async def test_anonymous_callers_have_roles_if_the_file_says_so(tmp_path: Path) -> None:
    async with guarded(tmp_path, {"anonymous": "reader"}) as ask:
        assert (await ask("GET", "/servers")).status == 200
        assert (await ask("POST", "/servers", leased("one"))).status == 401


GOOD = TOKENS["reader"]


@pytest.mark.parametrize(
    "header",
    [
        "Bearer {good}x",
        "Bearer {other}",
        "Bearer {unknown}",
        "Bearer {good} {good}",
        "Bearer {good}\u00a0",
        "Bearer \u2003{good}",
        "Basic {good}",
        "Token {good}",
        "Bearer",
        "Bearer ",
        "{good}",
        "Bearer long",
        "Bearer ../../etc/passwd",
        "Bearer null",
    ],
)
async def test_bad_tokens_get_401_and_no_echo(tmp_path: Path, header: str) -> None:
    header = header.format(good=GOOD, other=new_token("reader"), unknown=new_token("nobody"))
    header = header.replace("long", "a" * 7000)
    async with guarded(tmp_path, {"anonymous": "reader"}) as ask:
        refused = await ask("GET", "/servers", headers={"Authorization": header})
        assert refused.status == 401
        assert 'error="invalid_token"' in refused.headers["WWW-Authenticate"]
        assert GOOD not in refused.body.decode()
        # What is open to everybody stays open.
        assert (await ask("GET", "/health", headers={"Authorization": header})).status == 200


async def test_where_else_a_token_may_stand(tmp_path: Path) -> None:
    async with guarded(tmp_path) as ask:
        assert (await ask("GET", f"/servers?access_token={GOOD}")).status == 401
        twice = [("Authorization", f"Bearer {GOOD}")] * 2
        assert (await ask("GET", "/servers", headers=twice)).status == 400
        small = {"authorization": f"bearer {GOOD}"}
        assert (await ask("GET", "/servers", headers=small)).status == 200


async def test_a_token_expires_and_is_revoked(tmp_path: Path) -> None:
    tokens: dict[str, dict[str, object]] = {
        "old": {"hash": hash_of(GOOD), "roles": "reader", "expires": "2026-01-01"},
        "reader": {"hash": hash_of(GOOD), "roles": ["reader"], "expires": "2026-01-01T00:00:00Z"},
    }
    async with guarded(tmp_path, {"tokens": tokens}) as ask:
        assert (await ask("GET", "/servers", headers=bearer("reader"))).status == 401
        tokens["reader"]["expires"] = "2200-01-01"
        write_auth_file(tmp_path / "auth.yaml", tokens=tokens)
        await _until_status(ask, 200)
        write_auth_file(tmp_path / "auth.yaml", tokens={})
        await _until_status(ask, 401)


async def _until_status(ask: Client, status: int) -> None:
    async def has_it() -> bool:
        return (await ask("GET", "/servers", headers=bearer("reader"))).status == status

    await until(has_it, timeout=10, what=f"{status} for the token")


async def test_a_file_that_cannot_be_used_keeps_the_last(tmp_path: Path) -> None:
    async with guarded(tmp_path) as ask:
        (tmp_path / "auth.yaml").write_text("tokens: [")
        for _ in range(20):
            assert (await ask("GET", "/servers", headers=bearer("reader"))).status == 200


def test_a_token_is_found_by_its_id_alone() -> None:
    token = new_token("a-b")
    content = {"hash": hash_of(token), "roles": ["x"]}
    known = {"a-b": TokenEntry.model_validate(content), "b": TokenEntry.model_validate(content)}
    found = find(token, known)
    assert found is not None
    assert found[0] == "a-b"
    assert find(token.replace("a-b", "b"), known) is None
    assert token not in yaml.safe_dump(content)


async def test_bytes_that_are_no_text_are_no_token(tmp_path: Path) -> None:
    async with guarded(tmp_path) as ask:
        for value in (b"Bearer \xff\xfe", b"Bearer mcpd_\xff_\xff", b"Bearer a.\xff.b", b"\xff"):
            reader, writer = await asyncio.open_connection("127.0.0.1", URL(ask.url).port)
            head = b"GET /servers HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
            writer.write(head + b"Authorization: " + value + b"\r\n\r\n")
            status = (await bounded(reader.readline(), 10)).split()[1]
            assert status in (b"400", b"401"), (value, status)
            writer.close()


async def test_refusals_are_counted_by_reason_and_nobody_sees_a_token(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    wrong = new_token("reader")
    async with guarded(tmp_path) as ask:
        for token in (wrong, "nonsense"):
            assert (
                await ask("GET", "/servers", headers={"Authorization": f"Bearer {token}"})
            ).status == 401
        text = (await ask("GET", "/metrics", headers=bearer("operator"))).body.decode()
    assert 'mcp_discovery_credentials_refused_total{reason="unknown"} 2.0' in text
    for secret in (wrong, TOKENS["operator"]):
        assert secret not in caplog.text + text

"""Tokens for machines, from an issuer that does what it may and what it may not."""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from mcp_discovery.adapters.remote import RemoteStore
from mcp_discovery.adapters.store import StoreOptions
from mcp_discovery.errors import InvalidInputError, StoreUnavailableError, TokenError
from mcp_discovery.oauth import ClientCredentials
from tests.facade.access.tokens import TOKENS, guarded
from tests.mcp_discovery.oauth.issuer import OddIssuer, odd_issuer
from tests.records import document, record


@pytest_asyncio.fixture
async def issuer() -> AsyncIterator[OddIssuer]:
    async with odd_issuer() as found:
        yield found


def basic(name: str, secret: str) -> str:
    return f"Basic {b64encode(f'{name}:{secret}'.encode()).decode()}"


async def test_the_secret_is_shown_as_the_issuer_wants_it_and_the_resource_is_named(
    issuer: OddIssuer,
) -> None:
    issuer.granting("client_credentials", "token-1", expires_in=60)
    ask = ClientCredentials(
        issuer.url, "a:b", client_secret="geheim%", scope="read", resource="https://facade"
    )
    token = await ask()
    assert token.value == "token-1"
    assert token.expires_at is not None and 50 < token.expires_at - time.time() <= 60
    wanted = {"grant_type": "client_credentials", "scope": "read", "resource": "https://facade"}
    assert issuer.forms == [wanted]
    assert issuer.authorizations == [basic("a%3Ab", "geheim%25")]
    issuer.metadata["token_endpoint_auth_methods_supported"] = ["client_secret_post"]
    ask = ClientCredentials(issuer.url, "a:b", client_secret="geheim%")
    await ask()
    assert issuer.forms[1] == {
        "grant_type": "client_credentials",
        "client_id": "a:b",
        "client_secret": "geheim%",
    }
    assert issuer.authorizations[1] == ""
    assert "geheim" not in repr(ask) + str(vars(ask))


async def test_a_secret_that_is_rotated_is_read_again(issuer: OddIssuer, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("old")
    ask = ClientCredentials(issuer.url, "a", client_secret_file=str(file))
    file.write_text("new")
    issuer.refusing("client_credentials", "invalid_client", 401)
    issuer.granting("client_credentials", "token")
    assert (await ask()).value == "token"
    assert issuer.authorizations[1] == basic("a", "new")


@pytest.mark.parametrize(
    ("metadata", "denied", "says"),
    [
        ({"issuer": "https://evil.example"}, True, "calls itself https://evil.example"),
        ({"token_endpoint": "http://evil.example/token"}, True, "is not encrypted"),
        ({"token_endpoint": None}, True, "names no token_endpoint"),
        ({"issuer": None}, False, "has no metadata of an authorization server"),
    ],
)
async def test_metadata_of_another_get_no_secret(
    issuer: OddIssuer, metadata: dict[str, object], denied: bool, says: str
) -> None:
    issuer.metadata |= metadata
    with pytest.raises(TokenError, match=says) as caught:
        await ClientCredentials(issuer.url, "a", client_secret="geheim")()
    assert caught.value.denied is denied
    assert issuer.forms == []


async def test_a_refusal_is_told_apart_from_an_issuer_that_is_away(issuer: OddIssuer) -> None:
    ask = ClientCredentials(issuer.url, "a", client_secret="geheim")
    issuer.refusing("client_credentials", "invalid_target", error_description="unknown resource")
    issuer.refusing("client_credentials", "temporarily_unavailable", 503)
    with pytest.raises(TokenError, match="no token: invalid_target: unknown resource") as caught:
        await ask()
    assert caught.value.denied
    with pytest.raises(TokenError, match="temporarily_unavailable") as caught:
        await ask()
    assert not caught.value.denied
    with pytest.raises(TokenError, match=r"cannot be asked: .*is it running") as caught:
        await ClientCredentials("http://127.0.0.1:9", "a", client_secret="geheim")()
    assert not caught.value.denied
    issuer.answers["client_credentials"] = [(200, {"access_token": "x", "token_type": "DPoP"})]
    with pytest.raises(TokenError, match="of type dpop"):
        await ask()


@pytest.mark.parametrize("url", ["issuer.example", "ftp://h", "https://u:geheim@h", "https://h?a"])
def test_what_is_no_issuer(url: str) -> None:
    with pytest.raises(InvalidInputError, match="is no issuer") as caught:
        ClientCredentials(url, "a", client_secret="x")
    assert "geheim" not in str(caught.value)


async def test_a_store_that_is_a_facade_takes_them(issuer: OddIssuer, tmp_path: Path) -> None:
    issuer.refusing("client_credentials", "server_error", 500)
    issuer.granting("client_credentials", TOKENS["registrar"], expires_in=600)
    token = ClientCredentials(issuer.url, "sidecar", client_secret="geheim")
    async with guarded(tmp_path) as ask, RemoteStore(ask.url, StoreOptions(token=token)) as store:
        with pytest.raises(StoreUnavailableError, match="server_error"):
            await store.register(record(), document("a"), ttl=30, reap_after=60)
        await store.register(record(), document("a"), ttl=30, reap_after=60)
    assert len(issuer.forms) == 2

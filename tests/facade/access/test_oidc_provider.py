"""A certified OpenID Connect server as the issuer: resources, rotation, away and back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mcp_discovery.facade.access import issuer_keys
from tests.facade.access.issuer import AUDIENCE
from tests.facade.access.oidc_provider import OidcProvider
from tests.facade.access.tokens import guarded
from tests.facade.harness import Client, leased


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[OidcProvider]:
    found = OidcProvider(tmp_path)
    await found.start("one")
    try:
        yield found
    finally:
        await found.stop()


async def status(ask: Client, token: str, path: str = "/servers") -> int:
    return (await ask("GET", path, headers={"Authorization": f"Bearer {token}"})).status


async def test_keys_rotate_and_the_issuer_restarts_under_load(
    tmp_path: Path, provider: OidcProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuer_keys, "UNKNOWN_EVERY", 1.0)
    settings = {"issuers": [{"issuer": provider.url, "audience": AUDIENCE}]}
    async with guarded(tmp_path, settings) as ask:
        tokens = [await provider.token()]
        assert await status(ask, tokens[0]) == 200
        other = await provider.token("https://other.example.com")
        assert await status(ask, other) == 401
        for role, expected in (("reader", 403), ("registrar", 201)):
            headers = {"Authorization": f"Bearer {await provider.token(scope=role)}"}
            made = await ask("POST", "/servers", leased("one"), headers=headers)
            assert made.status == expected

        statuses: list[int] = []

        async def load() -> None:
            while True:
                statuses.append(await status(ask, tokens[len(statuses) % len(tokens)]))

        loads = [asyncio.create_task(load()) for _ in range(4)]
        try:
            for keys in (("two", "one"), ("three", "two", "one")):
                await provider.stop()
                before = len(statuses)
                while len(statuses) < before + 50:  # it is away
                    await asyncio.sleep(0.01)
                await provider.start(*keys)
                tokens.append(await provider.token())
                assert await status(ask, tokens[-1]) == 200
        finally:
            for each in loads:
                each.cancel()
            await asyncio.gather(*loads, return_exceptions=True)
        assert set(statuses) == {200}


async def test_a_token_is_for_one_address_of_the_gateway(
    tmp_path: Path, provider: OidcProvider
) -> None:
    public = "https://mcp.example.com"
    settings = {"issuers": [{"issuer": provider.url}]}
    async with guarded(tmp_path, settings, gateway=True, public_url=public) as ask:
        path = "/gateway/products/mcp"
        described = (await ask("GET", f"/.well-known/oauth-protected-resource{path}")).json
        assert described["authorization_servers"] == [provider.url]
        token = await provider.token(described["resource"])
        assert await status(ask, token, path) != 401
        assert await status(ask, token, "/gateway/other/mcp") == 401
        assert await status(ask, token, "/mcp") == 401

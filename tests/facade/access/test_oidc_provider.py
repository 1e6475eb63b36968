"""A certified OpenID Connect server as the issuer: resources, rotation, away and back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from jwt.algorithms import ECAlgorithm

from mcp_discovery.facade.access import issuer_keys
from tests.facade.access.issuer import AUDIENCE, private_key
from tests.facade.access.tokens import guarded
from tests.facade.harness import Client, leased
from tests.servers.process import until_answering
from tests.stores import ports
from tests.stores.binaries import STORES_FOLDER
from tests.stores.process import LocalProcess

_FOLDER = STORES_FOLDER / "issuer"
_PROGRAM = Path(__file__).with_name("oidc_provider.mjs")


class OidcProvider:
    """One, on a port of its own, that signs with the first of its ``keys``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = ports.draw()
        self._process = LocalProcess(str(_FOLDER / "bin/node"), folder / "issuer.log")
        self.url = f"http://127.0.0.1:{self._port.number}"

    async def start(self, *keys: str) -> None:
        """Starts it with these keys."""
        jwks = self._folder / "private.json"
        jwks.write_text(json.dumps({"keys": [_private_jwk(name) for name in keys]}))
        program = str(_PROGRAM), str(_FOLDER.resolve()), str(self._port.number), str(jwks)
        await self._process.start(program)
        await until_answering(self._process, f"{self.url}/jwks", 60, "oidc-provider")

    async def stop(self) -> None:
        """Stops it, if it runs."""
        await self._process.terminate(10)

    async def token(self, resource: str = AUDIENCE, scope: str = "reader") -> str:
        """A token by client credentials for ``resource``."""
        form = {"grant_type": "client_credentials", "scope": scope, "resource": resource}
        basic = aiohttp.encode_basic_auth("agent", "a+secret+of+the+tests")
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{self.url}/token", data=form, headers={"Authorization": basic}) as response,
        ):
            answer = await response.json()
            assert response.status == 200, answer
            return str(answer["access_token"])


def _private_jwk(name: str) -> dict[str, Any]:
    return ECAlgorithm.to_jwk(private_key("EC", name), as_dict=True) | {
        "kid": name,
        "use": "sig",
        "alg": "ES256",
    }


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

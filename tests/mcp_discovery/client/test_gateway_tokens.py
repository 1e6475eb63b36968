"""Servers behind the gateway of a facade that wants tokens, which end while calls are made."""

from __future__ import annotations

import time
from pathlib import Path

import aiohttp
import pytest

from mcp_discovery import Credentials, Discovery, UnknownToolError
from tests.facade.access.issuer import AUDIENCE, stub_issuer
from tests.facade.access.tokens import TOKENS, guarded
from tests.facade.harness import leased, served
from tests.servers.process import McpServer

#: Seconds for which each token is valid.
_VALID = 2


async def test_no_call_is_lost_or_made_twice_while_tokens_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = {"Authorization": f"Bearer {TOKENS['operator']}"}
    server = McpServer(("-m", "tests.servers.counting"), tmp_path)
    issued = 0
    async with stub_issuer() as signer:
        trusted = {"issuer": signer.url, "audience": AUDIENCE, "skew": 0}

        async def ask_for_token() -> str:
            nonlocal issued
            issued += 1
            return signer.token(roles=["operator"], exp=int(time.time()) + _VALID)

        async with guarded(tmp_path, {"issuers": [trusted]}, gateway=True) as gate:
            await server.start()
            try:
                body = leased("real", name="counting", url=server.url)
                assert (await gate("POST", "/servers", body, headers=own)).status == 201
                async with served() as ask:
                    url = f"{gate.url}/gateway/counting/mcp"
                    body = leased("through", name="counting", url=url)
                    assert (await ask("POST", "/servers", body)).status == 201
                    known = Credentials(ask_for_token, gate.url)
                    async with Discovery(ask.url, auth={"counting": known}) as d:
                        await d.connect()
                        made = 0
                        while issued < 4:
                            # It does not say that it may be repeated: once sent, it is not again.
                            result = await d.call("write", {"key": f"call-{made}"})
                            assert not result.is_error
                            made += 1
                    counts = await _counts(server)
                    assert counts == {f"write:call-{each}": 1 for each in range(made)}

                    async def broken() -> str:
                        raise OSError("the vault is sealed")

                    known = Credentials(broken, gate.url)
                    async with Discovery(ask.url, auth={"counting": known}, patience=0) as d:
                        await d.connect()
                        with pytest.raises(UnknownToolError):
                            await d.call("write", {"key": "never"})
                    assert "the vault is sealed" in caplog.text
            finally:
                await server.close()


async def _counts(server: McpServer) -> dict[str, int]:
    async with aiohttp.ClientSession() as http, http.get(f"{server.base_url}/counts") as response:
        counted: dict[str, int] = await response.json()
    return {key: count for key, count in counted.items() if key.startswith("write:")}

"""Servers with certificates of a private CA: probed, tried and reached through the gateway."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from mcp_discovery.errors import InvalidInputError
from mcp_discovery.facade.http.outbound import trusting
from tests.facade.harness import served
from tests.servers.recording import recording


@pytest.mark.slow
async def test_a_private_ca_that_is_rotated(tmp_path: Path) -> None:
    old, new, file = trustme.CA(), trustme.CA(), tmp_path / "ca.pem"
    old.cert_pem.write_to_path(str(file))
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    old.issue_cert("localhost").configure_cert(serving)
    call = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}
    async with recording(tls=serving) as server, served(gateway=True, server_ca=str(file)) as ask:
        url = f"https://localhost:{server.port}/mcp"
        body = {"id": "a", "name": "a", "url": url, "healthUrl": url.replace("/mcp", "/health")}
        assert (await ask("POST", "/servers", body)).status == 201
        await ask.until_status("a", "healthy")
        assert (await ask("POST", "/gateway/a/mcp", call)).status == 200
        new.issue_cert("localhost").configure_cert(serving)
        server.drop_connections()
        told = await ask.until_status("a", "down")
        assert "signed by a CA that is not trusted here" in told["reason"]
        new.cert_pem.write_to_path(str(file))
        await ask.until_status("a", "healthy")
        assert (await ask("POST", "/gateway/a/mcp", call)).status == 200
    async with recording(tls=serving) as server, served(gateway=True) as ask:
        url = f"https://localhost:{server.port}/mcp"
        assert (await ask("POST", "/servers", {"id": "a", "name": "a", "url": url})).status == 201
        told = await ask.until_status("a", "down")
        assert "give that CA with --server-ca" in told["reason"]


def test_a_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    for name in ("nothing", "empty"):
        with pytest.raises(InvalidInputError, match="TLS material for the server"):
            trusting(str(tmp_path / name))

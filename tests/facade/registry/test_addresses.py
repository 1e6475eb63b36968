"""The options that say which addresses are published."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_discovery.errors import InvalidInputError
from mcp_discovery.facade.registry.server_json import Addresses
from tests.facade.harness import leased, served
from tests.programs import command, facade


@pytest.mark.parametrize(
    ("address", "public_url", "gateway", "says"),
    [
        ("gateway", None, True, "none of instance, facade"),
        ("", None, True, "none of instance, facade"),
        ("https://mcp.example.com/mcp", None, True, "{name}"),
        ("https://{name}.example.com/{version}", None, True, "{name}"),
        ("https://{name}.example.com/mcp#x", None, True, "{name}"),
        ("ftp://{name}/", None, True, "{name}"),
        ("{name}", None, True, "{name}"),
        ("https://{name} .example.com/", None, True, "{name}"),
        ("facade", None, True, "--public-url"),
        ("facade", "https://mcp.example.com", False, "--gateway"),
        ("instance", "mcp.example.com", False, "--public-url"),
        ("instance", "https://mcp.example.com/?a", False, "--public-url"),
        ("instance", "https://u@mcp.example.com/", False, "--public-url"),
        ("instance", "https://mcp.example.com/#a", False, "--public-url"),
        ("instance", "https:///x", False, "--public-url"),
    ],
)
def test_what_cannot_be_published_is_refused(
    address: str, public_url: str | None, gateway: bool, says: str
) -> None:
    with pytest.raises(InvalidInputError, match=says) as caught:
        Addresses.parse(address, public_url, gateway=gateway)
    assert "\n" not in str(caught.value)


async def test_the_gateways_address_is_published() -> None:
    public = "https://mcp.example.com"
    async with served(registry_address="facade", public_url=public, gateway=True) as ask:
        assert (await ask("POST", "/servers", leased("a", name="weather"))).status == 201
        entry = (await ask.raw("/v0.1/servers/local%2Fweather/versions/latest")).json
        assert entry["server"]["remotes"] == [
            {"type": "streamable-http", "url": "https://mcp.example.com/gateway/weather/mcp"}
        ]


async def test_the_command_takes_them_from_its_environment(tmp_path: Path) -> None:
    environment = {
        "MCP_DISCOVERY_REGISTRY_ADDRESS": "https://{name}.vip.example/mcp",
        "MCP_DISCOVERY_PUBLIC_URL": "https://mcp.example.com",
    }
    async with facade(tmp_path, "embedded:", **environment) as one:
        catalog = await one.get("/.well-known/ai-catalog.json")
        assert catalog["entries"][0]["url"] == "https://mcp.example.com/mcp/server-card"


async def test_the_command_says_what_is_wrong_with_them() -> None:
    ended = await command("facade", "--port", "0", "--registry-address", "nowhere")
    assert ended.code != 0
    assert "none of instance, facade, or a URL with {name}" in ended.err
    assert "Traceback" not in ended.err

"""SidecarSettings that cannot be used are refused with one sentence that says what to do."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_discovery.errors import InvalidInputError
from mcp_discovery.sidecar.settings import SidecarSettings, public

URL = "http://127.0.0.1:8000/mcp"


def test_the_interval_is_a_third_of_the_ttl() -> None:
    settings = SidecarSettings(url=URL, ttl=6.0)
    assert settings.interval == 2.0
    assert settings.slow == 0.5
    assert SidecarSettings(url=URL, ttl=60.0).slow == 1.0


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"url": "127.0.0.1:8000"}, "the MCP server's URL: '127.0.0.1:8000' has no scheme"),
        ({"url": "ftp://x/"}, "has no scheme of http, https; write an absolute URL such as"),
        ({"url": "http:///mcp"}, "is not a URL with a host"),
        ({"transport": "gopher"}, "use streamable-http, sse, websocket"),
        ({"transport": "websocket"}, "has no scheme of ws, wss"),
        ({"advertise_url": "nowhere"}, "the advertised URL: 'nowhere' has no scheme"),
        ({"health_url": "/health"}, "the health URL: '/health' has no scheme"),
        ({"name": "Product Catalog"}, "name: 'Product Catalog' is not a DNS label"),
        ({"name": "Product Catalog"}, "use 'product-catalog'"),
        ({"id": "a.b"}, "id: 'a.b' is not a DNS label"),
        ({"tags": ("ok", "Not OK")}, "tags.1: 'Not OK' is not a DNS label"),
        ({"example_queries": ("a\nb",)}, "exampleQueries.0: 'a\\nb' is not one line of text"),
        ({"example_queries": ("a" * 201,)}, "exampleQueries.0: "),
        ({"version": "one"}, "version: 'one' is not a semantic version"),
        ({"metadata": {"password": "hunter2"}}, "metadata.password: gives password in clear"),
        ({"url": "http://127.0.0.1:8000/mcp?token=x"}, "keep credentials out of the URL"),
        ({"url": "http://me:pw@127.0.0.1/mcp"}, "has a user or password before the host"),
        ({"ttl": 0.5}, "ttl 0.5 s is too short; give at least 1 s"),
        ({"ttl": float("nan")}, "ttl nan s is too short"),
        ({"ttl": 30.0, "reap_after": 10.0}, "reap-after 10 s must be at least the TTL, 30 s"),
        ({"ttl": 3.0, "probe_interval": 2.0}, "probe interval 2 s must be at most half"),
        ({"drain": -1.0}, "drain time -1 s is too short; give at least 0 s"),
        ({"health_port": 70000}, "health port 70000 is none"),
        ({"server_token": "a\nb"}, "no HTTP header carries"),
    ],
)
def test_what_cannot_be_used(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        SidecarSettings(**({"url": URL} | given))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_token_in_the_url_is_fine_when_another_is_advertised() -> None:
    SidecarSettings(url=f"{URL}?token=x", advertise_url="http://catalog.example/mcp")


def test_secrets_are_in_no_log() -> None:
    settings = SidecarSettings(url=URL, server_token="swordfish")
    assert "swordfish" not in repr(settings)
    assert public("http://me:pw@host:8000/mcp?token=x#y") == "http://host:8000/mcp"

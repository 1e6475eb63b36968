"""Consul store URLs."""

from __future__ import annotations

import pytest

from mcp_discovery.adapters.consul import ConsulStore
from mcp_discovery.adapters.consul.url import parse_url
from mcp_discovery.errors import InvalidStoreURLError


@pytest.mark.parametrize(
    ("url", "api", "service", "shown"),
    [
        ("consul://c", "http://c:8500", "mcp", "consul://c:8500/mcp"),
        ("consul://c:1/", "http://c:1", "mcp", "consul://c:1/mcp"),
        ("consul+https://c", "https://c:8501", "mcp", "consul+https://c:8501/mcp"),
        ("consul://c/mcp-x?dc=eu", "http://c:8500", "mcp-x", "consul://c:8500/mcp-x?dc=eu"),
        ("consul://[::1]:8500", "http://[::1]:8500", "mcp", "consul://[::1]:8500/mcp"),
    ],
)
def test_what_a_url_names(url: str, api: str, service: str, shown: str) -> None:
    address = parse_url(url)
    assert (address.api, address.service, address.shown) == (api, service, shown)


async def test_the_store_keeps_service_and_keys_under_one_name() -> None:
    async with ConsulStore("consul://c:8500/mcp-staging") as store:
        assert store.url == "consul://c:8500/mcp-staging"
    address = parse_url("consul://c/mcp-staging?mode=service-per-server")
    assert address.records == "mcp-staging/servers/"
    assert address.documents == "mcp-staging/documents/"
    assert address.service_of("catalog") == "mcp-staging-catalog"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("consul://", "names no host"),
        ("consul:8500", "names no host"),
        ("consul://c:notaport", "'notaport' is no port from 1 to 65535; write consul://c:8500"),
        ("consul://c:99999", "'99999' is no port"),
        ("consul://u:p@c:x", r"'consul://…': is malformed"),
        ("consul://a:8500,b:8500", "names several hosts; name one agent, such as consul://a:8500"),
        ("consul://[::1", "is malformed"),
        ("http://c", "scheme"),
        ("consul://c/a/b", "DNS label"),
        ("consul://c/Mcp.x", "DNS label"),
        ("consul://c/mcp#x", "fragment"),
        ("consul://c?datacenter=eu", "unknown parameter 'datacenter'"),
        ("consul://c?dc=", "datacenter's name"),
        ("consul://c?mode=other", "one-service, service-per-server"),
        ("consul://c d", "names no host"),
    ],
)
def test_what_is_wrong_is_said(url: str, problem: str) -> None:
    with pytest.raises(InvalidStoreURLError, match=problem):
        parse_url(url)


@pytest.mark.parametrize(
    "url",
    ["consul://user:s3cret@c", "consul://:s3cret@c:8500/mcp", "consul://c?token=s3cret"],
)
def test_credentials_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InvalidStoreURLError) as caught:
        parse_url(url)
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in caught.value.url

"""What an etcd store URL may look like, and what is said of one that may not."""

import pytest

from mcp_discovery.adapters.etcd.skydns import DNSZone
from mcp_discovery.adapters.etcd.url import parse_url
from mcp_discovery.errors import InvalidStoreURLError


@pytest.mark.parametrize(
    ("url", "endpoints", "prefix"),
    [
        ("etcd://h", ("http://h:2379",), "/mcp/"),
        ("etcd://h:2379/", ("http://h:2379",), "/mcp/"),
        ("etcd://h:2379/mcp", ("http://h:2379",), "/mcp/"),
        ("etcd://h:2379/mcp/", ("http://h:2379",), "/mcp/"),
        ("etcd://a:1,b:2/x/y", ("http://a:1", "http://b:2"), "/x/y/"),
        ("etcd://a,a:2379,b", ("http://a:2379", "http://b:2379"), "/mcp/"),
        ("etcd+https://10.0.0.5", ("https://10.0.0.5:2379",), "/mcp/"),
        ("etcd://[::1],[2001:db8::5]:4/p", ("http://[::1]:2379", "http://[2001:db8::5]:4"), "/p/"),
        ("etcd://h/gro%C3%9F", ("http://h:2379",), "/groß/"),
    ],
)
def test_good_urls(url: str, endpoints: tuple[str, ...], prefix: str) -> None:
    parsed = parse_url(url)
    assert (parsed.endpoints, parsed.prefix) == (endpoints, prefix)
    assert parsed.text == url


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("etcd:", "no etcd URL"),
        ("etcd:h:2379", "no etcd URL"),
        ("etcd://", "without a host"),
        ("etcd:///mcp", "without a host"),
        ("etcd://a,,b", "without a host"),
        ("etcd://h:0", "no port"),
        ("etcd://h:65536", "no port"),
        ("etcd://h:", "no port"),
        ("etcd://h:x", "no port"),
        ("etcd://h:" + "9" * 5000, "no port"),
        ("etcd://::1:2379", "in brackets"),
        ("etcd://[::1", "no IPv6 address"),
        ("etcd://[h]:1", "no IPv6 address"),
        ("etcd://[::1]x", "no IPv6 address"),
        ("etcd://a b", "no host name"),
        ("etcd://h/p?token=1", "unknown parameter 'token'"),
        ("etcd://h/p?token", "unknown parameter"),
        ("etcd://h/p?&", "unknown parameter"),
        ("etcd://h/p#x", "fragment"),
        ("etcd://h/p?skydns=a#x", "fragment"),
        ("etcd://h/p?skydns=", "no domain"),
        ("etcd://h/p?skydns=a..b", "no domain"),
        ("etcd://h/p?skydns=_a.b", "no domain"),
        ("etcd://h/p?skydns=" + ".".join(["a" * 60] * 3), "too long"),
        ("etcd://h/No%20Label?skydns=a", "ends with 'No Label'"),
        ("etcd://h/p?skydns-path=/x", "give both"),
        ("etcd://h/p?skydns=a&skydns-path=/x/y", "one segment"),
        ("etcd://h/p?skydns=a&skydns-path=", "one segment"),
        ("etcd://h/p?skydns=a&skydns-agents=", "neither true nor false"),
        ("etcd://h/p?skydns-agents=true", "has a skydns-agents and no skydns"),
        ("etcd://h/skydns/mcp?skydns=a", "lies below /skydns"),
        ("etcd://h/%ff", "not UTF-8"),
        ("etcd://h/a%00b", "control characters"),
    ],
)
def test_malformed_urls(url: str, problem: str) -> None:
    with pytest.raises(InvalidStoreURLError, match=problem):
        parse_url(url)


@pytest.mark.parametrize(
    ("url", "zone"),
    [
        ("etcd://h", None),
        ("etcd://h?skydns=example.internal", DNSZone("/skydns", "example.internal", "mcp")),
        ("etcd://h/?skydns=Example.Internal.", DNSZone("/skydns", "example.internal", "mcp")),
        ("etcd://h/a/staging?skydns=x&skydns-path=/dns/", DNSZone("/dns", "x", "staging")),
        ("etcd://h?skydns=x&skydns-agents=true", DNSZone("/skydns", "x", "mcp", agents=True)),
        ("etcd://h?skydns=x&skydns-agents=false", DNSZone("/skydns", "x", "mcp")),
    ],
)
def test_zones(url: str, zone: DNSZone | None) -> None:
    parsed = parse_url(url)
    assert parsed.zone == zone
    assert parsed.text == url
    assert parsed.endpoints == ("http://h:2379",)


def test_what_stands_in_a_wrong_query_is_not_repeated() -> None:
    with pytest.raises(InvalidStoreURLError) as caught:
        parse_url("etcd://h/mcp?password=s3cr3t")
    assert "s3cr3t" not in str(caught.value) + caught.value.url


def test_credentials_are_refused_and_not_repeated() -> None:
    with pytest.raises(InvalidStoreURLError, match="as options") as caught:
        parse_url("etcd://root:s3cr3t@h:2379/mcp")
    assert "s3cr3t" not in str(caught.value)
    assert "s3cr3t" not in caught.value.url

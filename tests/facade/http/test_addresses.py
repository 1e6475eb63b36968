"""The address policy, against what IANA's registries say of one address of each block."""

from __future__ import annotations

import ipaddress

import pytest

from mcp_discovery.errors import InvalidInputError
from mcp_discovery.facade.http.addresses import AddressPolicy, address_policy

#: One address inside of each block, and the first beyond its end where that is public.
NOT_PUBLIC = (
    *("10.255.255.255", "100.64.0.1", "100.127.255.255", "127.255.0.1", "172.31.255.255"),
    *("192.0.0.1", "192.0.0.8", "192.0.0.170", "192.0.2.255", "192.88.99.1", "192.168.255.255"),
    *("198.18.0.1", "198.19.255.255", "198.51.100.7", "203.0.113.9"),
    *(
        "::1",
        "64:ff9b:1::1",
        "64:ff9b:1:ffff::8.8.8.8",
        "100::1",
        "100:0:0:1::1",
        "2001:0:102:304::fefe:fefe",
    ),
    *("2001:2::1", "2001:10::1", "2001:1ff:ffff::1", "2001:db8::1", "2002:808:808::1"),
    *("3fff::1", "3fff:fff:ffff::1", "5f00::1", "5f00:ffff::1", "fc00::1", "fd12:3456::1"),
    *("fec0::1", "4000::1", "9000::1", "e000::1", "200::1", "400::1", "::ffff:192.88.99.1"),
    *("::192.168.0.1", "64:ff9b::192.0.2.1", "::ffff:0:10.0.0.1"),
)
PUBLIC = (
    *("9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255"),
    *("172.15.255.255", "172.32.0.0", "192.0.0.9", "192.0.0.10", "192.0.1.0", "192.0.3.0"),
    *("192.31.196.1", "192.52.193.1", "192.88.98.1", "192.88.100.1", "192.175.48.1"),
    *("198.17.255.255", "198.20.0.0", "223.255.255.255", "64:ff9b::8.8.8.8"),
    *("2001:1::1", "2001:1::2", "2001:1::3", "2001:3::1", "2001:4:112::1", "2001:20::1"),
    *("2001:30::1", "2001:200::1", "2001:db9::1", "2003::1", "2620:4f:8000::1", "3ffe::1"),
    *("3fff:1000::1", "2600::", "::ffff:9.9.9.9"),
)


@pytest.mark.parametrize("text", NOT_PUBLIC)
def test_what_the_registries_do_not_call_reachable_is_not_public(text: str) -> None:
    address = ipaddress.ip_address(text)
    assert AddressPolicy(private=False).why_refused(address) == "not public"
    assert AddressPolicy(private=True).why_refused(address) is None


@pytest.mark.parametrize("text", PUBLIC)
def test_all_others_are(text: str) -> None:
    assert AddressPolicy(private=False).why_refused(ipaddress.ip_address(text)) is None


@pytest.mark.parametrize(
    "text",
    [
        "64:ff9b:1::a9fe:a9fe",  # a prefix of 96 bits (RFC 6052, 2.2)
        "64:ff9b:1:a9fe:a9:fe00::",  # of 48
        "64:ff9b:1:ffa9:fe:a9fe::",  # of 56
        "64:ff9b:1:ffff:a9:fea9:fe00::",  # of 64
        "2002:a9fe:a9fe::",
    ],
)
def test_what_is_never_dialled_is_found_inside_of_other_addresses(text: str) -> None:
    assert AddressPolicy().why_refused(ipaddress.ip_address(text)) == "link-local"


def test_ranges_that_are_allowed_besides_public_ones() -> None:
    policy = address_policy(private=True, allowed=["10.20.0.0/16", "fd12::/32"])
    expected = {"10.20.3.4": None, "10.21.0.1": "not public", "::ffff:10.20.0.1": None}
    expected |= {"fd12::9": None, "fd13::9": "not public", "127.0.0.1": "not public"}
    expected |= {"8.8.8.8": None, "169.254.169.254": "link-local"}
    for text, why in expected.items():
        assert policy.why_refused(ipaddress.ip_address(text)) == why, text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("10.20.0.0/33", "is no range"),
        ("10.20.0.1/16", "has host bits set"),
        ("intranet", "is no range"),
        ("169.254.0.0/16", "never dialled"),
        ("fe80::1", "never dialled"),
    ],
)
def test_ranges_that_cannot_be(text: str, problem: str) -> None:
    with pytest.raises(InvalidInputError, match=problem):
        address_policy(private=False, allowed=[text])


def test_a_wide_range_allows_nothing_that_is_never_dialled() -> None:
    policy = address_policy(private=False, allowed=["0.0.0.0/0", "::/0"])
    assert policy.why_refused(ipaddress.ip_address("127.0.0.1")) is None
    assert policy.why_refused(ipaddress.ip_address("fd00:ec2::254")) == "cloud metadata"

"""What is of an origin, and what only looks like it."""

from __future__ import annotations

import pytest

from mcp_discovery.errors import InvalidInputError
from mcp_discovery.origins import Origins


@pytest.mark.parametrize(
    ("glob", "url", "fits"),
    [
        ("https://a.example", "https://a.example/mcp?x=1", True),
        ("https://a.example", "https://a.example:443/mcp", True),
        ("https://a.example:443", "https://A.Example/mcp", True),
        ("https://a.example/mcp", "https://a.example/other", True),
        ("https://a.example", "wss://a.example/ws", True),
        ("wss://a.example", "https://a.example/", True),
        ("http://10.1.*.*:8000", "http://10.1.2.3:8000/mcp", True),
        ("http://[2001:db8::1]:80", "http://[2001:db8::1]/mcp", True),
        ("https://*.example.com:*", "https://a.b.example.com:8443/", True),
        ("https://a.example", "http://a.example/mcp", False),
        ("https://a.example", "https://a.example:8443/mcp", False),
        ("https://a.example", "https://a.example.evil.example/mcp", False),
        ("https://a.example", "https://evil.example/https://a.example", False),
        ("https://a.example", "https://a.example@evil.example/", False),
        ("https://a.example", "https://evil.example\\@a.example/", False),
        ("https://a.example", "https://evil.example#@a.example/", False),
        ("https://a.example", "https://evil.example?@a.example/", False),
        ("https://*.example.com", "https://example.com/", False),
        ("https://*.example.com", "https://evil.example/.example.com", False),
        ("https://*.example.com", "https://evil.example:1.example.com", False),
        ("http://10.1.*.*:8000", "http://10.1.2.3:8001/mcp", False),
        ("https://a.example", "no url", False),
    ],
)
def test_what_is_of_an_origin(glob: str, url: str, fits: bool) -> None:
    assert Origins(glob).include(url) is fits
    assert Origins(["http://else.example", glob]).include(url) is fits


@pytest.mark.parametrize(
    "glob",
    [
        *("", "payments", "a.example:443", "https://", "https://*", "https://*:*", "https://**.*"),
        *("ftp://a.example", "https://user@a.example", "https://a.example:x", "https://a b"),
    ],
)
def test_what_is_none(glob: str) -> None:
    with pytest.raises(InvalidInputError, match=r"no origin|any host"):
        Origins(glob)


def test_none_at_all_is_none() -> None:
    with pytest.raises(InvalidInputError, match="no origin is given"):
        Origins(())

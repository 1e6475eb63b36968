"""Sites that answer what no site should: told in a sentence, and soon."""

from __future__ import annotations

import pytest

from tests.facade.drupal.fake_drupal import KEY, FakeDrupalSite
from tests.facade.harness import Client


@pytest.mark.parametrize(
    ("link", "words"),
    [
        ("/jsonapi/node/mcp_server?page=a", "no end"),
        ("", "no end"),
        ("?page=b", "no end"),
        ("http://169.254.169.254/latest", "another one than"),
        ("//127.0.0.2:1/jsonapi", "another one than"),
        ("javascript:alert(1)", "no URL"),
        ("mailto:root@example.com", "no URL"),
        ("http://a:99999/", "no URL"),
        ("http://[::1", "no URL"),
        ("/jsonapi\x00 x", "404"),
    ],
)
async def test_pages_that_lead_nowhere(ask: Client, link: str, words: str) -> None:
    async with FakeDrupalSite(next_page=link).serving() as site:
        body = {"drupalEndpoint": site.url, "apiKey": KEY, "syncMode": "pull"}
        reply = await ask("POST", "/drupal/sync", body)
        assert reply.status == 502, reply.body
        assert words in reply.json["detail"]
        assert len(site.requests) < 6


async def test_a_site_that_repeats_the_key(ask: Client) -> None:
    async with FakeDrupalSite().serving() as site:
        body = {"drupalEndpoint": site.url, "apiKey": "another-key", "syncMode": "pull"}
        reply = await ask("POST", "/drupal/sync", body)
    assert (reply.status, b"another-key" in reply.body) == (502, False)
    assert "but …." in reply.json["detail"]

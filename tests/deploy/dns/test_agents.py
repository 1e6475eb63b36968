"""Corefile.agents: CoreDNS over the zone that `export -f dns` writes answers as the page says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.deploy.dns.test_forwarding import SNIPPETS, ran
from tests.deploy.dns.test_page import blocks, dig, rows
from tests.facade.access.tokens import bearer
from tests.mcp_discovery.cli.test_dns_zone import listed_by
from tests.programs import AskedFacade, command
from tests.stores import ports
from tests.stores.waiting import NotYet, until

#: Where the page's commands ask, and the domain that they ask for.
_ASKED, _DOMAIN = "@127.0.0.1 ", "agents.example.com"


@pytest.fixture
async def listing(tmp_path: Path) -> AsyncIterator[AskedFacade]:
    """A facade with the servers of the page's table."""
    folder = tmp_path / "facade"
    folder.mkdir()
    async with listed_by(folder, [(id, name, url) for id, name, _, url in rows()]) as one:
        yield one


async def test_the_zone_is_served_as_the_page_says_and_followed(
    listing: AskedFacade, tmp_path: Path
) -> None:
    said = [each for each in blocks(_ASKED) if _DOMAIN in each[0]]
    assert len(said) == 7
    zone, port = tmp_path / "agents.zone", ports.draw().number
    (tmp_path / "Corefile").write_text(
        (SNIPPETS / "Corefile.agents")
        .read_text()
        .replace("/var/lib/coredns/agents.zone {", f"{zone} {{")
        .replace("reload 5s", "reload 1s")
        .replace(":53 {", f":{port} {{\n    bind 127.0.0.1")
    )

    async def written() -> None:
        at = ("--facade", listing.url, "-o", str(zone))
        ended = await command("export", "-f", "dns", "--domain", _DOMAIN, *at)
        assert ended.code == 0, ended.err

    async def answered(line: str, lines: list[str]) -> None:
        async def so() -> bool:
            found = await dig(port, line.replace(_ASKED, "@127.0.0.1 -p 8600 "))
            if found != sorted(lines):
                raise NotYet(f"{found}")
            return True

        await until(so, timeout=15, what=f"{line} answering {sorted(lines)}")

    await written()
    async with ran("coredns", tmp_path, "-conf", str(tmp_path / "Corefile")):
        for line, lines in said:
            await answered(line, lines)
        async with (
            aiohttp.ClientSession(headers=bearer("registrar")) as session,
            session.delete(f"{listing.url}/servers/weather-1") as response,
        ):
            assert response.status == 204
        await listing.until_status("weather-1", None, 10)
        await written()
        await answered(f"dig {_ASKED}weather._agents.{_DOMAIN} SVCB +short", [])
        await answered(
            f"dig {_ASKED}_index._agents.{_DOMAIN} TXT +short", ['"agents=product-catalog:mcp"']
        )

"""export -f dns: a zone that other programs read, with the records of the drafts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import dns.rdatatype
import dns.zone
import pytest

from mcp_discovery.cli.dns_zone import serial_after, zone
from tests.facade.access.tokens import bearer, knowing_sidecars
from tests.facade.harness import leased
from tests.programs import AskedFacade, command, facade

DOMAIN = "agents.example.com"
FACADE = "https://mcp.example.com"


@asynccontextmanager
async def listed_by(
    folder: Path, servers: Iterable[tuple[str, str, str]]
) -> AsyncIterator[AskedFacade]:
    """A facade with these servers (id, name, URL), which tries no address of them: it is told of
    them by somebody whom it knows."""
    known, _ = knowing_sidecars(folder)
    said = known | {"MCP_DISCOVERY_PUBLIC_URL": FACADE, "MCP_DISCOVERY_TRY_ADVERTISED": "false"}
    async with (
        facade(folder, "embedded:", **said) as one,
        aiohttp.ClientSession(headers=bearer("registrar")) as session,
    ):
        for id, name, url in servers:
            body = leased(id, name=name, url=url)
            async with session.post(f"{one.url}/servers", json=body) as response:
                assert response.status == 201, await response.text()
            await one.until_status(id, "healthy", 10)
        yield one


def entry(name: str, id: str, url: str | None, **more: Any) -> dict[str, Any]:
    """An instance as a facade lists it."""
    return {"name": name, "id": id, "url": url, "transport": "streamable-http"} | more


def read(text: str) -> dict[str, list[str]]:
    """A zone file as a name server reads it: ``NAME TYPE`` → data, sorted."""
    found = dns.zone.from_text(text, origin=f"{DOMAIN}.")
    return {
        f"{name} {dns.rdatatype.to_text(each.rdtype)}": sorted(rdata.to_text() for rdata in each)
        for name, node in found.nodes.items()
        for each in node.rdatasets
        if str(name) != "@"
    }


def card(name: str) -> str:
    return f'key65400="{FACADE}/servers/{name}/server-card"'


def test_a_facade_and_its_servers() -> None:
    text, notes = zone(
        [
            entry("weather", "weather-1", "https://weather.example.org/mcp"),
            entry("catalog", "catalog-2", "http://[2001:db8::6]:8002/v2"),
            entry("catalog", "catalog-1", "http://10.0.0.5:8001/mcp"),
        ],
        FACADE,
        DOMAIN,
        7,
    )
    assert notes == []
    pointer = (
        '1 mcp.example.com. mandatory="alpn,port" alpn="h2,http/1.1" port="443" key65409="ard.json"'
    )
    plain, mcp = 'mandatory="alpn,port" alpn="mcp,http/1.1"', 'key65402="mcp"'
    assert read(text) == {
        "_entries._agents SVCB": [pointer],
        "_search._agents SVCB": [pointer],
        "_index._agents SVCB": [pointer],
        "_index._agents TXT": ['"agents=catalog:mcp,weather:mcp"'],
        "catalog SVCB": [
            f'1 catalog-1.catalog {plain} port="8001" {card("catalog")} {mcp}',
            f'1 catalog-2.catalog {plain} port="8002" {card("catalog")} {mcp}',
        ],
        "catalog-1.catalog A": ["10.0.0.5"],
        "catalog-2.catalog AAAA": ["2001:db8::6"],
        "catalog._agents SVCB": ["0 catalog"],
        "weather SVCB": [
            '1 weather.example.org. mandatory="alpn,port" alpn="mcp,h2,http/1.1" port="443" '
            f"{card('weather')} {mcp}"
        ],
        "weather._agents SVCB": ["0 weather"],
    }
    assert "@ SOA localhost. hostmaster.localhost. 7 " in text


def test_an_agent_has_its_own_card_and_protocol() -> None:
    agent = {"kind": "agent", "transport": "a2a"}
    text, notes = zone(
        [
            entry("travel", "travel-1", "https://a.example.org/travel/", **agent),
            entry("travel", "travel-2", "https://mcp.example.org/mcp"),
            entry("other", "other-1", "https://b.example.org/card.json", **agent),
        ],
        FACADE,
        DOMAIN,
        7,
        gateway=True,
    )
    assert notes == []
    found = read(text)
    assert found["_index._agents TXT"] == ['"agents=other:a2a,travel:a2a,travel:mcp"']
    assert 'key65400="https://b.example.org/card.json"' in found["other SVCB"][0]
    own = "https://a.example.org/travel/.well-known/agent-card.json"
    assert found["travel SVCB"] == [
        '1 a.example.org. mandatory="alpn,port" alpn="a2a,h2,http/1.1" port="443" '
        f'key65400="{own}" key65402="a2a"',
        '1 mcp.example.com. mandatory="alpn,port" alpn="mcp,h2,http/1.1" port="443" '
        f'{card("travel")} key65402="mcp"',
    ]


def test_an_address_writes_no_records_of_its_own() -> None:
    url = 'https://a.example.org/x" port=1\n* A 10.6.6.6\n\\'
    text, _ = zone(
        [entry("travel", "travel-1", url, kind="agent", transport="a2a")], FACADE, DOMAIN, 7
    )
    found = read(text)
    assert "* A" not in found
    (record,) = found["travel SVCB"]
    assert 'key65400="https://a.example.org/x%22%20port=1%0A*%20A%2010.6.6.6%0A%5C/' in record


def test_at_the_gateway_replicas_are_one_record() -> None:
    replicas = [
        entry("catalog", f"catalog-{n}", f"http://10.0.0.{n}:8001/mcp") for n in range(1, 4)
    ]
    text, _ = zone(replicas, FACADE, DOMAIN, 7, gateway=True)
    (record,) = read(text)["catalog SVCB"]
    assert record.startswith('1 mcp.example.com. mandatory="alpn,port" alpn="mcp,h2,http/1.1"')
    assert not [name for name in read(text) if name.endswith(" A")]


def test_what_dns_cannot_name_is_left_out_with_a_sentence() -> None:
    text, notes = zone(
        [
            entry("a", "a-1", None, transport="stdio"),
            entry("b", "b-1", "ws://b.example.org/mcp", transport="websocket"),
            entry("c", "c-1", "http://under_score.example.org/mcp"),
            entry("d", "d-1", "http://bücher.example/mcp"),
            entry("e\n*", "e-1", "http://10.0.0.1/mcp"),
        ],
        "http://127.0.0.1:4000",
        DOMAIN,
        7,
    )
    assert read(text) == {}
    assert notes == [
        "a-1 is left out: DNS names no stdio endpoint",
        "b-1 is left out: DNS names no websocket endpoint",
        "c-1 is left out: 'under_score.example.org' is no host name for DNS",
        "d-1 is left out: 'bücher.example' is no host name for DNS",
        "'e-1' of 'e\\n*' is left out: DNS has no such names",
        "the facade's own records are left out: '127.0.0.1' is no host name for DNS; start it with "
        "--public-url",
    ]


def test_an_index_that_is_too_long_for_a_response_is_left_out() -> None:
    for count, strings in ((100, 6), (1000, 0)):
        names = [f"server-{n:03d}" for n in range(count)]
        text, _ = zone(
            [entry(name, f"{name}-1", "https://h.example/mcp") for name in names], FACADE, DOMAIN, 7
        )
        found = read(text).get("_index._agents TXT", [])
        assert sum(each.count('" "') + 1 for each in found) == strings
        joined = "".join(found).replace('" "', "").strip('"')
        assert not found or joined == "agents=" + ",".join(f"{name}:mcp" for name in names)


def test_a_zone_has_a_greater_serial_than_the_one_before() -> None:
    before, _ = zone([], "https://mcp.example.com", "example.com", 1_796_123_755)
    assert serial_after(before, 1_796_123_755) == 1_796_123_756  # written twice in one second
    assert serial_after(before, 1_796_123_700) == 1_796_123_756  # the clock was set back
    assert serial_after(before, 1_796_123_800) == 1_796_123_800
    assert serial_after("no zone", 7) == 7


async def test_the_command(tmp_path: Path) -> None:
    async with listed_by(tmp_path, [("weather-1", "weather", "http://10.0.0.7:8001/mcp")]) as one:
        at = ("--facade", one.url)
        file, link = tmp_path / "agents.zone", tmp_path / "link"
        file.write_text("as it was")
        file.chmod(0o640)
        link.symlink_to(file)
        before = file.stat()
        ended = await command("export", "-f", "dns", "--domain", f"{DOMAIN}.", "-o", str(link), *at)
        assert ended.code == 0, ended.err
        assert f"{link}: 1 exported" in ended.err
        # A name server that reads it meanwhile sees all of the old one or all of the new one.
        assert link.is_symlink()
        assert file.stat().st_ino != before.st_ino
        assert file.stat().st_mode == before.st_mode
        assert not [each for each in tmp_path.iterdir() if each.name.startswith(".")]
        found = read(file.read_text())
        assert found["weather._agents SVCB"] == ["0 weather"]
        assert found["_search._agents SVCB"][0].startswith("1 mcp.example.com. ")

        nobody = await command("export", "-f", "dns", "--domain", DOMAIN, "-t", "absent", *at)
        assert set(read(nobody.out)) == {
            f"{label}._agents SVCB" for label in ("_entries", "_search", "_index")
        }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-f", "dns"), "--format dns needs --domain, such as agents.example.com"),
        (("-f", "dns", "--domain", "a b"), "--format dns needs --domain"),
        (("-f", "servers", "--domain", "a.b"), "--domain is for --format dns"),
        (("-f", "servers", "--gateway"), "--gateway is for --format mcp-json, vscode and dns"),
    ],
)
async def test_what_does_not_fit_together(arguments: tuple[str, ...], said: str) -> None:
    ended = await command("export", *arguments)
    assert ended.code == 2
    assert said in ended.err

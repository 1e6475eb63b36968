"""The doctor's DNS check: what it makes of responses, and of what is none."""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from mcp_discovery.cli.doctor.case import Case, DoctorFinding
from mcp_discovery.cli.doctor.checks import CHECKS
from mcp_discovery.cli.doctor.dns import check_dns
from mcp_discovery.errors import MissingExtraError
from tests.stores import ports
from tests.stores.consul import ConsulServer

NAME = "red.mcp"
#: What a server answers to the wire form of a query.
Respond = Callable[[bytes], bytes]


def response(
    *records: tuple[str, str], code: dns.rcode.Rcode = dns.rcode.NOERROR, flags: int = 0
) -> Respond:
    """Answers every query with ``records``, pairs of type and text."""

    def respond(wire: bytes) -> bytes:
        query = dns.message.from_wire(wire)
        answer = dns.message.make_response(query)
        answer.set_rcode(code)
        answer.flags |= flags
        for kind, text in records:
            answer.answer.append(dns.rrset.from_text(query.question[0].name, 1, "IN", kind, text))
        return answer.to_wire(max_size=65535)

    return respond


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, respond: Respond) -> None:
        self._respond = respond

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._transport.sendto(self._respond(data), addr)


@asynccontextmanager
async def served(by_udp: Respond, by_tcp: Respond | None = None) -> AsyncIterator[tuple[str, int]]:
    """A DNS server, whose address is yielded."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        query = await reader.readexactly(length)
        if by_tcp is not None:
            message = by_tcp(query)
            writer.write(struct.pack("!H", len(message)) + message)
            await writer.drain()
        writer.close()

    port = ports.draw().number
    tcp = await asyncio.start_server(serve, "127.0.0.1", port)
    udp, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _Datagrams(by_udp), local_addr=("127.0.0.1", port)
    )
    try:
        yield "127.0.0.1", port
    finally:
        udp.close()
        tcp.close()


async def check(server: tuple[str, int], name: str = NAME, timeout: float = 5) -> list[str]:
    """The findings as ``state: message``; no facade is there."""
    tag, _, domain = name.partition(".")
    case = Case(
        facade="http://127.0.0.1:9", dns=server, tags=(tag,), dns_domain=domain, timeout=timeout
    )
    return [f"{each.state}: {each.message}" async for each in check_dns(case)]


async def test_addresses_and_services_are_shown() -> None:
    records = (
        *(("A", "10.0.0.5"), ("CNAME", "a.mcp."), ("SRV", "1 1 8000 a.mcp.")),
        ("AAAA", "::1"),
    )
    async with served(response(*records)) as server:
        assert await check(server) == [
            "ok: red.mcp has A records: 10.0.0.5",
            "ok: red.mcp has SRV records: a.mcp:8000",
        ]


async def test_a_long_response_comes_by_tcp() -> None:
    addresses = [("A", f"10.0.{number // 256}.{number % 256}") for number in range(200)]
    whole = response(*addresses)
    async with served(response(flags=dns.flags.TC), whole) as server:
        first, _ = await check(server)
    assert first == (
        "ok: red.mcp has A records: 10.0.0.0, 10.0.0.1, 10.0.0.2, 10.0.0.3, 10.0.0.4 and 195 more"
    )


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (dns.rcode.NOERROR, "wrong: red.mcp has no A records (no error)"),
        (dns.rcode.NXDOMAIN, "wrong: red.mcp has no A records (no such name)"),
        (dns.rcode.REFUSED, "wrong: red.mcp A: refused"),
        (dns.rcode.SERVFAIL, "wrong: red.mcp A: server failure"),
        (dns.rcode.NOTIMP, "wrong: red.mcp A: code 4"),
    ],
)
async def test_responses_without_records(code: dns.rcode.Rcode, says: str) -> None:
    async with served(response(code=code)) as server:
        assert (await check(server))[0] == says


@pytest.mark.parametrize("name", ["a..b", f"{'a' * 64}.mcp", f"red.{'a.' * 130}mcp"])
async def test_what_is_no_name_is_said_to_be_none(name: str) -> None:
    async with served(response()) as server:
        (found,) = await check(server, name)
    assert found.startswith(f"wrong: 127.0.0.1:{server[1]}: no valid DNS answer for {name}")


def _to_another_query(wire: bytes) -> bytes:
    return bytes([wire[0] ^ 1]) + response(("A", "10.0.0.5"))(wire)[1:]


_GARBAGE: list[Respond] = [
    lambda _: b"",
    lambda wire: wire,  # a query, not a response
    lambda wire: response(("A", "10.0.0.5"))(wire)[:-1],
    lambda wire: response(("A", "10.0.0.5"))(wire) + b"\0",
    lambda wire: wire[:2] + b"\x81\x80\0\1\0\0\0\0\0\0\xc0\x0c",  # a name that is itself
    _to_another_query,
]


@pytest.mark.parametrize("respond", _GARBAGE)
async def test_what_is_no_response_is_never_a_pass(respond: Respond) -> None:
    async with served(respond) as server:
        (found,) = await check(server, timeout=0.5)
    assert found.startswith(f"wrong: 127.0.0.1:{server[1]}: no ")


async def test_no_bytes_do_harm() -> None:
    chosen = random.Random(7)

    def respond(wire: bytes) -> bytes:
        body = chosen.randbytes(chosen.randrange(200))
        return wire[:2] + (struct.pack("!5H", 0x8180, 1, 2, 0, 0) if len(body) % 2 else b"") + body

    async with served(respond) as server:
        for _ in range(60):
            (found,) = await check(server, timeout=0.2)
            assert found.startswith("wrong: ")


async def test_silence_and_a_closed_port() -> None:
    async with served(lambda _: b"") as server:
        pass
    (found,) = await check(server, timeout=1)
    assert found.startswith(f"wrong: 127.0.0.1:{server[1]}: ")
    (found,) = await check(("nowhere.invalid", 53), timeout=5)
    assert found.startswith("wrong: nowhere.invalid:53: ")


async def test_a_real_server(consul_server: ConsulServer) -> None:
    server = ("localhost", consul_server.dns_port)
    first, second = await check(server, "consul.service.consul")
    assert first == "ok: consul.service.consul has A records: 127.0.0.1"
    assert second.startswith("ok: consul.service.consul has SRV records: ")
    first, _ = await check(server, "nothing.service.consul")
    assert first == "wrong: nothing.service.consul has no A records (no such name)"


async def test_without_dnspython_nothing_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(extra: str, what: str) -> None:
        raise MissingExtraError(extra, f"{what} needs it")

    monkeypatch.setattr("mcp_discovery.cli.doctor.dns.require_extra", missing)
    (found,) = [each async for each in check_dns(Case(facade="http://x", dns=("127.0.0.1", 53)))]
    message = "the DNS check needs it; run: pip install 'mcp-discovery[doctor]'"
    assert found == DoctorFinding("unchecked", message)
    assert dict(CHECKS)["dns"] is check_dns

"""DNS messages: what is read, and what is refused."""

from __future__ import annotations

import asyncio
import struct
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_discovery.cli.doctor.dns_message import DnsAnswer, DnsResponseError, ask, decode, encode
from tests.stores.consul import ConsulServer

NAME = b"\x03red\x03mcp\0"


def answer(*records: bytes, flags: int = 0x8180, number: int = 7) -> bytes:
    header = struct.pack("!6H", number, flags, 1, len(records), 0, 0)
    return header + NAME + struct.pack("!2H", 1, 1) + b"".join(records)


def record(kind: int, data: bytes) -> bytes:
    return b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 0, len(data)) + data


def test_addresses_and_services_are_read() -> None:
    message = answer(record(1, bytes([10, 0, 0, 5])), record(5, b"\xc0\x0c"))
    assert decode(message, 7, "A") == DnsAnswer(0, ("10.0.0.5",))
    message = answer(record(33, struct.pack("!3H", 1, 1, 8000) + b"\x01a\xc0\x10"))
    assert decode(message, 7, "SRV").records == ("a.mcp:8000",)
    message = answer(record(28, bytes(15) + b"\x01"))
    assert decode(message, 7, "AAAA").records == ("::1",)
    assert decode(answer(flags=0x8183), 7, "A").meaning == "no such name"


def test_names() -> None:
    assert encode(7, "red.mcp.", "A")[12:] == NAME + b"\0\x01\0\x01"
    for name in ("", "a..b", "a" * 64, "ü"):
        with pytest.raises(ValueError):
            encode(7, name, "A")


@pytest.mark.parametrize(
    "message",
    [
        b"",
        answer(number=8),
        answer(flags=0x0100),
        answer(b"\xc0"),
        answer(record(1, b"\x01")),
        answer(b"\xc0\x19" * 40),
        struct.pack("!6H", 7, 0x8180, 1, 0, 0, 0) + b"\xc0\x0c",
    ],
)
def test_what_is_no_answer_is_refused(message: bytes) -> None:
    with pytest.raises(DnsResponseError):
        decode(message, 7, "A")


@given(st.binary(max_size=200), st.sampled_from(["A", "AAAA", "SRV"]))
def test_no_bytes_do_harm(data: bytes, kind: str) -> None:
    for message in (data, struct.pack("!6H", 7, 0x8180, 1, 2, 0, 0) + data):
        try:
            decode(message, 7, kind)
        except DnsResponseError:
            continue


async def test_a_real_server(consul_server: ConsulServer) -> None:
    server = ("127.0.0.1", consul_server.dns_port)
    found = await ask(server, "consul.service.consul", "A", 5)
    assert found.records == ("127.0.0.1",)
    assert (await ask(server, "nothing.service.consul", "A", 5)).code == 3


async def test_a_long_answer_comes_by_tcp() -> None:
    """Two listeners of one port: UDP says that it was cut off, TCP tells all."""
    whole = [record(1, bytes([10, 0, n // 256, n % 256])) for n in range(200)]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        question = await reader.readexactly(length)
        number = struct.unpack_from("!H", question)[0]
        message = answer(*whole, number=number)
        writer.write(struct.pack("!H", len(message)) + message)
        await writer.drain()
        writer.close()

    class CutOff(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast(asyncio.DatagramTransport, transport)

        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            number = struct.unpack_from("!H", data)[0]
            self.transport.sendto(answer(flags=0x8380, number=number), addr)

    tcp = await asyncio.start_server(serve, "127.0.0.1", 0)
    port: int = tcp.sockets[0].getsockname()[1]
    loop = asyncio.get_running_loop()
    udp, _ = await loop.create_datagram_endpoint(CutOff, local_addr=("127.0.0.1", port))
    try:
        assert len((await ask(("127.0.0.1", port), "red.mcp", "A", 5)).records) == 200
    finally:
        udp.close()
        tcp.close()

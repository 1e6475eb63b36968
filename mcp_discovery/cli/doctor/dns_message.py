"""One question to a DNS server, and its answer (RFC 1035; SRV: RFC 2782)."""

from __future__ import annotations

import asyncio
import secrets
import socket
import struct
from dataclasses import dataclass

from mcp_discovery.errors import DiscoveryError

TYPES = {"A": 1, "AAAA": 28, "SRV": 33}
_NAMES = {0: "no error", 1: "format error", 2: "server failure", 3: "no such name", 5: "refused"}
_HEADER = struct.Struct("!6H")
_TRUNCATED, _RESPONSE, _RECURSE = 0x0200, 0x8000, 0x0100
NO_SUCH_NAME = 3
#: Pointers that are followed in one name: they may go in circles.
_JUMPS = 32


class DnsResponseError(DiscoveryError):
    """The answer is no DNS message, or not to this question."""


@dataclass(frozen=True, slots=True)
class DnsAnswer:
    """``code`` is the response code; ``records`` are addresses, or ``host:port`` for SRV."""

    code: int
    records: tuple[str, ...]

    @property
    def meaning(self) -> str:
        """The code in words."""
        return _NAMES.get(self.code, f"code {self.code}")


async def ask(server: tuple[str, int], name: str, kind: str, timeout: float) -> DnsAnswer:
    """Asks ``server`` for the records of ``kind`` (``A``, ``AAAA``, ``SRV``) of ``name``.

    By UDP, and by TCP where the answer is too long for that. Raises :class:`TimeoutError`,
    :class:`OSError`, :class:`DnsResponseError`, and :class:`ValueError` for what is no name.
    """
    number = secrets.randbelow(1 << 16)
    question = encode(number, name, kind)
    async with asyncio.timeout(timeout):
        answer = await _by_udp(server, question)
        if len(answer) >= _HEADER.size and _HEADER.unpack_from(answer)[1] & _TRUNCATED:
            answer = await _by_tcp(server, question)
    return decode(answer, number, kind)


def encode(number: int, name: str, kind: str) -> bytes:
    """The question as a message; raises :class:`ValueError` for what is no name."""
    labels = [label.encode("ascii") for label in name.strip(".").split(".")]
    if any(not 0 < len(label) < 64 for label in labels):
        raise ValueError(f"{name!r} is no DNS name")
    spelled = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    header = _HEADER.pack(number, _RECURSE, 1, 0, 0, 0)
    return header + spelled + struct.pack("!2H", TYPES[kind], 1)


def decode(message: bytes, number: int, kind: str) -> DnsAnswer:
    """The answer to question ``number``; raises :class:`DnsResponseError`."""
    try:
        told, flags, questions, answers, _, _ = _HEADER.unpack_from(message)
        if told != number or not flags & _RESPONSE:
            raise DnsResponseError("the answer is to another question")
        at = _HEADER.size
        for _ in range(questions):
            at = _name(message, at)[1] + 4
        records = []
        for _ in range(answers):
            _, at = _name(message, at)
            found, _, _, length = struct.unpack_from("!HHIH", message, at)
            at += 10
            if found == TYPES[kind]:
                records.append(_record(message, at, length, kind))
            at += length
    except (struct.error, IndexError, ValueError) as error:
        raise DnsResponseError(f"the answer is no DNS message ({error})") from error
    return DnsAnswer(flags & 0xF, tuple(records))


def _record(message: bytes, at: int, length: int, kind: str) -> str:
    if kind == "SRV":
        port = struct.unpack_from("!3H", message, at)[2]
        return f"{_name(message, at + 6)[0]}:{port}"
    family = socket.AF_INET if kind == "A" else socket.AF_INET6
    return socket.inet_ntop(family, message[at : at + length])


def _name(message: bytes, at: int) -> tuple[str, int]:
    """The name at ``at``, and where the message goes on behind it."""
    labels: list[str] = []
    end: int | None = None
    for _ in range(_JUMPS + 128):
        length = message[at]
        if length >= 0xC0:
            end = end if end is not None else at + 2
            at = struct.unpack_from("!H", message, at)[0] & 0x3FFF
        elif length == 0:
            return ".".join(labels), end if end is not None else at + 1
        else:
            labels.append(message[at + 1 : at + 1 + length].decode("ascii", "replace"))
            at += 1 + length
    raise ValueError("a name without an end")


class _Once(asyncio.DatagramProtocol):
    """Waits for one datagram."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:
        if not self.answer.done():
            self.answer.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)


async def _by_udp(server: tuple[str, int], question: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(_Once, remote_addr=server)
    try:
        transport.sendto(question)
        return await protocol.answer
    finally:
        transport.close()


async def _by_tcp(server: tuple[str, int], question: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*server)
    try:
        writer.write(struct.pack("!H", len(question)) + question)
        await writer.drain()
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        return await reader.readexactly(length)
    except asyncio.IncompleteReadError as error:
        raise DnsResponseError("the answer ended too early") from error
    finally:
        writer.close()

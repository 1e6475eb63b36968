"""A small DNS client over one TCP connection, quick enough for thousands of questions."""

from __future__ import annotations

import asyncio
import ipaddress
import struct
from dataclasses import dataclass
from types import TracebackType
from typing import Self

A, CNAME, SRV = 1, 5, 33


@dataclass(frozen=True)
class Server:
    """One SRV record: where it points to, and the address that an `addr` name spells."""

    host: str
    port: int


class Resolver:
    """Asks one DNS server. Over TCP nothing is truncated (RFC 1035, section 4.2.2)."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._number = 0

    async def __aenter__(self) -> Self:
        await self._connect()
        return self

    async def _connect(self) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()

    async def servers(self, name: str) -> set[Server]:
        """The answers to an SRV question; none for a name that does not exist."""
        found = set()
        for message, at in await self._ask(name, SRV):
            _, _, port = struct.unpack_from(">3H", message, at)
            host, _ = _name(message, at + 6)
            label = host.partition(".")[0]
            if ".addr." in host:
                host = str(ipaddress.ip_address(bytes.fromhex(label)))
            found.add(Server(host, port))
        return found

    async def addresses(self, name: str) -> set[str]:
        """The answers to an A question."""
        return {
            str(ipaddress.ip_address(message[at : at + 4]))
            for message, at in await self._ask(name, A)
        }

    async def _ask(self, name: str, kind: int) -> list[tuple[bytes, int]]:
        try:
            return await self._ask_once(name, kind)
        except (asyncio.IncompleteReadError, ConnectionError):
            # Consul ends a connection after 128 questions, and after some seconds without.
            self._writer.close()
            await self._connect()
            return await self._ask_once(name, kind)

    async def _ask_once(self, name: str, kind: int) -> list[tuple[bytes, int]]:
        self._number = (self._number + 1) % 65536
        labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
        query = struct.pack(">6H", self._number, 0x0100, 1, 0, 0, 0)
        query += labels + b"\0" + struct.pack(">2H", kind, 1)
        self._writer.write(struct.pack(">H", len(query)) + query)
        async with asyncio.timeout(5):
            (length,) = struct.unpack(">H", await self._reader.readexactly(2))
            message = await self._reader.readexactly(length)
        number, flags, _, answers = struct.unpack_from(">4H", message)
        assert number == self._number
        assert flags & 0xF in (0, 3), f"{name}: the answer's code is {flags & 0xF}"
        at, found = len(query), []
        for _ in range(answers):
            _, at = _name(message, at)
            type_, _, _, size = struct.unpack_from(">2HIH", message, at)
            if type_ == kind:
                found.append((message, at + 10))
            at += 10 + size
        return found


def _name(message: bytes, at: int) -> tuple[str, int]:
    """The name at `at`, and where what follows it begins."""
    labels: list[str] = []
    after = 0
    while size := message[at]:
        if size >= 0xC0:
            after = after or at + 2
            at = struct.unpack_from(">H", message, at)[0] & 0x3FFF
            continue
        labels.append(message[at + 1 : at + 1 + size].decode())
        at += 1 + size
    return ".".join(labels), after or at + 1

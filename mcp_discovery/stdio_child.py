"""One process of an MCP server over stdio: a message is a line, and its log is what it says of
itself.

https://modelcontextprotocol.io/specification/2025-11-25/basic/transports#stdio
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import orjson

from mcp_discovery.child import Child
from mcp_discovery.errors import DiscoveryError
from mcp_discovery.program import Program
from mcp_discovery.quoted import quoted

log = logging.getLogger(__name__)

#: The largest message in bytes.
LARGEST: Final = 64 * 2**20
#: How much is read at once, in bytes.
_CHUNK: Final = 256 * 2**10
#: How long its output is read after its end, in seconds: what it started may hold the pipe open.
_LAST_WORDS: Final = 0.5


class ChildGoneError(DiscoveryError):
    """The process has ended, or does not read what it is sent; ``str()`` says how."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a process ended: ``code`` as its parent has it, negative for a signal, and ``last_line``
    of what it said of itself, empty where it said nothing."""

    code: int
    last_line: str

    def __str__(self) -> str:
        if self.code < 0:
            with suppress(ValueError):
                how = f"was ended by {signal.Signals(-self.code).name}"
                return self._with_line(how)
            return self._with_line(f"was ended by signal {-self.code}")
        return self._with_line(f"ended with exit code {self.code}")

    def _with_line(self, how: str) -> str:
        return f"{how}: {self.last_line}" if self.last_line else how


class StdioChild:
    """A running process; ``name`` stands before its lines in the log."""

    def __init__(self, child: Child, name: str) -> None:
        self._child = child
        self._process = child.process
        self._name = name
        self._last_line = ""
        self._sending = asyncio.Lock()
        self._errors = asyncio.create_task(self._read_errors(), name=f"stderr of {name}")

    @classmethod
    async def start(cls, program: Program, name: str) -> StdioChild:
        """Starts a process of ``program``; raises
        :class:`~mcp_discovery.child.ChildStartError`."""
        child = await Child.start(
            program.command, env=program.environment(), cwd=program.cwd, piped=True
        )
        return cls(child, name)

    @property
    def last_line(self) -> str:
        """The last line so far of what it says of itself; empty where it said nothing."""
        return self._last_line

    @property
    def pid(self) -> int:
        """The process's id, which is that of its group, too."""
        return self._process.pid

    async def send(self, message: bytes) -> None:
        """Sends one message; returns when the process has room for the next one.

        Raises :class:`ChildGoneError`.
        """
        pipe = self._process.stdin
        assert pipe is not None
        try:
            pipe.write(message + b"\n")
            if pipe.transport.get_write_buffer_size():
                async with self._sending:
                    await pipe.drain()
        except (ConnectionError, RuntimeError) as error:
            raise ChildGoneError("the MCP server has closed its input") from error

    async def messages(self) -> AsyncIterator[dict[str, Any]]:
        """Each message that the process sends, until it closes its output.

        What is no message is logged and skipped.
        """
        async for line in self.lines():
            message = _decoded(line)
            for each in message if isinstance(message, list) else [message]:
                if isinstance(each, dict):
                    yield each
                else:
                    self.skip(line)

    def skip(self, line: bytes) -> str:
        """Logs ``line`` of its output, which is no message, and returns it as it was logged."""
        text = quoted(line[:500].decode("utf-8", "replace"))
        log.info("%s: no message on its output: %s", self._name, text)
        return text

    async def ended(self) -> Ending:
        """Waits for the end of the process and for its last words."""
        code = await self._process.wait()
        await asyncio.wait({self._errors}, timeout=_LAST_WORDS)
        return Ending(code, self._last_line)

    async def stop(self, grace: float) -> None:
        """Ends the process and all that it left in its group: closes its input, then signals."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        await self._child.stop(grace)
        self._errors.cancel()
        await asyncio.gather(self._errors, return_exceptions=True)

    async def lines(self) -> AsyncGenerator[bytes, None]:
        """Each line of its output that is not blank, until it closes that."""
        assert self._process.stdout is not None
        buffer, scanned, skipping = bytearray(), 0, False
        while chunk := await self._process.stdout.read(_CHUNK):
            buffer += chunk
            begin = 0
            while (end := buffer.find(b"\n", max(begin, scanned))) >= 0:
                line, begin = bytes(buffer[begin:end]), end + 1
                if skipping:
                    skipping = False
                elif line.strip():
                    yield line
            del buffer[:begin]
            scanned = len(buffer)
            if scanned > LARGEST:
                log.warning("%s: a message over %d bytes is skipped", self._name, LARGEST)
                skipping, scanned = True, 0
                buffer.clear()

    async def _read_errors(self) -> None:
        assert self._process.stderr is not None
        while chunk := await self._process.stderr.read(_CHUNK):
            for line in chunk.decode("utf-8", "replace").splitlines():
                if text := quoted(line):
                    self._last_line = text
                    log.info("%s: %s", self._name, text)


def _decoded(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        try:
            return json.loads(line)  # an integer of more than 64 bits, for one
        except (ValueError, RecursionError):
            return None

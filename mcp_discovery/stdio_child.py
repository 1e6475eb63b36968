"""One process of an MCP server over stdio: a message is a line, and its log is what it says of
itself.

https://modelcontextprotocol.io/specification/2025-11-25/basic/transports#stdio
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import signal
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import orjson

from mcp_discovery.child import Child
from mcp_discovery.child_log import ChildLog
from mcp_discovery.errors import DiscoveryError
from mcp_discovery.mcp_messages import INTERNAL_ERROR, parsed
from mcp_discovery.program import Program
from mcp_discovery.quoted import quoted
from mcp_discovery.secrets import secret_values

log = logging.getLogger(__name__)

#: The largest message in bytes.
LARGEST: Final = 64 * 2**20
#: How much is read at once, in bytes.
_CHUNK: Final = 256 * 2**10
#: How long its output is read after its end, in seconds: what it started may hold the pipe open.
_LAST_WORDS: Final = 0.5
#: After so many seconds with its lines the loop has its turn.
_TURN: Final = 0.005
#: How long, in seconds, a process waits after how many lines of its output that are no messages.
_RESPITE: Final = 0.005
_NOISE: Final = 100
_BOM: Final = b"\xef\xbb\xbf"

_ID: Final = rb'"id"\s*:\s*(?P<id>-?\d{1,18}|"(?:[^"\\]|\\.){0,200}")'
_VERSION: Final = rb'"jsonrpc"\s*:\s*"2\.0"'
#: How an answer begins, or ends, that bears an id: as others write their fields. How much is
#: looked at, in bytes.
_BEGINS: Final = re.compile(
    rb"\s*\{\s*(?:%b\s*,\s*)?%b\s*,\s*(?:%b\s*,\s*)?\"(?:result|error)\""
    % (_VERSION, _ID, _VERSION)
)
_ANSWERS: Final = re.compile(rb'\s*\{\s*(?:%b\s*,\s*)?"(?:result|error)"' % _VERSION)
_ENDS: Final = re.compile(rb",\s*%b\s*(?:,\s*%b\s*)?\}\s*$" % (_ID, _VERSION))
_EDGE: Final = 1024


class ChildGoneError(DiscoveryError):
    """The process has ended, or does not read what it is sent; ``str()`` says how."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a process ended: ``code`` as its parent has it, negative for a signal, ``last_line`` of
    what it said of itself, or what it ``printed``, empty where that is nothing; ``why`` it was
    ended, where we did so."""

    code: int
    last_line: str = ""
    printed: str = ""
    why: str = ""

    def __str__(self) -> str:
        how = f"{self.why} and was ended" if self.why else self._how
        if self.last_line:
            return f"{how}: {self.last_line}"
        return f"{how}; it printed {self.printed!r}" if self.printed else how

    @property
    def exit_code(self) -> int:
        """The code as shells have it."""
        return 128 - self.code if self.code < 0 else self.code

    @property
    def _how(self) -> str:
        if self.code >= 0:
            return f"ended with exit code {self.code}"
        with suppress(ValueError):
            return f"was ended by {signal.Signals(-self.code).name}"
        return f"was ended by signal {-self.code}"


class StdioChild:
    """A running process; ``name`` stands before its lines in the log."""

    def __init__(self, child: Child, name: str, secrets: Iterable[str] = ()) -> None:
        self._child = child
        self._process = child.process
        self._name = name
        #: What it says beside its messages.
        self.log = ChildLog(name, secrets)
        self._why = ""
        self._sending = asyncio.Lock()
        self._errors = asyncio.create_task(self._read_errors(), name=f"stderr of {name}")
        self._crash = asyncio.create_task(self._end_with_process(), name=f"end of {name}")

    @classmethod
    async def start(cls, program: Program, name: str, *, bound: bool = True) -> StdioChild:
        """Starts a process of ``program``, ``bound`` as :meth:`Child.start` says; raises
        :class:`~mcp_discovery.child.ChildStartError`."""
        env = program.environment()
        child = await Child.start(
            program.command, env=env, cwd=program.cwd, piped=True, bound=bound
        )
        return cls(child, name, (*program.secrets, *secret_values(env)))

    @property
    def last_line(self) -> str:
        """What it said of itself last that tells something; empty where it said nothing."""
        return self.log.telling

    @property
    def pid(self) -> int:
        """The process's id, which is that of its group, too."""
        return self._process.pid

    @property
    def has_exited(self) -> bool:
        """Whether the process has ended, though its output may still be held open."""
        return self._process.returncode is not None

    @property
    def is_deaf(self) -> bool:
        """Whether it has closed its input."""
        return self._process.stdin is None or self._process.stdin.is_closing()

    def signal(self, number: int) -> None:
        """Sends a signal to its group."""
        self._child.signal(number)

    async def send(self, message: bytes) -> None:
        """Sends one message; returns when the process has room for the next one.

        Raises :class:`ChildGoneError`.
        """
        pipe = self._process.stdin
        assert pipe is not None
        try:
            async with self._sending:
                if pipe.is_closing():
                    raise ChildGoneError("the MCP server has closed its input")
                pipe.write(message + b"\n")
                if pipe.transport.get_write_buffer_size():
                    await pipe.drain()
        except (ConnectionError, RuntimeError) as error:
            raise ChildGoneError("the MCP server has closed its input") from error

    async def messages(self) -> AsyncIterator[dict[str, Any]]:
        """Each message that the process sends, until it closes its output.

        What is no message is logged and skipped; where it is the answer to a request, an error
        comes in its place.
        """
        skipped = 0
        async for line in self.lines():
            message = _decoded(line)
            for each in message if isinstance(message, list) else [message]:
                if isinstance(each, dict):
                    yield each
                    skipped = 0
                    continue
                self.log.printed(line)
                if (skipped := skipped + 1) % _NOISE == 0:
                    await asyncio.sleep(_RESPITE)  # from a command that prints without end
                if (fault := _fault(line[:_EDGE], line[-_EDGE:], "is not JSON")) is not None:
                    yield orjson.loads(fault)

    def skip(self, line: bytes) -> str:
        """Logs ``line`` of its output, which is no message, and returns its beginning."""
        self.log.printed(line)
        return quoted(self.log.text(line))

    async def ended(self) -> Ending:
        """Waits for the end of the process and for its last words."""
        code = await self._process.wait()
        await asyncio.wait({self._errors}, timeout=_LAST_WORDS)
        return Ending(code, self.log.telling, self.log.printed_telling, self._why)

    async def end(self, why: str, grace: float) -> None:
        """Ends it as :meth:`stop` does; ``why`` is what it did, for its :class:`Ending`, unless it
        has ended by itself."""
        if not self.has_exited:
            self._why = self._why or self.log.text(why)
        await self.stop(grace)

    async def stop(self, grace: float) -> None:
        """Ends the process and all that it left in its group: closes its input, then signals."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            await self._child.stop(grace)
        finally:
            for task in (self._errors, self._crash):
                task.cancel()
            await asyncio.gather(self._errors, self._crash, return_exceptions=True)
            self._close()
            self.log.end()

    async def lines(self) -> AsyncGenerator[bytes, None]:
        """Each line of its output that is not blank, until it closes that.

        One over :data:`LARGEST` is left out; where it is an answer, an error comes in its place.
        """
        assert self._process.stdout is not None
        buffer, scanned, turn = bytearray(), 0, time.monotonic()
        skipped: bytes | None = None  # how the line began that is left out
        while chunk := await self._process.stdout.read(_CHUNK):
            buffer += chunk
            begin = 0
            while (end := buffer.find(b"\n", max(begin, scanned))) >= 0:
                line, begin = bytes(memoryview(buffer)[begin:end]), end + 1
                if skipped is not None:
                    what = f"is over {LARGEST} bytes"
                    line, skipped = _fault(skipped, line[-_EDGE:], what) or b"", None
                if line := line.removeprefix(_BOM).strip():
                    yield line
                if time.monotonic() - turn > _TURN:
                    await asyncio.sleep(0)
                    turn = time.monotonic()
            del buffer[:begin]
            scanned = len(buffer)
            if skipped is not None:
                del buffer[:-_EDGE]
                scanned = len(buffer)
            elif scanned > LARGEST:
                log.warning("%s: a message over %d bytes is skipped", self._name, LARGEST)
                skipped = bytes(buffer[:_EDGE])
                del buffer[:-_EDGE]
                scanned = len(buffer)
        # A message that is whole all the same.
        if skipped is None and isinstance(_decoded(rest := bytes(buffer).strip()), dict):
            yield rest

    async def _read_errors(self) -> None:
        assert self._process.stderr is not None
        while chunk := await self._process.stderr.read(_CHUNK):
            self.log.said(chunk)
            await asyncio.sleep(0)
        self.log.said(b"")

    async def _end_with_process(self) -> None:
        """Closes our ends of its pipes where it has crashed.

        What it left behind may hold the other ends and answers nothing. Where the process ended
        well, it may have made itself a daemon, which does.
        """
        if await self._process.wait():
            await asyncio.sleep(_LAST_WORDS)
            self._close()

    def _close(self) -> None:
        # asyncio closes a pipe only when the other end is closed, which a daemon may never do.
        self._process._transport.close()  # type: ignore[attr-defined]


def _fault(begins: bytes, ends: bytes, what: str) -> bytes | None:
    """An error in the place of the answer that begins and ends so and is not read; ``None`` where
    it is no answer, or its id is not known."""
    found = _BEGINS.match(begins)
    if found is None and _ANSWERS.match(begins):
        found = _ENDS.search(ends)
    if found is None:
        return None
    error = {"code": INTERNAL_ERROR, "message": f"the answer of the MCP server {what}"}
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (found["id"], orjson.dumps(error))


def _decoded(line: bytes) -> Any:
    if line[:1] not in (b"{", b"["):
        return None
    try:
        return parsed(line)
    except orjson.JSONDecodeError:
        try:
            # Half a character, for one, or text in another encoding.
            return json.loads(line.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            return None

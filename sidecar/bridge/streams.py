"""Messages to a client as server-sent events, kept within bounds so that it may resume.

https://modelcontextprotocol.io/specification/2025-11-25/basic/transports#resumability-and-redelivery
"""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict, deque
from collections.abc import Mapping
from itertools import takewhile
from typing import Any, Final

from aiohttp import web

from mcp_discovery.disconnects import ClientGoneError, has_left, when_lost
from mcp_discovery.mcp_messages import INTERNAL_ERROR, Id, JsonRpcError, failure, framed
from mcp_discovery.mcp_responses import PING, EventStream

#: Seconds between two signs of life on a stream.
PING_INTERVAL: Final = 15.0
#: How long, in seconds, a client may take to read.
WRITE_TIMEOUT: Final = 30.0
#: How long, in seconds, a client's machine may leave what is sent to it unconfirmed.
SILENCE: Final = 60.0
#: How many bytes of messages are kept for one client, and for all clients of this process.
MOST_BYTES: Final = 4 * 2**20
MOST_BYTES_OF_ALL: Final = 32 * 2**20
#: After how many milliseconds a client comes back to a stream that broke off.
_RETRY: Final = 1000
#: What a message takes besides its bytes.
_OVERHEAD: Final = 300


class _Message:
    """One event of a stream; ``answers`` is the id of the request that it answers."""

    __slots__ = ("answers", "data", "number", "size", "stream")

    def __init__(self, stream: MessageStream, number: int, data: bytes, answers: Id | None) -> None:
        self.stream = stream
        self.number = number
        self.data = data
        self.size = len(data) + _OVERHEAD
        self.answers = answers


class StreamMemory:
    """The messages that are kept: where they are over ``limit`` bytes the oldest are given up.

    They are part of those of ``outer``.
    """

    def __init__(self, limit: int, outer: StreamMemory | None = None) -> None:
        self.limit = limit
        self.used = 0
        self._outer = outer
        self._messages: OrderedDict[_Message, None] = OrderedDict()

    def add(self, message: _Message) -> None:
        """Keeps a message."""
        self._messages[message] = None
        self.used += message.size
        if self._outer is not None:
            self._outer.add(message)
        while self.used > self.limit:
            oldest = next(iter(self._messages))
            if oldest is message and oldest.stream.is_read:
                break  # it is about to be written, and given up then
            oldest.stream.give_up(oldest)

    def remove(self, message: _Message) -> None:
        """Keeps it no more."""
        if message in self._messages:
            del self._messages[message]
            self.used -= message.size
            if self._outer is not None:
                self._outer.remove(message)


#: What all clients of this process share.
ALL: Final = StreamMemory(MOST_BYTES_OF_ALL)


class MessageStream:
    """The messages of one stream in their order, for one reader at a time.

    With a ``name``, which is part of their ids, they can be read again, as long as ``memory`` keeps
    them; without one they are gone once they are written. ``primed``: each reader is first given an
    id from which it can resume, which clients know from 2025-11-25 on.
    """

    def __init__(self, memory: StreamMemory, name: str = "", *, primed: bool = False) -> None:
        self.name = name
        #: Whether no more messages come.
        self.finished = False
        self._memory = memory
        self._primed = primed
        self._kept, self._closed = bool(name), False
        self._messages: deque[_Message] = deque()
        self._last = self._written = 0
        self._news = asyncio.Event()
        self._reader: object = None

    @property
    def is_read(self) -> bool:
        """Whether a client reads it now, as far as is known."""
        return self._reader is not None

    def append(self, message: Mapping[str, Any], answers: Id | None = None) -> None:
        """Adds a message, which may be the answer to a request."""
        if self._closed:
            return
        self._last += 1
        kept = _Message(self, self._last, self._event(self._last, message), answers)
        self._messages.append(kept)
        self._memory.add(kept)
        self._news.set()

    def finish(self) -> None:
        """Says that no more messages come."""
        self.finished = True
        self._news.set()

    def retire(self) -> None:
        """Keeps nothing for a reader to come."""
        self._kept = False
        if not self.is_read:
            self.close()

    def close(self) -> None:
        """Keeps nothing any more, and lets its reader go."""
        self._closed = True
        for each in self._messages:
            self._memory.remove(each)
        self._messages.clear()
        self._reader = None
        self.finish()

    def give_up(self, message: _Message) -> None:
        """Keeps it no more; an error stands in the place of an answer."""
        self._memory.remove(message)
        if message.answers is None or message.number <= self._written:
            self._messages.remove(message)
            return
        detail = (
            f"the answer of {len(message.data)} bytes was not fetched in time, and is given up; "
            "ask again"
        )
        instead = failure(message.answers, JsonRpcError(INTERNAL_ERROR, detail))
        message.data = self._event(message.number, instead)

    async def serve(
        self, request: web.Request, headers: dict[str, str], after: int | None = None
    ) -> web.StreamResponse:
        """Streams the messages behind the number ``after``, by default behind all that were
        written, until the stream is finished, its client leaves, or another one reads it."""
        out = EventStream(request, WRITE_TIMEOUT)
        reader = self._reader = object()
        self._news.set()  # for a reader before this one
        position = self._written if after is None else after
        try:
            with when_lost(request, self._news.set):
                await out.start(headers)
                _notice_silence(request)
                if self._primed:
                    prime = b"id: %b-%d\nretry: %d\ndata: \n\n"
                    await out.write(prime % (self.name.encode(), position, _RETRY))
                while self._reader is reader and not has_left(request):
                    self._news.clear()
                    if waiting := self._behind(position):
                        missed = waiting[0].number - position - 1
                        data = b": %d messages were given up\n\n" % missed if missed else b""
                        await out.write(data + b"".join(each.data for each in waiting))
                        position = waiting[-1].number
                        self._were_written(waiting)
                    elif self.finished:
                        break
                    else:
                        await self._wait(out)
        except (ClientGoneError, ConnectionError):
            pass
        finally:
            if self._reader is reader:
                self._reader = None
                if not self._kept:
                    self.close()
        return out.result

    def _event(self, number: int, message: Mapping[str, Any]) -> bytes:
        data = framed(message)
        return b"id: %b-%d\n%b" % (self.name.encode(), number, data) if self.name else data

    def _behind(self, position: int) -> list[_Message]:
        newest_first = takewhile(lambda each: each.number > position, reversed(self._messages))
        return list(newest_first)[::-1]

    def _were_written(self, messages: list[_Message]) -> None:
        self._written = max(self._written, messages[-1].number)
        for each in messages:
            if not self._kept or each.size > self._memory.limit // 4:
                self._memory.remove(each)
                if each in self._messages:
                    self._messages.remove(each)

    async def _wait(self, out: EventStream) -> None:
        try:
            async with asyncio.timeout(PING_INTERVAL):
                await self._news.wait()
        except TimeoutError:
            await out.write(PING)


def _notice_silence(request: web.Request) -> None:
    """Has the kernel end a connection whose client confirms nothing for so long: one that lost its
    network says no goodbye."""
    transport = request.transport
    found = None if transport is None else transport.get_extra_info("socket")
    if found is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(SILENCE * 1000))

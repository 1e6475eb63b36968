"""``python -m benchmarks.counting_proxy HOST PORT``: passes TCP on to HOST:PORT and counts it.

Writes its own URL, and after each line on standard input what it has counted since the last one, as
one line of JSON: requests (HTTP/1.1 request lines), bytes there and back, connections opened.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict, dataclass

import orjson

#: How a request line ends.
_MARK = b" HTTP/1.1\r\n"
_CHUNK = 2**16


@dataclass(slots=True)
class Counts:
    """What passed, in both directions."""

    requests: int = 0
    sent: int = 0
    answered: int = 0
    connections: int = 0


class Passing:
    """Passes connections on to one place."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self.counts = Counts()

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        self.counts.connections += 1
        there, back = await asyncio.open_connection(self._host, self._port)
        there_to = asyncio.create_task(self._there(reader, back))
        try:
            while chunk := await there.read(_CHUNK):
                self.counts.answered += len(chunk)
                writer.write(chunk)
        except ConnectionError:
            pass  # ends it, as the end of the stream does
        finally:
            there_to.cancel()
            await asyncio.gather(there_to, return_exceptions=True)
            back.close()
            writer.close()

    async def _there(self, reader: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        end = b""
        while chunk := await reader.read(_CHUNK):
            self.counts.sent += len(chunk)
            # A mark may lie across two chunks; one that was counted is not left over whole.
            self.counts.requests += (end + chunk).count(_MARK)
            end = chunk[-len(_MARK) + 1 :]
            back.write(chunk)
        back.close()


async def _main(host: str, port: int) -> None:
    passing = Passing(host, port)
    server = await asyncio.start_server(passing.connection, "127.0.0.1", 0, backlog=4096)
    place, own = server.sockets[0].getsockname()
    _say(f"http://{place}:{own}")
    while await asyncio.to_thread(sys.stdin.readline):
        counted, passing.counts = passing.counts, Counts()
        _say(orjson.dumps(asdict(counted)).decode())


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2])))

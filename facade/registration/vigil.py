"""What is seen of a posted server between two probes, without asking it anything.

The kernel closes a dead process's connections, so the one over which the last probe was answered
tells of the server's end at once. Many servers close it themselves after a few seconds without a
request (uvicorn and Node after 5 s): from then on, and while the server is down, a connection is
made and closed again now and then, which shows whether anybody listens. Neither is a request, and
either only leads to a probe, which decides.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from mcp_discovery.facade.http.lines import Line
from mcp_discovery.facade.http.outbound import Dialer
from mcp_discovery.health import Status
from mcp_discovery.registrant.tasks import alongside, is_set

#: A server without an open connection is looked at so many parts of the probe interval apart.
_APART = 0.2
#: The same for one that is down; and in seconds, what is not exceeded then.
_AWAY_APART, _LONGEST_AWAY = 0.1, 5.0
#: The least of these pauses in seconds, and the part by which they vary.
_LEAST, _JITTER = 0.2, 0.1
#: Seconds that a process takes at most to close all that it had open.
_ENDING = 0.05


@dataclass(eq=False, kw_only=True)
class Vigil:
    """Keeps an eye on the server at ``url``, which is probed every ``interval`` seconds.

    ``status`` gives what the last probe found. ``missed`` is called when nobody listens there any
    more, ``returned`` when somebody does again.
    """

    dialer: Dialer
    url: str
    interval: float
    status: Callable[[], Status]
    missed: Callable[[], None]
    returned: Callable[[], None]

    def __post_init__(self) -> None:
        self._probed = asyncio.Event()
        self._closed: Line | None = None  # the last that was seen to be

    def probed(self) -> None:
        """A probe has ended."""
        self._probed.set()

    async def run(self) -> None:
        """For ever; to be cancelled."""
        while True:
            if self.status() is Status.DOWN:
                await self._until_back()
            else:
                await self._until_gone()

    async def _until_gone(self) -> None:
        """Looks once whether the server is still there, when it is time to."""
        self._probed.clear()
        line = self.dialer.line(self.url)
        if line is None or line is self._closed:
            looked = await is_set(self._probed, self._pause(_APART))
            # What is closed before it has spoken TLS leaves a line in some servers' logs.
            if looked or line is None or self.url.startswith(("https:", "wss:")):
                return
        else:
            async with alongside(self._probed.wait()) as (probed,):
                await asyncio.wait({line.closed, probed}, return_when=asyncio.FIRST_COMPLETED)
            if not line.closed.done():
                return
            self._closed = line
            await asyncio.sleep(_ENDING)
        if self.dialer.line(self.url) is not line or self.status() is Status.DOWN:
            return
        if await self.dialer.accepts(self.url, line.peer) is not True:
            self.missed()

    async def _until_back(self) -> None:
        """Looks until the server is no longer down, or listens after it did not."""
        refused = False
        while self.status() is Status.DOWN:
            await asyncio.sleep(self._pause(_AWAY_APART, _LONGEST_AWAY))
            accepted = await self.dialer.accepts(self.url)
            if accepted and refused:
                self.returned()
            refused = accepted is False

    def _pause(self, part: float, longest: float = math.inf) -> float:
        pause = min(max(_LEAST, part * self.interval), longest)
        return pause * random.uniform(1 - _JITTER, 1 + _JITTER)

"""Whether the address that an MCP server is advertised under leads to it: tried now and then.

A server that answers its sidecar on loopback may refuse the advertised host name (HTTP 421, against
DNS rebinding), listen on loopback alone, or not be the one that answers there. Agents would find
out.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import aiohttp

from mcp_discovery.adapters.backoff import Backoff
from mcp_discovery.probe import probe_of
from mcp_discovery.probe.verdict import Verdict, address_verdict
from mcp_discovery.record import Record
from mcp_discovery.registrant.tasks import alongside, is_set
from mcp_discovery.sidecar.access import Access
from mcp_discovery.sidecar.advertise import Advertised

log = logging.getLogger(__name__)

#: Seconds between two trials of an address that is good, and by which part they vary.
_EVERY, _VARIES = 300.0, 0.2
#: The longest time between two trials of one that is not, in seconds.
_LONGEST_RETRY = 60.0
#: Seconds that a trial may take, and for which the first registration waits for the first trial.
_TIMEOUT, _HOLD = 15.0, 2.0


@dataclass(eq=False)
class AddressTrials:
    """What is found at the advertised address of one server.

    ``http`` must add no credentials to requests there. ``changed`` is called when :attr:`verdict`
    is another, or when :attr:`settled`. An address that is the one that is probed anyway is not
    tried.
    """

    http: aiohttp.ClientSession
    access: Access
    advertised: Advertised
    changed: Callable[[], None]
    #: What was found there last; ``None`` where nothing is to be said of it.
    verdict: Verdict | None = None
    #: Whether the first trial has ended, takes long, or is needless.
    settled: bool = False
    _record: Record | None = None
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def describe(self, record: Record, dialled: str) -> None:
        """Takes the server's record, and the URL at which the server is probed."""
        before = self._record
        self._record = record
        if record.endpoint.url == dialled:
            self._conclude(None)
        elif before is None or before.endpoint != record.endpoint:
            self._news.set()

    async def run(self) -> None:
        """Tries the address for ever; to be cancelled."""
        retry = Backoff(2.0, _LONGEST_RETRY)
        await self._news.wait()
        while True:
            self._news.clear()
            async with alongside(self._trial()) as (trial,):
                await asyncio.wait({trial}, timeout=None if self.settled else _HOLD)
                if not self.settled:
                    self._settle()
                good = await trial
            if good:
                retry.reset()
                pause = _EVERY * random.uniform(1 - _VARIES, 1 + _VARIES)
            else:
                pause = retry.next()
            await is_set(self._news, pause)

    async def _trial(self) -> bool:
        """One trial; whether the address leads to the server."""
        record = self._record
        assert record is not None, "there is news"
        assert record.endpoint.url is not None
        probe = probe_of(
            record.endpoint.url,
            transport=record.endpoint.transport,
            session=self.http,
            tls=self.access.tls_elsewhere,
        )
        failure, answers = await probe.introduce(_TIMEOUT)
        found = address_verdict(
            failure,
            expected=record.protocol.server_info or {},
            answers=answers,
            announced=record.auth.type != "none",
            # This machine's own address is one that it can reach.
            elsewhere=self.advertised.fixed is not None,
        )
        if self._record is not None and self._record.endpoint == record.endpoint:
            self._conclude(found)
        return found is None

    def _conclude(self, found: Verdict | None) -> None:
        changed, self.verdict = found != self.verdict, found
        if changed or not self.settled:
            self._settle()

    def _settle(self) -> None:
        self.settled = True
        self.changed()

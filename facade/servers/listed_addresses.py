"""Whether the listed addresses of servers that sidecars keep lead to them from here, too.

A sidecar vouches for its server and tries its address from its own machine. What refuses a facade's
host, or is another server there, is shown as ``degraded`` in this facade's list; the store keeps
what the sidecar says.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from mcp_discovery.adapters.catalog import Catalog
from mcp_discovery.adapters.view import Entry
from mcp_discovery.facade.http.addresses import AddressPolicy, literal
from mcp_discovery.facade.http.outbound import MARK, Dialer
from mcp_discovery.facade.registration.strangers import CONCEALED
from mcp_discovery.facade.usage.usage import CAPABILITY_REQUEST, Usage
from mcp_discovery.health import Status
from mcp_discovery.probe import ProbeError, ServerTls, UnreachableError, probe_of
from mcp_discovery.probe.standing import SteadyReason
from mcp_discovery.probe.verdict import address_verdict
from mcp_discovery.record import Record
from mcp_discovery.registrant.tasks import ended, guarded
from mcp_discovery.urls import wire_url

log = logging.getLogger(__name__)

#: Seconds from the first sight of a server to its first trial, at least and at most.
_FIRST = (0.5, 3.0)
#: Seconds between two trials of one server, and by which part they vary.
_EVERY, _VARIES = 1800.0, 0.3
#: Seconds until an address that is not good is tried again, doubled each time, and at most.
_RETRY, _LONGEST_RETRY = 1.0, 60.0
#: After how many such trials in a row it is shown.
_SURE = 2
#: For how long the reason that is shown has not to come until one that took turns with it is.
_STEADY = 3 * _LONGEST_RETRY
#: The least time between two trials of one server that failed calls lead to, in seconds.
_APART = 10.0
#: Seconds that a trial may take, how many run at once, and how far apart they start.
_TIMEOUT, _MOST, _PACE = 10.0, 4, 0.05
#: Seconds between two looks at the list.
_LOOK = 1.0
#: From so many servers on, it is the facade's own network that is at fault where more than half
#: of them refuse to be connected to.
_ENOUGH = 10


@dataclass(eq=False, slots=True)
class _Tried:
    """What is known of one address. Times are in seconds of the monotonic clock."""

    record: Record
    due: float
    last: float = 0.0
    bad: int = 0
    reason: str | None = None
    connects: bool = True
    reasons: SteadyReason = field(default_factory=lambda: SteadyReason(_STEADY))


class ListedAddresses:
    """Tries them while the application runs, in :meth:`running`.

    An address that the facade may not dial is not tried, nor is one of loopback that a sidecar on
    another machine means. Unless ``everything`` is, only what somebody registered is tried who is
    not known, and so only claims it; once its server was found, the list says so.
    ``has_strangers`` tells whether anybody may register.
    """

    def __init__(
        self,
        catalog: Catalog,
        usage: Usage,
        *,
        addresses: AddressPolicy,
        mark: str,
        tls: ServerTls,
        everything: bool = True,
        has_strangers: Callable[[], bool] = lambda: False,
    ) -> None:
        self._has_strangers = has_strangers
        self._catalog = catalog
        self._everything = everything
        self._addresses = addresses
        self._mark = mark
        self._tls = tls
        self._tried: dict[str, _Tried] = {}
        self._host = socket.gethostname()
        usage.listen(CAPABILITY_REQUEST, self._called)

    @property
    def astray(self) -> int:
        """How many servers are not found at their addresses."""
        return sum(each.reason is not None for each in self._tried.values())

    async def running(self, _: web.Application) -> AsyncIterator[None]:
        """From start to clean-up of the application."""
        self._dialer = Dialer(self._addresses, headers={MARK: self._mark}, connections=_MOST)
        trying = asyncio.create_task(guarded("trying listed addresses", self._run))
        try:
            yield
        finally:
            await ended(trying)
            await self._dialer.close()

    async def _run(self) -> None:
        slots = asyncio.Semaphore(_MOST)
        async with asyncio.TaskGroup() as group:
            while True:
                for id in self._due():
                    await slots.acquire()
                    trial = group.create_task(self._try(id))
                    trial.add_done_callback(lambda _: slots.release())
                    await asyncio.sleep(_PACE)
                await asyncio.sleep(_LOOK)

    def _due(self) -> list[str]:
        """Whose addresses are to be tried now; forgets what is no longer listed."""
        now, entries = time.monotonic(), self._catalog.view.entries
        for id in [id for id in self._tried if id not in entries]:
            del self._tried[id]
        found = []
        for id, entry in entries.items():
            known, record = self._tried.get(id), entry.record
            if known is None or (
                known.record is not record and known.record.endpoint != record.endpoint
            ):
                if known is not None:
                    self._catalog.confirm(id, found=False)
                    self._catalog.remark(id, None)
                self._tried[id] = _Tried(record, now + random.uniform(*_FIRST))
            elif known.due <= now and self._concerns(entry, known):
                known.record, known.due = record, now + _EVERY  # until it has ended
                found.append(id)
        return found

    def _concerns(self, entry: Entry, known: _Tried) -> bool:
        """Whether to try the address of ``entry``: a sidecar says that all is well there."""
        holder, url = entry.instance.lease.holder, entry.record.endpoint.url
        well = entry.health.status is Status.HEALTHY or known.reason is not None
        if url is None or not well:
            return False
        if holder.by == "facade":  # which probes it, unless that is only claimed
            if not holder.claims or holder.probed:
                return False
        elif not (self._everything or holder.claims):
            return False
        host = wire_url(url).raw_host or ""
        address = literal(host)
        here = host.endswith("localhost") or (address is not None and address.is_loopback)
        return not here or holder.host in (self._host, "127.0.0.1", "::1")

    async def _try(self, id: str) -> None:
        entry = self._catalog.view.entries.get(id)
        known = self._tried.get(id)
        if entry is None or known is None:
            return
        record = entry.record
        failure, answers = await self._asked(record)
        found = address_verdict(
            failure,
            expected=record.protocol.server_info or {},
            answers=answers,
            announced=True,  # a facade has credentials for nobody
            elsewhere=True,
        )
        bad = found is not None and found.status is not Status.HEALTHY
        known.last = time.monotonic()
        known.bad = known.bad + 1 if bad else 0
        known.connects = not isinstance(failure, UnreachableError) or failure.was_connected
        pause = _EVERY * random.uniform(1 - _VARIES, 1 + _VARIES)
        if bad:
            pause = min(_RETRY * 2.0 ** min(known.bad - 1, 30), _LONGEST_RETRY)
        known.due = known.last + pause
        if self._tried.get(id) is not known or 0 < known.bad < _SURE:
            return
        reason = found.reason if found is not None and bad and self._counts(known) else None
        if reason is None:
            known.reasons.forget()
        else:
            reason = known.reasons.take(reason, known.last)
        if found is None:
            # It stays found while it is at that address: one that is away keeps its place among
            # those that have its name, or whoever waits for that would get its calls.
            self._catalog.confirm(id, found=True)
        if reason != known.reason:
            log.warning("%s, seen from here: %s", id, reason or "its address leads to it again")
            known.reason = reason
            conceal = reason is not None and self._is_strangers(entry)
            self._catalog.remark(id, CONCEALED if conceal else reason)

    def _is_strangers(self, entry: Entry) -> bool:
        """Whether somebody registered it who is not known, and who is told no reasons; see
        :mod:`mcp_discovery.facade.registration.strangers`."""
        return entry.instance.lease.holder.claims and self._has_strangers()

    def _counts(self, known: _Tried) -> bool:
        """Whether what was found says something of the server, and not of the facade's network."""
        if known.connects:
            return True
        tried = [each for each in self._tried.values() if each.last]
        lost = sum(not each.connects for each in tried)
        return len(tried) < _ENOUGH or lost * 2 <= len(tried)

    async def _asked(self, record: Record) -> tuple[ProbeError | None, Mapping[str, Any]]:
        endpoint = record.endpoint
        assert endpoint.url is not None
        probe = probe_of(
            endpoint.url,
            transport=endpoint.transport,
            session=self._dialer.session,
            tls=self._tls,
        )
        return await probe.introduce(_TIMEOUT)

    def _called(self, _: str, id: str, facts: Mapping[str, Any]) -> None:
        """A call went well or failed: one that failed is a reason to try the address soon."""
        known = self._tried.get(id)
        if known is not None and not facts["success"] and known.last:
            known.due = min(known.due, known.last + _APART)

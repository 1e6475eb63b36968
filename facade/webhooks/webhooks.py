"""Tells receivers what changes in the list: a queue and a task for each of them, so that one that
hangs delays no other."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import web
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mcp_discovery.adapters.catalog import Catalog
from mcp_discovery.adapters.live_list import CatalogEvent
from mcp_discovery.adapters.missed import MissedInstances
from mcp_discovery.adapters.view import View
from mcp_discovery.credential_files import FollowedFiles
from mcp_discovery.facade.access.audit.journal import AuditLogError
from mcp_discovery.facade.http.outbound import Dialer
from mcp_discovery.facade.http.pauses import Pauses, sliced
from mcp_discovery.facade.servers.list_json import caveats
from mcp_discovery.facade.webhooks.alarms import Alarms, names_in
from mcp_discovery.facade.webhooks.deliveries import (
    LEASE,
    MOST_PENDING,
    Deliveries,
    Delivery,
    now,
)
from mcp_discovery.facade.webhooks.messages import (
    DROPPED,
    TEST,
    ChangeMessages,
    Message,
    new_id,
)
from mcp_discovery.facade.webhooks.receivers import Receiver, Receivers
from mcp_discovery.facade.webhooks.sending import GONE, after, attempt, pause_after
from mcp_discovery.health import utcnow

log = logging.getLogger(__name__)

#: How many changes wait until they are made messages of; and messages that are added at once.
_MOST_EVENTS, _AT_ONCE = 50_000, 500
#: Seconds between two looks for what is due, at the file and at alarms; and at what is old.
_LOOK, _PRUNE_EVERY = 1.0, 3600.0


@dataclass(eq=False, slots=True)
class ReceiverState:
    """What this facade knows of one receiver; times are POSIX seconds. ``failures`` are those in
    a row, ``paused_until`` is when it is sent something again, ``gone`` that it wants nothing."""

    receiver: Receiver
    failures: int = 0
    paused_until: float = 0.0
    gone: bool = False
    untold_dropped: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    def is_gone(self, last: Delivery | None) -> bool:
        """Whether it wants nothing, as ``last``, which was tried last, says."""
        return last is not None and (last.status, last.target) == (GONE, self.receiver.target)


class Webhooks:
    """The receivers in ``file``, and what waits for them in ``deliveries``.

    ``on_failure`` is called with what failed for good: the name of an event, and its facts. Of
    several facades over one database the one that has its lease sends.
    """

    def __init__(
        self,
        file: FollowedFiles[Receivers],
        catalog: Catalog,
        missed: MissedInstances,
        deliveries: Deliveries,
        dialer: Callable[[], Dialer],
        on_failure: Callable[[str, Mapping[str, Any]], None],
    ) -> None:
        self.deliveries = deliveries
        #: Whether this facade is the one that sends.
        self.leads = False
        self.states: dict[str, ReceiverState] = {}
        #: How many deliveries there are, by receiver and state, as of a moment ago.
        self.counts: Mapping[tuple[str, str], int] = {}
        self._file = file
        self._catalog = catalog
        self._alarms = Alarms(catalog, missed)
        self._make_dialer = dialer
        self._dialer: Dialer | None = None
        self._on_failure = on_failure
        self._holder = f"{socket.gethostname()}-{secrets.token_hex(6)}"
        self._events: deque[CatalogEvent] = deque()
        self._overran = False
        self._news = asyncio.Event()
        self._senders: dict[str, asyncio.Task[None]] = {}
        self._held = 0

    async def running(self, _: web.Application) -> AsyncIterator[None]:
        """From start to clean-up of the application."""
        self._dialer = self._make_dialer()
        self._reconcile()
        works = {"follow the list": self._follow, "lease": self._keep_lease}
        tasks = [
            asyncio.create_task(self._guarded(name, work), name=f"webhooks: {name}")
            for name, work in works.items()
        ]
        try:
            yield
        finally:
            for task in (*tasks, *self._senders.values()):
                task.cancel()
            await asyncio.gather(*tasks, *self._senders.values(), return_exceptions=True)
            with suppress(ValueError):
                self._catalog.listeners.remove(self._take)
            with suppress(AuditLogError):
                await self.deliveries.release(self._holder)
            await self._dialer.close()

    # -- what happens ----------------------------------------------------------------------------

    def _take(self, events: Sequence[CatalogEvent], _: View) -> None:
        """See :data:`~mcp_discovery.adapters.live_list.ListListener`."""
        if len(self._events) + len(events) > _MOST_EVENTS:
            self._events.clear()
            self._overran = True
        else:
            self._events.extend(events)
        self._news.set()

    async def _follow(self) -> None:
        await self._catalog.ready()
        if self._take not in self._catalog.listeners:  # this may be begun anew
            self._catalog.listeners.append(self._take)
        made, stale = ChangeMessages(), self._catalog.view.stale_since
        self._held = self._catalog.held_total
        names = set(names_in(self._catalog.view))
        while True:
            messages: list[Message] = []
            pauses = Pauses()
            while self._events:
                event = self._events.popleft()
                names |= {each.record.name for each in (event.entry, event.before) if each}
                messages += made.of(event)
                if len(messages) >= _AT_ONCE:
                    await self._tell(messages)
                    messages = []
                await pauses.pause()
            messages += self._of_list(stale is not None)
            stale = self._catalog.view.stale_since
            # Everybody follows what is wrong, so that whoever gets the lease knows; one tells it.
            alarms = [each async for each in self._alarms.look(names)]
            alarm_after = self._file.current().alarm_after
            alarms += [each async for each in sliced(self._alarms.due(alarm_after))]
            names.clear()
            await self._tell(messages + (alarms if self.leads else []))
            self._reconcile()
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK):
                    await self._news.wait()
            self._news.clear()

    def _of_list(self, was_stale: bool) -> list[Message]:
        """What happened to the list as a whole, where this facade is the one that tells it."""
        view, held = self._catalog.view, self._catalog.held_total
        found: list[tuple[str, dict[str, Any]]] = []
        if self._overran:
            found.append(("list.reset", {"revision": view.revision, "epoch": view.epoch}))
        if (view.stale_since is not None) is not was_stale:
            found.append(("list.fresh" if was_stale else "list.stale", dict(caveats(view))))
        if held > self._held:
            found.append(("list.held", {"instances": held - self._held}))
        self._held, self._overran = held, False
        told = found if self.leads else []
        return [Message(new_id(), type, utcnow(), data) for type, data in told]

    async def _tell(self, messages: Iterable[Message]) -> None:
        """Adds ``messages`` for whoever wants them; waits for as long as that cannot be done."""
        new: list[Delivery] = []
        pauses = Pauses()
        for message in messages:
            body = message.body().decode()
            for state in self.states.values():
                if state.receiver.wants(message):
                    new.append(_delivery(state.receiver, message, body))
            if len(new) >= _AT_ONCE:
                await self._add(new)
                new = []
            await pauses.pause()
        for state in self.states.values():
            if state.untold_dropped and not self._is_full(state.receiver.name):
                data = {"dropped": state.untold_dropped}
                message = Message(new_id(), DROPPED, utcnow(), data)
                new.append(_delivery(state.receiver, message, message.body().decode()))
                state.untold_dropped = 0
        if new:
            await self._add(new)

    async def _add(self, new: Sequence[Delivery]) -> None:
        while True:
            try:
                dropped = await self.deliveries.add(new)
                break
            except AuditLogError as error:
                log.warning("webhooks: messages cannot be kept now: %s", error)
                await asyncio.sleep(_LOOK)
        for name, number in dropped.items():
            state = self.states[name]
            if not state.untold_dropped:
                log.warning("webhook %s: too much waits for it, messages are dropped", name)
            state.untold_dropped += number
            state.outcomes["dropped"] += number
        for name in {each.receiver for each in new}:
            self.states[name].wake.set()

    def _is_full(self, name: str) -> bool:
        return self.counts.get((name, "pending"), 0) * 2 > MOST_PENDING

    # -- who sends -------------------------------------------------------------------------------

    async def _keep_lease(self) -> None:
        pruned = 0.0
        while True:
            try:
                leads = await self.deliveries.lead(self._holder, now())
                if leads is not self.leads:
                    self.leads = leads
                    for state in self.states.values():
                        state.wake.set()
                self.counts = await self.deliveries.counts()
                if leads and time.monotonic() - pruned > _PRUNE_EVERY:
                    pruned = time.monotonic()
                    if overdue := await self.deliveries.prune(now()):
                        self._on_failure("webhooks-overdue", {"messages": overdue})
            except AuditLogError as error:
                self.leads = False  # whoever reaches the database has the lease
                log.warning("webhooks: the database cannot be used now: %s", error)
            await asyncio.sleep(LEASE / 6 if self.leads else LEASE / 10)

    def _reconcile(self) -> None:
        """Has a task for each receiver in the file, and none for others."""
        wanted = self._file.current().by_name
        for name in [name for name in self.states if name not in wanted]:
            self._senders.pop(name).cancel()
            del self.states[name]
        for name, receiver in wanted.items():
            state = self.states.get(name)
            if state is None:
                state = self.states[name] = ReceiverState(receiver)
                self._senders[name] = asyncio.create_task(
                    self._guarded(name, lambda state=state: self._serve(state)),  # type: ignore[misc]
                    name=f"webhook {name}",
                )
            elif state.receiver is not receiver:
                if state.receiver.url != receiver.url:
                    state.gone, state.failures, state.paused_until = False, 0, 0.0
                state.receiver = receiver
                state.wake.set()

    async def _guarded(self, name: str, work: Callable[[], Any]) -> None:
        while True:
            try:
                await work()
            except AuditLogError as error:
                log.warning("webhooks: %s: %s", name, error)
            except Exception:  # the guard that keeps the task alive
                log.exception("webhooks: %s failed in a way it must not", name)
            await asyncio.sleep(_LOOK)

    # -- sending ---------------------------------------------------------------------------------

    async def _serve(self, state: ReceiverState) -> None:
        led = False
        while True:
            state.wake.clear()
            delivery = None
            if self.leads and now() >= state.paused_until:
                if state.gone or not led:  # another facade may have tested it meanwhile
                    state.gone = state.is_gone(await self.deliveries.last(state.receiver.name))
                if not state.gone:
                    delivery = await self.deliveries.due(state.receiver.name, now())
            led = self.leads
            if delivery is not None:
                await self._send(state, delivery)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK):
                    await state.wake.wait()

    async def _send(
        self, state: ReceiverState, delivery: Delivery, *, once: bool = False
    ) -> Delivery:
        """Makes one attempt, and puts down how it ended; the only one where it is made ``once``."""
        assert self._dialer is not None
        receiver = state.receiver
        found = await attempt(self._dialer, receiver, delivery)
        sent = replace(after(delivery, found), target=receiver.target)
        if once and not found.done:
            sent = replace(sent, state="dead")
        await self.deliveries.save(sent)
        if found.done:
            state.outcomes["delivered"] += 1
            if state.failures or state.gone:
                log.info("webhook %s: it takes messages again", receiver.name)
                await self.deliveries.hasten(receiver.name, now())
            state.failures, state.paused_until, state.gone = 0, 0.0, False
            return sent
        state.outcomes["failed"] += 1
        state.failures += 1
        state.paused_until = now() + pause_after(state.failures, found)
        if state.failures == 1:
            log.warning("webhook %s: %s", receiver.name, found.error)
        facts = {"receiver": receiver.name, "message": sent.id, "why": found.error}
        if found.status == GONE and not state.gone:
            state.gone = True
            self._on_failure("webhook-disabled", facts)
        if sent.state == "dead" and not once:
            state.outcomes["dead"] += 1
            self._on_failure("webhook-dead", {**facts, "attempts": sent.attempts})
        return sent

    async def test(self, state: ReceiverState) -> Delivery:
        """Sends a message that says nothing, at once and once; one that is taken ends a pause, and
        that the receiver is disabled."""
        message = Message(new_id(), TEST, utcnow(), {"receiver": state.receiver.name})
        made = _delivery(state.receiver, message, message.body().decode())
        return await self._send(state, made, once=True)

    async def redeliver(self, state: ReceiverState, delivery: Delivery) -> Delivery:
        """Has a message sent again soon, with the same id, whatever became of it."""
        again = replace(delivery, state="pending", attempts=0, due=now())
        await self.deliveries.save(again)
        state.paused_until = 0.0
        state.wake.set()
        return again


def _delivery(receiver: Receiver, message: Message, body: str) -> Delivery:
    at = now()
    return Delivery(receiver.name, message.id, message.type, body, receiver.target, at, at)


WEBHOOKS = web.AppKey("webhooks", Webhooks)


class WebhookFigures(Collector):
    """What became of messages, for Prometheus."""

    def __init__(self, webhooks: Webhooks) -> None:
        self._webhooks = webhooks

    def collect(self) -> Iterable[Metric]:
        """See :class:`prometheus_client.registry.Collector`."""
        attempts = CounterMetricFamily(
            "mcp_discovery_webhook_messages",
            "Attempts to send messages, and messages that are dead or were dropped.",
            labels=("receiver", "outcome"),
        )
        waiting = GaugeMetricFamily(
            "mcp_discovery_webhook_waiting",
            "Messages that wait to be sent to a receiver.",
            labels=("receiver",),
        )
        disabled = GaugeMetricFamily(
            "mcp_discovery_webhook_disabled",
            "1 while a receiver has said that it wants no messages.",
            labels=("receiver",),
        )
        for name, state in self._webhooks.states.items():
            for outcome in ("delivered", "failed", "dead", "dropped"):
                attempts.add_metric((name, outcome), state.outcomes[outcome])
            waiting.add_metric((name,), self._webhooks.counts.get((name, "pending"), 0))
            disabled.add_metric((name,), int(state.gone))
        yield from (attempts, waiting, disabled)

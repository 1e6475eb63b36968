"""What is to be sent to each receiver, what was, and what could not be: in memory, or in the
audit's database, which several facades share and which survives a restart."""

from __future__ import annotations

import heapq
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias

from mcp_discovery.errors import InvalidInputError

if TYPE_CHECKING:
    from mcp_discovery.facade.access.audit.database import DatabaseLog

State: TypeAlias = Literal["pending", "delivered", "dead"]
#: How many messages may wait for one receiver.
MOST_PENDING: Final = 10_000
#: How many delivered ones, and how many dead ones, of a receiver are shown at most.
MOST_SHOWN: Final = 1000
#: For how many seconds what was delivered is shown, what is dead, and what waits is tried.
_KEPT: Final[Mapping[State, float]] = {
    "delivered": 86_400.0,
    "dead": 30 * 86_400.0,
    "pending": 7 * 86_400.0,
}
#: Seconds for which one of several facades is the one that sends.
LEASE: Final = 30.0


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message for one receiver, whose URL ``target`` tells; times are POSIX seconds. ``status``
    and ``error`` are those of the last attempt, at ``tried``."""

    receiver: str
    id: str
    type: str
    body: str
    target: str
    created: float
    due: float
    state: State = "pending"
    attempts: int = 0
    status: int | None = None
    error: str | None = None
    tried: float | None = None


class Deliveries(Protocol):
    """Deliveries by receiver and id. What a database cannot do now raises
    :class:`~mcp_discovery.facade.access.audit.journal.AuditLogError`."""

    async def add(self, new: Iterable[Delivery]) -> Mapping[str, int]:
        """Adds what is not there yet; returns how many did not fit, by receiver."""

    async def due(self, receiver: str, now: float) -> Delivery | None:
        """The oldest that is due."""

    async def save(self, delivery: Delivery) -> None:
        """Puts it in the place of the one that is there."""

    async def hasten(self, receiver: str, now: float) -> None:
        """Makes all that wait due."""

    async def listed(self, receiver: str, state: State | None, limit: int) -> list[Delivery]:
        """The newest first."""

    async def get(self, receiver: str, id: str) -> Delivery | None:
        """One of them."""

    async def last(self, receiver: str) -> Delivery | None:
        """The one that was tried last."""

    async def counts(self) -> Mapping[tuple[str, str], int]:
        """How many there are, by receiver and state."""

    async def lead(self, holder: str, now: float) -> bool:
        """Whether ``holder`` is the one that sends, for :data:`LEASE` seconds from now."""

    async def release(self, holder: str) -> None:
        """Lets another send at once, if it was ``holder`` that did."""

    async def prune(self, now: float) -> int:
        """Forgets what is old; what waited for too long is dead. Returns how many of these."""


class MemoryDeliveries:
    """Deliveries of one process, which end with it."""

    def __init__(self) -> None:
        self._known: defaultdict[str, _OfReceiver] = defaultdict(_OfReceiver)

    async def add(self, new: Iterable[Delivery]) -> Mapping[str, int]:
        """See :meth:`Deliveries.add`."""
        dropped: Counter[str] = Counter()
        for each in new:
            known = self._known[each.receiver]
            if known.get(each.id) is None:
                if len(known.pending) >= MOST_PENDING:
                    dropped[each.receiver] += 1
                else:
                    known.pending[each.id] = each
        return dropped

    async def due(self, receiver: str, now: float) -> Delivery | None:
        """See :meth:`Deliveries.due`."""
        return next(
            (each for each in self._known[receiver].pending.values() if each.due <= now), None
        )

    async def save(self, delivery: Delivery) -> None:
        """See :meth:`Deliveries.save`."""
        self._known[delivery.receiver].put(delivery)

    async def hasten(self, receiver: str, now: float) -> None:
        """See :meth:`Deliveries.hasten`."""
        pending = self._known[receiver].pending
        for id, each in pending.items():
            pending[id] = replace(each, due=min(each.due, now))

    async def listed(self, receiver: str, state: State | None, limit: int) -> list[Delivery]:
        """See :meth:`Deliveries.listed`."""
        known = self._known[receiver]
        found = (each for each in known.all() if state in (None, each.state))
        return heapq.nlargest(limit, found, key=lambda each: each.created)

    async def get(self, receiver: str, id: str) -> Delivery | None:
        """See :meth:`Deliveries.get`."""
        return self._known[receiver].get(id)

    async def last(self, receiver: str) -> Delivery | None:
        """See :meth:`Deliveries.last`."""
        return self._known[receiver].last

    async def counts(self) -> Mapping[tuple[str, str], int]:
        """See :meth:`Deliveries.counts`."""
        return {
            (name, state): len(part)
            for name, known in self._known.items()
            for state, part in known.parts.items()
        }

    async def lead(self, holder: str, now: float) -> bool:
        """See :meth:`Deliveries.lead`: there is nobody else."""
        return True

    async def release(self, holder: str) -> None:
        """See :meth:`Deliveries.release`."""

    async def prune(self, now: float) -> int:
        """See :meth:`Deliveries.prune`."""
        overdue = 0
        for known in self._known.values():
            for each in list(known.all()):
                if now - each.created < _KEPT[each.state]:
                    continue
                if each.state == "pending":
                    known.put(replace(each, state="dead", error=_OVERDUE))
                    overdue += 1
                else:
                    del known.parts[each.state][each.id]
        return overdue


class _OfReceiver:
    """Deliveries to one receiver by their state, the oldest first."""

    def __init__(self) -> None:
        self.pending: dict[str, Delivery] = {}
        self.parts: dict[State, dict[str, Delivery]] = {
            "pending": self.pending,
            "delivered": {},
            "dead": {},
        }
        self.last: Delivery | None = None

    def get(self, id: str) -> Delivery | None:
        return next((part[id] for part in self.parts.values() if id in part), None)

    def all(self) -> Iterator[Delivery]:
        return chain.from_iterable(part.values() for part in self.parts.values())

    def put(self, delivery: Delivery) -> None:
        for state, part in self.parts.items():
            if state != delivery.state:
                part.pop(delivery.id, None)
        part = self.parts[delivery.state]
        part[delivery.id] = delivery
        if delivery.state != "pending" and len(part) > MOST_SHOWN:
            del part[next(iter(part))]
        if delivery.tried is not None:
            self.last = delivery


_OVERDUE = "it could not be sent for a week"
_FIELDS = tuple(Delivery.__dataclass_fields__)
_ALL = ", ".join(_FIELDS)


def _row(delivery: Delivery) -> dict[str, Any]:
    return {name: getattr(delivery, name) for name in _FIELDS}


#: As in :mod:`mcp_discovery.facade.access.audit.migrations`; these tables have a version of their
#: own.
STEPS: Final[tuple[tuple[str, ...], ...]] = (
    (
        """CREATE TABLE webhook_deliveries (
            receiver VARCHAR(63) NOT NULL,
            id VARCHAR(40) NOT NULL,
            type VARCHAR(40) NOT NULL,
            body TEXT NOT NULL,
            target VARCHAR(16) NOT NULL,
            created DOUBLE PRECISION NOT NULL,
            due DOUBLE PRECISION NOT NULL,
            state VARCHAR(10) NOT NULL,
            attempts INTEGER NOT NULL,
            status INTEGER,
            error TEXT,
            tried DOUBLE PRECISION,
            PRIMARY KEY (receiver, id))""",
        "CREATE INDEX webhook_deliveries_due ON webhook_deliveries (receiver, state, created)",
        "CREATE INDEX webhook_deliveries_tried ON webhook_deliveries (receiver, tried)",
        """CREATE TABLE webhook_lease (
            id INTEGER PRIMARY KEY,
            holder VARCHAR(120) NOT NULL,
            ends DOUBLE PRECISION NOT NULL)""",
        "INSERT INTO webhook_lease VALUES (1, '', 0)",
    ),
)


class DatabaseDeliveries:
    """Deliveries in the database of an audit, in tables of their own."""

    def __init__(self, log: DatabaseLog) -> None:
        self._log = log
        self._is_open = False

    async def add(self, new: Iterable[Delivery]) -> Mapping[str, int]:
        """See :meth:`Deliveries.add`."""
        pending = {name: n for (name, state), n in (await self.counts()).items() if state[0] == "p"}
        dropped: Counter[str] = Counter()
        rows = []
        for each in new:
            if pending.get(each.receiver, 0) >= MOST_PENDING:
                dropped[each.receiver] += 1
                continue
            pending[each.receiver] = pending.get(each.receiver, 0) + 1
            rows.append(_row(each))
        values = ", ".join(f":{name}" for name in _FIELDS)
        if rows:
            await self._run(
                f"INSERT INTO webhook_deliveries ({_ALL}) VALUES ({values}) ON CONFLICT DO NOTHING",
                rows,
            )
        return dropped

    async def due(self, receiver: str, now: float) -> Delivery | None:
        """See :meth:`Deliveries.due`."""
        where = (
            "receiver = :receiver AND state = 'pending' AND due <= :now ORDER BY created LIMIT 1"
        )
        found = await self._found(where, receiver=receiver, now=now)
        return found[0] if found else None

    async def save(self, delivery: Delivery) -> None:
        """See :meth:`Deliveries.save`."""
        known = f"INSERT INTO webhook_deliveries ({_ALL}) VALUES "
        values = ", ".join(f":{name}" for name in _FIELDS)
        changed = ", ".join(f"{each} = excluded.{each}" for each in _FIELDS[6:])
        await self._run(
            f"{known}({values}) ON CONFLICT (receiver, id) DO UPDATE SET {changed}",
            _row(delivery),
        )

    async def hasten(self, receiver: str, now: float) -> None:
        """See :meth:`Deliveries.hasten`."""
        await self._run(
            "UPDATE webhook_deliveries SET due = :now "
            "WHERE receiver = :receiver AND state = 'pending' AND due > :now",
            {"receiver": receiver, "now": now},
        )

    async def listed(self, receiver: str, state: State | None, limit: int) -> list[Delivery]:
        """See :meth:`Deliveries.listed`."""
        where = "receiver = :receiver" + (" AND state = :state" if state else "")
        given = {"state": state} if state else {}
        return await self._found(
            f"{where} ORDER BY created DESC LIMIT {limit:d}", receiver=receiver, **given
        )

    async def get(self, receiver: str, id: str) -> Delivery | None:
        """See :meth:`Deliveries.get`."""
        found = await self._found("receiver = :receiver AND id = :id", receiver=receiver, id=id)
        return found[0] if found else None

    async def last(self, receiver: str) -> Delivery | None:
        """See :meth:`Deliveries.last`."""
        where = "receiver = :receiver AND tried IS NOT NULL ORDER BY tried DESC LIMIT 1"
        found = await self._found(where, receiver=receiver)
        return found[0] if found else None

    async def counts(self) -> Mapping[tuple[str, str], int]:
        """See :meth:`Deliveries.counts`."""
        from sqlalchemy import text

        await self._open()
        statement = "SELECT receiver, state, COUNT(*) FROM webhook_deliveries GROUP BY 1, 2"
        async with self._log.reading() as connection:
            rows = (await connection.execute(text(statement))).all()
        return {(name, state): number for name, state, number in rows}

    async def lead(self, holder: str, now: float) -> bool:
        """See :meth:`Deliveries.lead`."""
        changed = await self._run(
            "UPDATE webhook_lease SET holder = :holder, ends = :ends "
            "WHERE holder = :holder OR ends < :now",
            {"holder": holder, "now": now, "ends": now + LEASE},
        )
        return changed > 0

    async def release(self, holder: str) -> None:
        """See :meth:`Deliveries.release`."""
        released = "UPDATE webhook_lease SET ends = 0 WHERE holder = :holder"
        await self._run(released, {"holder": holder})

    async def prune(self, now: float) -> int:
        """See :meth:`Deliveries.prune`."""
        many = {key for key, number in (await self.counts()).items() if number > MOST_SHOWN}
        for receiver, state in many:
            if state != "pending":
                await self._run(
                    "DELETE FROM webhook_deliveries WHERE receiver = :receiver AND state = :state "
                    "AND created < (SELECT created FROM webhook_deliveries WHERE "
                    "receiver = :receiver AND state = :state "
                    f"ORDER BY created DESC LIMIT 1 OFFSET {MOST_SHOWN - 1})",
                    {"receiver": receiver, "state": state},
                )
        for name in ("delivered", "dead"):
            await self._run(
                "DELETE FROM webhook_deliveries WHERE state = :state AND created < :before",
                {"state": name, "before": now - _KEPT[name]},
            )
        return await self._run(
            "UPDATE webhook_deliveries SET state = 'dead', error = :why "
            "WHERE state = 'pending' AND created < :before",
            {"why": _OVERDUE, "before": now - _KEPT["pending"]},
        )

    async def _open(self) -> None:
        """Makes the tables where they are not there yet."""
        if self._is_open:
            return
        from mcp_discovery.facade.access.audit.journal import AuditLogError
        from mcp_discovery.facade.access.audit.migrations import bring_up

        async with self._log.writing() as connection:
            try:
                await bring_up(connection, self._log.name, "webhook_schema", STEPS)
            except InvalidInputError as error:  # made by a newer release
                raise AuditLogError(str(error)) from error
        self._is_open = True

    async def _run(self, statement: str, values: Any) -> int:
        from sqlalchemy import text

        await self._open()
        async with self._log.writing() as connection:
            return (await connection.execute(text(statement), values)).rowcount

    async def _found(self, where: str, **values: Any) -> list[Delivery]:
        from sqlalchemy import text

        await self._open()
        statement = text(f"SELECT {_ALL} FROM webhook_deliveries WHERE {where}")
        async with self._log.reading() as connection:
            rows = (await connection.execute(statement, values)).mappings().all()
        return [Delivery(**dict(each)) for each in rows]


def now() -> float:
    """This moment in POSIX seconds: what is due survives a restart, so no monotonic clock."""
    return time.time()

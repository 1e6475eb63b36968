"""The history in the store of an audit: SQLite, or PostgreSQL, which several facades share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

from sqlalchemy import (
    BigInteger,
    LargeBinary,
    String,
    bindparam,
    column,
    delete,
    func,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy import insert as plain_insert
from sqlalchemy import table as make_table
from sqlalchemy.dialects import postgresql, sqlite

from mcp_discovery.facade.access.audit.migrations import bring_up
from mcp_discovery.facade.history.change import LOST, Period, Span, State, StateChange
from mcp_discovery.facade.history.store import LEAD, MOST_READ, STORED, HistoryBounds, Lead, Of
from mcp_discovery.facade.history.watcher import has_ended

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Executable, Select, TableClause
    from sqlalchemy.ext.asyncio import AsyncConnection

    from mcp_discovery.facade.access.audit.database import DatabaseLog

#: As in :mod:`mcp_discovery.facade.access.audit.migrations`; these tables have a version of their
#: own, so that a role that may not make them keeps no audit from going on.
STEPS: Final[tuple[tuple[str, ...], ...]] = (
    (
        """CREATE TABLE history_periods (
            instance TEXT NOT NULL,
            at BIGINT NOT NULL,
            until BIGINT,
            name TEXT NOT NULL,
            document TEXT NOT NULL,
            state TEXT NOT NULL,
            PRIMARY KEY (instance, at))""",
        "CREATE INDEX history_periods_name ON history_periods (name, at)",
        "CREATE INDEX history_periods_until ON history_periods (until) WHERE until IS NOT NULL",
        "CREATE INDEX history_periods_listed ON history_periods (instance) WHERE until IS NULL",
        "CREATE INDEX history_periods_document ON history_periods (document)",
        "CREATE TABLE history_spans (began BIGINT PRIMARY KEY, ended BIGINT NOT NULL)",
        """CREATE TABLE history_lead (
            id INTEGER PRIMARY KEY,
            watcher TEXT NOT NULL,
            until BIGINT NOT NULL)""",
        "INSERT INTO history_lead VALUES (1, '', 0)",
        """CREATE TABLE history_documents (
            digest TEXT PRIMARY KEY,
            at BIGINT NOT NULL,
            size BIGINT NOT NULL,
            content BYTEA NOT NULL)""",
    ),
)
_PERIODS = make_table(
    "history_periods",
    *(column(name, String) for name in ("instance", "name", "document", "state")),
    *(column(name, BigInteger) for name in ("at", "until")),
)
_PERIOD = _PERIODS.c.instance, _PERIODS.c.at, _PERIODS.c.until, _PERIODS.c.state
_SPANS = make_table("history_spans", column("began", BigInteger), column("ended", BigInteger))
_LEAD = make_table("history_lead", column("id"), column("watcher"), column("until", BigInteger))
#: The row that says who writes; the other one says up to when too many periods were removed.
_LEADING, _CUT = _LEAD.c.id == 1, _LEAD.c.id == 2
_DOCUMENTS = make_table(
    "history_documents",
    *(column("digest", String), column("at", BigInteger), column("size", BigInteger)),
    column("content", LargeBinary),
)
#: How many rows are removed at once: whoever records waits meanwhile.
_AT_ONCE = 2000
#: How many are read at once.
_READ_AT_ONCE = 500


class StoredHistory:
    """See :class:`~mcp_discovery.facade.history.store.HistoryStore`."""

    kind: Literal["store", "memory"] = "store"

    def __init__(self, log: DatabaseLog, bounds: HistoryBounds = STORED) -> None:
        self._log = log
        self.bounds = bounds
        self._is_open = False

    async def lead(self, watcher: str, now: int) -> Lead:
        """See :meth:`HistoryStore.lead`."""
        if not self._is_open:
            async with self._log.writing() as connection:
                await bring_up(connection, self._log.name, "history_schema", STEPS)
            self._is_open = True
        async with self._log.writing() as connection:
            leading, until = await _leader(connection)
            another = leading not in ("", watcher) and not has_ended(leading)
            if another and until + LEAD * 1e6 > now:
                return Lead(False, until)
            # It is this one's from now on; up to when all is written stays.
            values = {"watcher": watcher, "until": max(until, now)}
            await connection.execute(update(_LEAD).where(_LEADING).values(values))
            last = (await connection.execute(select(func.max(_SPANS.c.ended)))).scalar()
            return Lead(True, last or 0)

    async def listed(self) -> Mapping[str, Period]:
        """See :meth:`HistoryStore.listed`."""
        found = select(*_PERIOD).where(_PERIODS.c.until.is_(None))
        return {each.instance: each for each in await self._read(found)}

    async def write(self, watcher: str, changes: Sequence[StateChange], span: Span) -> bool:
        """See :meth:`HistoryStore.write`."""
        ends, rows = _rows(changes)
        async with self._log.writing() as connection:
            if (await _leader(connection))[0] != watcher:
                return False
            if ends:
                over = update(_PERIODS).where(
                    _PERIODS.c.instance == bindparam("id"),
                    _PERIODS.c.until.is_(None),
                    _PERIODS.c.at < bindparam("end"),
                )
                await connection.execute(over.values(until=bindparam("end")), ends)
            if rows:
                await connection.execute(_new(connection, _PERIODS), rows)
            watched = {"began": span.began, "ended": span.ended}
            moved = update(_SPANS).where(_SPANS.c.began == span.began).values(ended=span.ended)
            if not (await connection.execute(moved)).rowcount:
                await connection.execute(plain_insert(_SPANS), watched)
            await connection.execute(update(_LEAD).where(_LEADING).values(until=span.ended))
        return True

    async def leave(self, watcher: str) -> None:
        """See :meth:`HistoryStore.leave`."""
        async with self._log.writing() as connection:
            await connection.execute(
                update(_LEAD).where(_LEAD.c.watcher == watcher).values(watcher="")
            )

    async def prune(self, now: int) -> int:
        """See :meth:`HistoryStore.prune`."""
        before = now - round(self.bounds.keep * 1e6)
        removed = await self._remove(_PERIODS.c.until < before)
        async with self._log.reading() as connection:
            counted = select(_PERIODS.c.instance, func.count()).group_by(_PERIODS.c.instance)
            counted = counted.having(func.count() > self.bounds.each)
            many = (await connection.execute(counted)).all()
        for id, _ in many:
            removed += await self._remove_beyond(self.bounds.each, _PERIODS.c.instance == id)
        removed += await self._remove_beyond(self.bounds.total)
        async with self._log.writing() as connection:
            await connection.execute(delete(_SPANS).where(_SPANS.c.ended < before))
            used = select(_PERIODS.c.document)
            own = func.replace(_DOCUMENTS.c.digest, LOST, "")
            await connection.execute(delete(_DOCUMENTS).where(own.not_in(used)))
            newest = select(_DOCUMENTS.c.digest, _DOCUMENTS.c.size).order_by(_DOCUMENTS.c.at.desc())
            size, over = 0, []
            for digest, bytes_ in (await connection.execute(newest)).all():
                size += bytes_
                if size > self.bounds.document_bytes:
                    over.append({"over": digest})
            if over:
                gone = delete(_DOCUMENTS).where(_DOCUMENTS.c.digest == bindparam("over"))
                await connection.execute(gone, over)
        return removed

    async def _remove_beyond(self, most: int, *of: ColumnElement[bool]) -> int:
        """Removes the oldest of those that are over, so that ``most`` remain."""
        async with self._log.reading() as connection:
            total = await connection.execute(select(func.count()).where(*of).select_from(_PERIODS))
            excess = (total.scalar() or 0) - most
            if excess <= 0:
                return 0
            ended = select(_PERIODS.c.until).where(_PERIODS.c.until.is_not(None), *of)
            cut = ended.order_by(_PERIODS.c.until).limit(1).offset(excess - 1)
            last = (await connection.execute(cut)).scalar()
        if last is None:  # so many are listed
            return 0
        if not of:
            async with self._log.writing() as connection:
                row = {"id": 2, "watcher": "", "until": last}
                await connection.execute(_new(connection, _LEAD), [row])
                await connection.execute(update(_LEAD).where(_CUT).values(until=last))
        return await self._remove(_PERIODS.c.until <= last, *of)

    async def _remove(self, *which: ColumnElement[bool]) -> int:
        removed = 0
        while True:
            key = tuple_(_PERIODS.c.instance, _PERIODS.c.at)
            some = select(_PERIODS.c.instance, _PERIODS.c.at).where(*which).limit(_AT_ONCE)
            async with self._log.writing() as connection:
                count = (await connection.execute(delete(_PERIODS).where(key.in_(some)))).rowcount
            removed += count
            if count < _AT_ONCE:
                return removed

    async def spans(self) -> Sequence[Span]:
        """See :meth:`HistoryStore.spans`."""
        found = select(_SPANS.c.began, _SPANS.c.ended).order_by(_SPANS.c.began)
        async with self._log.reading() as connection:
            return [Span(*row) for row in (await connection.execute(found)).all()]

    async def cut(self) -> int:
        """See :meth:`HistoryStore.cut`."""
        async with self._log.reading() as connection:
            return (await connection.execute(select(_LEAD.c.until).where(_CUT))).scalar() or 0

    async def periods(self, of: Of, key: str, since: int, until: int) -> Sequence[Period]:
        """See :meth:`HistoryStore.periods`."""
        table = _PERIODS.c
        found = (
            select(*_PERIOD)
            .where((table.name if of == "server" else table.instance) == key)
            .where(table.at < until, or_(table.until.is_(None), table.until > since))
            .order_by(table.at.desc())
            .limit(MOST_READ)
        )
        return (await self._read(found))[::-1]

    async def _read(self, which: Select[Any]) -> list[Period]:
        """Periods, a few at a time: there may be many."""
        found: list[Period] = []
        async with self._log.reading() as connection:
            async for rows in (await connection.stream(which)).partitions(_READ_AT_ONCE):
                found += map(_period, rows)
        return found

    async def kept(self, keys: Iterable[str]) -> set[str]:
        """See :meth:`HistoryStore.kept`."""
        found = select(_DOCUMENTS.c.digest).where(_DOCUMENTS.c.digest.in_(tuple(keys)))
        async with self._log.reading() as connection:
            return set((await connection.execute(found)).scalars())

    async def put(self, documents: Mapping[str, bytes], now: int) -> None:
        """See :meth:`HistoryStore.put`."""
        most = self.bounds.document_bytes // 4
        rows = [
            {"digest": key, "at": now, "size": len(content), "content": content}
            for key, content in documents.items()
            if len(content) <= most
        ]
        if rows:
            async with self._log.writing() as connection:
                await connection.execute(_new(connection, _DOCUMENTS), rows)

    async def document(self, key: str) -> bytes | None:
        """See :meth:`HistoryStore.document`."""
        found = select(_DOCUMENTS.c.content).where(_DOCUMENTS.c.digest == key)
        async with self._log.reading() as connection:
            content = (await connection.execute(found)).scalar()
        return None if content is None else bytes(content)


async def _leader(connection: AsyncConnection) -> tuple[str, int]:
    """Who leads, and until when it wrote; the row is this transaction's to change."""
    found = select(_LEAD.c.watcher, _LEAD.c.until).where(_LEADING).with_for_update()
    watcher, until = (await connection.execute(found)).one()
    return watcher, until


def _new(connection: AsyncConnection, table: TableClause) -> Executable:
    """An ``INSERT`` of what is not there yet: a write that seemed to fail may be repeated."""
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table).on_conflict_do_nothing()
    return postgresql.insert(table).on_conflict_do_nothing()


def _period(row: Any) -> Period:
    return Period(row.instance, row.at, row.until, State.decoded(row.state))


def _rows(
    changes: Sequence[StateChange],
) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """The ends of periods that are there, and the new periods."""
    ends: dict[str, dict[str, object]] = {}
    rows: list[dict[str, object]] = []
    last: dict[str, dict[str, object]] = {}
    for each in changes:
        if (before := last.pop(each.instance, None)) is not None:
            before["until"] = each.at
        else:
            ends.setdefault(each.instance, {"id": each.instance, "end": each.at})
        if each.state is not None:
            row: dict[str, object] = {
                "instance": each.instance,
                "at": each.at,
                "until": None,
                "name": each.state.name,
                "document": each.state.document,
                "state": each.state.encoded(),
            }
            rows.append(row)
            last[each.instance] = row
    return list(ends.values()), rows

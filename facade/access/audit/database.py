"""The queryable store of events: SQLite, or PostgreSQL, which several facades share.

The store has one chain. Whoever writes holds the row of its head, so that entries of several
facades stand in one order. It needs the extra ``audit`` (SQLite) or ``postgres``.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Connection, column, delete, event, insert, inspect, select, update
from sqlalchemy import table as make_table
from sqlalchemy.engine import URL, Dialect, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from mcp_discovery.errors import InvalidInputError
from mcp_discovery.extras import require_extra
from mcp_discovery.facade.access.audit.chain import ChainHead, link
from mcp_discovery.facade.access.audit.event import LogEntry, microseconds
from mcp_discovery.facade.access.audit.journal import AuditLogError, system_entry
from mcp_discovery.facade.access.audit.migrations import migrate

#: Seconds that one connection, statement or wait for a lock may take.
_TIMEOUT = 5.0
#: How many entries are removed, or read, at once.
_AT_ONCE = 1000

LOG = make_table(
    "audit_log",
    *map(
        column,
        (
            *("sequence", "event_id", "phase", "at", "type", "user_id", "address", "operation"),
            *("target_name", "target_id", "tool", "result", "request_id", "entry"),
        ),
    ),
)
HEAD = make_table("audit_head", *map(column, ("id", "chain", "sequence", "hash")))


def columns_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What can be searched for of an entry that is in the chain."""
    actor, target = entry.get("actor") or {}, entry.get("target") or {}
    return {
        "sequence": entry["sequence"],
        "event_id": entry["eventId"],
        "phase": entry["phase"],
        "at": microseconds(entry["time"]),
        "type": entry.get("eventType"),
        "user_id": actor.get("userId"),
        "address": actor.get("address"),
        "operation": (entry.get("operation") or {}).get("name"),
        "target_name": target.get("name"),
        "target_id": target.get("id"),
        "tool": target.get("tool"),
        "result": (entry.get("outcome") or {}).get("result"),
        "request_id": entry.get("requestId"),
    }


class DatabaseLog:
    """An audit log in the database at ``url``, such as ``sqlite:////var/lib/audit.db`` or
    ``postgresql://user@host/database``.

    ``password`` gives the password of a connection. Raises :class:`InvalidInputError`, and
    :class:`~mcp_discovery.errors.MissingExtraError`.
    """

    def __init__(self, url: str, password: Callable[[], str | None] = lambda: None) -> None:
        self._url = database_url(url)
        self._password = password
        self._is_open = False
        #: Whether it is more than read: reading leaves a file of SQLite as it is.
        self._writes = False
        self.engine = self._engine()

    @property
    def name(self) -> str:
        """See :attr:`AuditLog.name`."""
        return self._url.set(drivername=self._url.get_backend_name()).render_as_string()

    @property
    def path(self) -> str | None:
        """The file, where it is one."""
        return self._url.database if self._url.get_backend_name() == "sqlite" else None

    async def open(self) -> None:
        """See :meth:`AuditLog.open`."""
        self._writes = True
        if self.path is not None:
            _create_private(self.path)
        async with self._connection() as connection:
            await migrate(connection, self.name)
        self._is_open = True

    async def close(self) -> None:
        """See :meth:`AuditLog.close`."""
        await self.engine.dispose()

    async def write(self, entries: Sequence[LogEntry], *, again: bool) -> None:
        """See :meth:`AuditLog.write`."""
        async with self.writing() as connection:
            if again:
                entries = await _missing(connection, entries)
            await _append(connection, entries)

    async def prune(self, before: float) -> int:
        """Removes what is older than the POSIX time ``before``; returns how many entries.

        Only a beginning of the log is removed, and an entry says how far. So the chain can be
        verified from there on.
        """
        removed = 0
        while True:
            async with self._connection() as connection:
                await _locked_head(connection)
                found = select(LOG.c.sequence).where(LOG.c.at >= round(before * 1e6))
                kept = (await connection.execute(found.order_by(LOG.c.sequence).limit(1))).scalar()
                old = select(LOG.c.sequence, LOG.c.entry).order_by(LOG.c.sequence).limit(_AT_ONCE)
                if kept is not None:
                    old = old.where(LOG.c.sequence < kept)
                rows = (await connection.execute(old)).all()
                # The last entry stays: the chain goes on from it.
                if kept is None:
                    rows = rows[:-1]
                if not rows:
                    return removed
                last = orjson.loads(rows[-1].entry)
                details = {"prunedThrough": str(ChainHead.of(last)), "last": last["time"]}
                await _append(connection, [system_entry("pruned", details)])
                await connection.execute(delete(LOG).where(LOG.c.sequence <= last["sequence"]))
                removed += len(rows)

    async def require_tables(self) -> None:
        """Raises :class:`InvalidInputError` for a database that has no audit log in it."""

        def lacks(connection: Connection) -> bool:
            found = inspect(connection)
            return any(
                not found.has_table(table.name)
                or not {*table.c.keys()} <= {each["name"] for each in found.get_columns(table.name)}
                for table in (LOG, HEAD)
            )

        async with self.reading() as connection:
            if await connection.run_sync(lacks):
                problem = f"{self.name} is no audit log: the tables of one are not there"
                raise InvalidInputError(f"{problem}; name the store of a facade's --audit-store")

    async def head(self) -> ChainHead | None:
        """The end of the chain; ``None`` where somebody has removed the row that says so."""
        async with self.reading() as connection:
            found = select(HEAD.c.chain, HEAD.c.sequence, HEAD.c.hash).where(HEAD.c.id == 1)
            row = (await connection.execute(found)).one_or_none()
            return None if row is None else ChainHead(*row)

    async def rows(self) -> AsyncIterator[Mapping[str, Any]]:
        """All rows of the log, in their order."""
        after = -1
        while True:
            async with self.reading() as connection:
                found = select(LOG).where(LOG.c.sequence > after).order_by(LOG.c.sequence)
                rows = (await connection.execute(found.limit(_AT_ONCE))).mappings().all()
            for each in rows:
                yield dict(each)
            if not rows:
                return
            after = rows[-1]["sequence"]

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that keeps nobody from writing; raises :class:`AuditLogError`."""
        async with self._connection(self.engine.execution_options(reading=True)) as connection:
            yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """A transaction of the store, which is opened first; raises :class:`AuditLogError`."""
        if not self._is_open:
            try:
                await self.open()
            except InvalidInputError as error:
                raise AuditLogError(str(error)) from error
        async with self._connection() as connection:
            yield connection

    @asynccontextmanager
    async def _connection(
        self, engine: AsyncEngine | None = None
    ) -> AsyncIterator[AsyncConnection]:
        """A transaction; raises :class:`AuditLogError`."""
        try:
            async with (
                asyncio.timeout(2 * _TIMEOUT),
                (engine or self.engine).begin() as connection,
            ):
                yield connection
        except (SQLAlchemyError, OSError) as error:
            raise AuditLogError(_sentence(error)) from error

    def _engine(self) -> AsyncEngine:
        if self._url.get_backend_name() == "sqlite":
            require_extra("audit", "an audit store in SQLite")
            engine = create_async_engine(
                self._url, connect_args={"timeout": _TIMEOUT}, pool_reset_on_return=None
            )
            event.listen(engine.sync_engine, "connect", self._prepare_sqlite)
            event.listen(engine.sync_engine, "begin", _begin_immediate)
            return engine
        require_extra("postgres", "an audit store in PostgreSQL")
        engine = create_async_engine(
            self._url,
            pool_size=4,
            max_overflow=4,
            pool_timeout=_TIMEOUT,
            pool_reset_on_return=None,  # each use is a transaction that ends
            connect_args={
                "timeout": _TIMEOUT,
                "command_timeout": _TIMEOUT,
                "server_settings": {
                    "application_name": "mcp-discovery",
                    "synchronous_commit": "on",  # durable on return
                    "lock_timeout": f"{_TIMEOUT:g}s",
                },
            },
        )

        def give_password(_: Dialect, __: Any, ___: Any, given: dict[str, Any]) -> None:
            if (password := self._password()) is not None:
                given["password"] = password

        event.listen(engine.sync_engine, "do_connect", give_password)
        return engine

    def _prepare_sqlite(self, connection: Any, _: Any) -> None:
        connection.isolation_level = None  # SQLAlchemy begins transactions, see _begin_immediate
        if self._writes:
            cursor = connection.cursor()
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute("PRAGMA synchronous=FULL")  # durable on return, in WAL mode too
            cursor.close()


def database_url(text: str) -> URL:
    """The URL of an audit store, with the driver that is used; raises
    :class:`InvalidInputError`."""
    try:
        url = make_url(text)
    except ArgumentError:
        url = URL.create("")
    drivers = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
    driver = drivers.get({"postgres": "postgresql"}.get(url.drivername, url.drivername))
    if driver is None:
        problem = (
            "is no audit store; write sqlite:////absolute/path.db or postgresql://user@host/db"
        )
        raise InvalidInputError(f"{text.partition(':')[0][:40]!r} {problem}")
    if url.password is not None:
        problem = "an audit store's URL has no password: give it as MCP_DISCOVERY_AUDIT_PASSWORD"
        raise InvalidInputError(f"{problem}, or in a file with --audit-password-file")
    if driver.startswith("sqlite") and url.database in (None, "", ":memory:"):
        raise InvalidInputError("an audit in memory is none; write sqlite:////absolute/path.db")
    return url.set(drivername=driver)


# -- statements -------------------------------------------------------------------------------


async def _locked_head(connection: AsyncConnection) -> ChainHead:
    """The head, which is this transaction's to change."""
    found = select(HEAD.c.chain, HEAD.c.sequence, HEAD.c.hash).where(HEAD.c.id == 1)
    return ChainHead(*(await connection.execute(found.with_for_update())).one())


async def _append(connection: AsyncConnection, entries: Sequence[LogEntry]) -> None:
    if not entries:
        return
    head = await _locked_head(connection)
    rows = []
    for each in entries:
        head, line = link(head, each)
        rows.append({**columns_of(orjson.loads(line)), "entry": line.decode()})
    await connection.execute(insert(LOG), rows)
    values = {"sequence": head.sequence, "hash": head.hash}
    await connection.execute(update(HEAD).where(HEAD.c.id == 1).values(values))


async def _missing(connection: AsyncConnection, entries: Sequence[LogEntry]) -> list[LogEntry]:
    """Those of ``entries`` that are not there: of an attempt that broke off, that is not known."""
    await _locked_head(connection)
    ids = {each.event_id for each in entries}
    found = select(LOG.c.event_id, LOG.c.phase).where(LOG.c.event_id.in_(ids))
    there = {tuple(row) for row in await connection.execute(found)}
    return [each for each in entries if (each.event_id, each.phase) not in there]


def _begin_immediate(connection: Any) -> None:
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def _create_private(path: str) -> None:
    """Makes the file, and its folder, so that only this user can read them."""
    try:
        Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        problem = f"cannot keep the audit in {path}: {error.strerror}"
        raise InvalidInputError(
            f"{problem}; name another place with --audit-store sqlite:////path/audit.db, or "
            "--audit - for standard output, or none with --audit-store none"
        ) from error


def _sentence(error: Exception) -> str:
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    said = re.sub(r"^<class '[^']*'>: ", "", str(cause).strip())
    return (said.splitlines() or [type(cause).__name__])[0][:200]

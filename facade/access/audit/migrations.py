"""The tables of an audit store, step by step, and how a store that is older becomes the newest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from mcp_discovery.errors import InvalidInputError
from mcp_discovery.facade.access.audit.chain import ChainHead

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

#: The lock that several facades take in PostgreSQL while they migrate: any number of our own.
_LOCK: Final = 6_027_411_984_033

#: Each step is a tuple of statements that SQLite and PostgreSQL understand. A step that was ever
#: released does not change; further ones are appended.
STEPS: Final[tuple[tuple[str, ...], ...]] = (
    (
        """CREATE TABLE audit_log (
            sequence BIGINT PRIMARY KEY,
            event_id VARCHAR(40) NOT NULL,
            phase VARCHAR(8) NOT NULL,
            at BIGINT NOT NULL,
            type VARCHAR(16),
            user_id TEXT,
            address TEXT,
            operation TEXT,
            target_name TEXT,
            target_id TEXT,
            tool TEXT,
            result VARCHAR(16),
            request_id TEXT,
            entry TEXT NOT NULL,
            UNIQUE (event_id, phase))""",
        """CREATE TABLE audit_head (
            id INTEGER PRIMARY KEY,
            chain VARCHAR(40) NOT NULL,
            sequence BIGINT NOT NULL,
            hash VARCHAR(64) NOT NULL)""",
    ),
    (
        "CREATE INDEX audit_log_user ON audit_log (user_id, sequence)",
        "CREATE INDEX audit_log_target ON audit_log (target_name, sequence)",
        "CREATE INDEX audit_log_at ON audit_log (at)",
    ),
)


async def migrate(connection: AsyncConnection, name: str) -> int:
    """Brings the store to the newest version, which is returned; ``connection`` is in a
    transaction.

    Raises :class:`InvalidInputError` for one that is newer than this program.
    """
    from sqlalchemy import text

    version = await bring_up(connection, name, "audit_schema", STEPS)
    head = await connection.execute(text("SELECT COUNT(*) FROM audit_head"))
    if not head.scalar():
        new = ChainHead.new()
        await connection.execute(
            text("INSERT INTO audit_head VALUES (1, :chain, :sequence, :hash)"), new._asdict()
        )
    return version


async def bring_up(
    connection: AsyncConnection, name: str, schema: str, steps: Sequence[Sequence[str]]
) -> int:
    """Executes those of ``steps`` that the table ``schema`` says were not yet, and returns the
    version; raises as :func:`migrate` does."""
    from sqlalchemy import inspect, text

    if connection.dialect.name == "postgresql":
        await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    # A role that may only append has no right to make tables, not even those that are there.
    if not await connection.run_sync(lambda made: inspect(made).has_table(schema)):
        await connection.execute(text(f"CREATE TABLE {schema} (version INTEGER NOT NULL)"))
    found = (await connection.execute(text(f"SELECT MAX(version) FROM {schema}"))).scalar() or 0
    if found > len(steps):
        problem = f"the audit store {name} is of version {found}, newer than this program's"
        raise InvalidInputError(f"{problem} {len(steps)}; use a newer mcp-discovery")
    for version, step in enumerate(steps[found:], found + 1):
        for statement in step:
            await connection.execute(text(statement))
        await connection.execute(
            text(f"INSERT INTO {schema} (version) VALUES (:version)"), {"version": version}
        )
    return len(steps)

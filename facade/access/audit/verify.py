"""Verifies logs: whether an entry was changed, removed, put in or moved since it was written.

What a chain cannot show is in docs/audit.md.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from mcp_discovery.errors import InvalidInputError
from mcp_discovery.facade.access.audit.chain import ChainCheck, ChainFault, ChainHead

if TYPE_CHECKING:
    from mcp_discovery.facade.access.audit.database import DatabaseLog


def verify_files(paths: Iterable[str], check: ChainCheck) -> Iterator[ChainFault]:
    """Follows the entries in files of lines, from the oldest file to the newest.

    Raises :class:`InvalidInputError` for a file that cannot be read.
    """
    for path in paths:
        try:
            with Path(path).open("rb") as lines:
                for number, line in enumerate(lines, 1):
                    if line.strip():
                        yield from check.take(line, f"{path}:{number}")
        except OSError as error:
            raise InvalidInputError(f"cannot read {path}: {error.strerror}") from error
    yield from check.finish()


async def verify_store(log: DatabaseLog, check: ChainCheck) -> AsyncIterator[ChainFault]:
    """Follows the entries in a store, and compares them with what it is searched by.

    Raises :class:`~mcp_discovery.facade.access.audit.journal.AuditLogError`.
    """
    from mcp_discovery.facade.access.audit.database import columns_of

    end = await log.head()
    async for row in log.rows():
        where = f"entry {row['sequence']}"
        text = row["entry"]
        for fault in check.take(text, where):
            yield fault
        try:
            wanted = columns_of(orjson.loads(text))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        for name, value in wanted.items():
            if row[name] != value:
                yield ChainFault(where, f"its column {name} was changed: the entry says otherwise")
    for fault in check.finish():
        yield fault
    last = check.heads.get(end.chain)
    if end.sequence and (last is None or last.sequence < end.sequence):
        found = 0 if last is None else last.sequence
        yield ChainFault("the end", f"entries {found + 1} to {end.sequence} are missing")


def head_of_file(path: str) -> ChainHead:
    """The last entry of a file of lines; raises :class:`InvalidInputError`."""
    check = ChainCheck()
    for _ in verify_files([path], check):
        pass
    if not check.heads:
        raise InvalidInputError(f"{path} has no entry of an audit log")
    return list(check.heads.values())[-1]

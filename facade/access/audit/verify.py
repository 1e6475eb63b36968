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
from mcp_discovery.facade.http.pauses import Pauses

if TYPE_CHECKING:
    from mcp_discovery.facade.access.audit.database import DatabaseLog

#: What other files begin with that may be named here by mistake, and the bytes that tell.
_SQLITE, _GZIP = b"SQLite format 3\0", b"\x1f\x8b"
_BEGINNING = len(_SQLITE)
#: The fault of a store without the row of its head, or with that of another log.
NO_HEAD = "the row that says where the log ends was removed or exchanged"


def verify_files(paths: Iterable[str], check: ChainCheck) -> Iterator[ChainFault]:
    """Follows the entries in files of lines, from the oldest file to the newest.

    Raises :class:`InvalidInputError` for a file that cannot be read, and for one that has lines and
    no entry among them. A file that is empty has no fault: a rotated log begins with one.
    """
    for path in paths:
        before, beginning = check.entries, b""
        try:
            with Path(path).open("rb") as lines:
                for number, line in enumerate(lines, 1):
                    if line.strip():
                        beginning = beginning or line[:_BEGINNING]
                        yield from check.take(line, f"{path}:{number}")
        except OSError as error:
            raise InvalidInputError(f"cannot read {path}: {error.strerror}") from error
        if beginning and check.entries == before:
            raise InvalidInputError(f"{path} is no audit log; {_remedy(path, beginning)}")
    yield from check.finish()


def require_sqlite(path: str) -> None:
    """Raises :class:`InvalidInputError` unless the file at ``path`` can be read, and is one of
    SQLite or empty."""
    try:
        with Path(path).open("rb") as file:
            beginning = file.read(_BEGINNING)
    except OSError as error:
        raise InvalidInputError(f"cannot read {path}: {error.strerror}") from error
    if beginning and beginning != _SQLITE:
        problem = f"{path} is no database of SQLite; for lines of --audit name it as FILE"
        raise InvalidInputError(f"{problem}, without --store")


def _remedy(path: str, beginning: bytes) -> str:
    if beginning == _SQLITE:
        return f"it is a database: write --store sqlite:///{Path(path).absolute()}"
    if beginning.startswith(_GZIP):
        return "it is compressed: unpack it first"
    return "name a file that a facade writes with --audit"


async def verify_store(log: DatabaseLog, check: ChainCheck) -> AsyncIterator[ChainFault]:
    """Follows the entries in a store, and compares them with what it is searched by.

    Raises :class:`InvalidInputError` for a database that holds no audit log, and
    :class:`~mcp_discovery.facade.access.audit.journal.AuditLogError`.
    """
    from mcp_discovery.facade.access.audit.database import columns_of

    await log.require_tables()
    end = await log.head()
    pauses = Pauses()
    async for row in log.rows():
        await pauses.pause()
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
    if end is None or (check.heads and end.chain not in check.heads):
        yield ChainFault("the end", NO_HEAD)
        return
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
        raise InvalidInputError(f"{path} is empty, there is no entry of an audit log in it")
    return list(check.heads.values())[-1]

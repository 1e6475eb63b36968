"""The embedded store's file: SQLite, so that registrations survive a restart of the process."""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from mcp_discovery.errors import StoreUnavailableError
from mcp_discovery.record import MAX_RECORD_BYTES

log = logging.getLogger(__name__)

#: The layout of the file. A file of a newer layout is refused rather than damaged.
LAYOUT = 1

#: Bytes of a value that are read at most: more than a valid value can have.
_LONGEST = 2 * MAX_RECORD_BYTES + 1

_SCHEMA = """
CREATE TABLE IF NOT EXISTS instances (
    id TEXT PRIMARY KEY, registration BLOB NOT NULL, health BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS documents (digest TEXT PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS queries (name TEXT PRIMARY KEY, definition BLOB NOT NULL);
"""


class StoreFile:
    """Instances, documents and named queries in one SQLite file, held by one process at a time.

    Every method raises :class:`StoreUnavailableError` when the file cannot be read or written; a
    write that fails leaves the file as it was.
    """

    def __init__(self, url: str, path: Path) -> None:
        self._url = url
        try:
            self._open(path)
        except sqlite3.OperationalError as error:
            problem = f"cannot open {path} ({error}); its folder must exist and be writable"
            if "locked" in str(error):
                problem = f"{path} is in use by another process; stop that one or use another file"
            raise StoreUnavailableError(url, problem) from error
        except sqlite3.DatabaseError as error:
            raise StoreUnavailableError(
                url, f"{path} is not a store file or is damaged ({error}); move it away"
            ) from error

    def _open(self, path: Path) -> None:
        _keep_private(path)
        self._db = sqlite3.connect(path, timeout=1.0, isolation_level=None)
        try:
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            (layout,) = self._db.execute("PRAGMA user_version").fetchone()
            if layout > LAYOUT:
                raise StoreUnavailableError(
                    self._url, f"{path} has layout {layout}, newer than this version's {LAYOUT}"
                )
            self._db.executescript(f"BEGIN EXCLUSIVE; {_SCHEMA} PRAGMA user_version={LAYOUT}; END")
        except BaseException:
            self._db.close()
            raise

    def instances(self) -> Iterator[tuple[str, bytes, bytes]]:
        """All rows: id, registration and health, each as JSON.

        Whatever types another hand has put there; of what is too large the beginning.
        """
        query = (
            "SELECT CAST(id AS BLOB), substr(CAST(registration AS BLOB), 1, ?), "
            "substr(CAST(health AS BLOB), 1, ?) FROM instances"
        )
        for id, registration, health in self._rows(query, _LONGEST, _LONGEST):
            # SQLite's substr() of an empty blob is NULL.
            key = (id or b"").decode("utf-8", "backslashreplace")
            yield key, registration or b"", health or b""

    def put(self, id: str, registration: bytes, health: bytes) -> None:
        """Writes an instance, in place of the old one."""
        self._execute("INSERT OR REPLACE INTO instances VALUES (?, ?, ?)", id, registration, health)

    def put_health(self, id: str, health: bytes) -> None:
        """Writes an instance's health."""
        self._execute("UPDATE instances SET health = ? WHERE id = ?", health, id)

    def delete(self, id: str) -> None:
        """Removes an instance."""
        self._execute("DELETE FROM instances WHERE id = ?", id)

    def put_document(self, digest: str, data: bytes) -> None:
        """Writes a compressed document unless it is there."""
        self._execute("INSERT OR IGNORE INTO documents VALUES (?, ?)", digest, data)

    def document(self, digest: str) -> bytes | None:
        """A compressed document."""
        query = "SELECT CAST(data AS BLOB) FROM documents WHERE digest = ?"
        return next((data for (data,) in self._rows(query, digest)), None)

    def digests(self) -> set[str]:
        """The digests of all documents."""
        return {digest for (digest,) in self._rows("SELECT digest FROM documents")}

    def delete_document(self, digest: str) -> None:
        """Removes a document."""
        self._execute("DELETE FROM documents WHERE digest = ?", digest)

    def queries(self) -> dict[str, bytes]:
        """The definitions of all named queries."""
        query = "SELECT CAST(name AS TEXT), CAST(definition AS BLOB) FROM queries"
        return dict(self._rows(query))

    def put_query(self, name: str, definition: bytes | None) -> None:
        """Writes a named query in place of the old one, or removes that."""
        self._execute("DELETE FROM queries WHERE name = ?", name)
        if definition is not None:
            self._execute("INSERT INTO queries VALUES (?, ?)", name, definition)

    def close(self) -> None:
        """Closes the file and gives up its lock."""
        self._db.close()

    def _execute(self, query: str, *values: object) -> None:
        list(self._rows(query, *values))

    def _rows(self, query: str, *values: object) -> Iterator[Any]:
        try:
            yield from self._db.execute(query, values)
        except sqlite3.Error as error:
            problem = f"its file cannot be used now: {error}"
            raise StoreUnavailableError(self._url, problem) from error


def _keep_private(path: Path) -> None:
    """Makes the file one that its owner alone reads and writes; SQLite gives those beside it the
    same mode. What cannot be made or changed is left to SQLite, which says why.

    A file that is there is not opened: closing it would end the locks that this process has on it.
    """
    with suppress(OSError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        return
    try:
        mode = path.stat().st_mode
        if mode & 0o077 and stat.S_ISREG(mode):
            path.chmod(0o600)
            log.warning("%s could be read by others than its owner; its mode is 0600 now", path)
    except OSError as error:
        log.warning("%s may be read by others than its owner: chmod 600 it (%s)", path, error)

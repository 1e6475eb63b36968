"""The embedded store's file: SQLite, so that registrations survive a restart of the process."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mcp_discovery.errors import StoreUnavailableError
from mcp_discovery.record import MAX_RECORD_BYTES

#: The layout of the file. A file of a newer layout is refused rather than damaged.
LAYOUT = 1

#: Bytes of a value that are read at most: more than a valid value can have.
_LONGEST = 2 * MAX_RECORD_BYTES + 1

_SCHEMA = """
CREATE TABLE IF NOT EXISTS instances (
    id TEXT PRIMARY KEY, registration BLOB NOT NULL, health BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS documents (digest TEXT PRIMARY KEY, data BLOB NOT NULL);
"""


class StoreFile:
    """Instances and documents in one SQLite file, held by one process at a time.

    Every method raises :class:`StoreUnavailableError` when the file cannot be read or written; a
    write that fails leaves the file as it was.
    """

    def __init__(self, url: str, path: Path) -> None:
        self._url = url
        try:
            self._open(path)
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                problem = f"{path} is in use by another process; stop that one or use another file"
            else:
                problem = f"cannot open {path} ({error}); its folder must exist and be writable"
            raise StoreUnavailableError(url, problem) from error
        except sqlite3.DatabaseError as error:
            raise StoreUnavailableError(
                url, f"{path} is not a store file or is damaged ({error}); move it away"
            ) from error

    def _open(self, path: Path) -> None:
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
        with self._guarded():
            query = (
                "SELECT CAST(id AS BLOB), substr(CAST(registration AS BLOB), 1, ?), "
                "substr(CAST(health AS BLOB), 1, ?) FROM instances"
            )
            for id, registration, health in self._db.execute(query, (_LONGEST, _LONGEST)):
                # SQLite's substr() of an empty blob is NULL.
                key = (id or b"").decode("utf-8", "backslashreplace")
                yield key, registration or b"", health or b""

    def put(self, id: str, registration: bytes, health: bytes) -> None:
        """Writes an instance, in place of the old one."""
        with self._guarded():
            self._db.execute(
                "INSERT OR REPLACE INTO instances VALUES (?, ?, ?)", (id, registration, health)
            )

    def put_health(self, id: str, health: bytes) -> None:
        """Writes an instance's health."""
        with self._guarded():
            self._db.execute("UPDATE instances SET health = ? WHERE id = ?", (health, id))

    def delete(self, id: str) -> None:
        """Removes an instance."""
        with self._guarded():
            self._db.execute("DELETE FROM instances WHERE id = ?", (id,))

    def put_document(self, digest: str, data: bytes) -> None:
        """Writes a compressed document unless it is there."""
        with self._guarded():
            self._db.execute("INSERT OR IGNORE INTO documents VALUES (?, ?)", (digest, data))

    def document(self, digest: str) -> bytes | None:
        """A compressed document."""
        with self._guarded():
            query = "SELECT CAST(data AS BLOB) FROM documents WHERE digest = ?"
            row = self._db.execute(query, (digest,)).fetchone()
            return row[0] if row else None

    def digests(self) -> set[str]:
        """The digests of all documents."""
        with self._guarded():
            return {row[0] for row in self._db.execute("SELECT digest FROM documents")}

    def delete_document(self, digest: str) -> None:
        """Removes a document."""
        with self._guarded():
            self._db.execute("DELETE FROM documents WHERE digest = ?", (digest,))

    def close(self) -> None:
        """Closes the file and gives up its lock."""
        self._db.close()

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreUnavailableError(
                self._url, f"its file cannot be used now: {error}"
            ) from error

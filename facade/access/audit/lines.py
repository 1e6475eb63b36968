"""JSON lines: a file that grows, or standard output.

Several processes may write to one file: each holds a lock while it writes, and goes on with the
chain where the last one ended. When the file was renamed (logrotate), the next entry goes to a new
file of the old name, and continues the chain of the old one.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import orjson

from mcp_discovery.errors import InvalidInputError
from mcp_discovery.facade.access.audit.chain import ChainHead, link
from mcp_discovery.facade.access.audit.event import LogEntry
from mcp_discovery.facade.access.audit.journal import AuditLogError

log = logging.getLogger(__name__)

#: The longest line that is looked for at the end of a file, in bytes.
_TAIL = 2**20


class LinesLog:
    """An audit log in the file at ``path``; ``-`` is standard output."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: int | None = None
        self._head = ChainHead.new()
        #: How large the file was when the head was its last entry; ``None`` where it is no file.
        self._size: int | None = 0
        #: Writing may block, and is done by one thread.
        self._thread = ThreadPoolExecutor(1, "audit-lines")

    @property
    def name(self) -> str:
        """See :attr:`AuditLog.name`."""
        return "standard output" if self._path == "-" else self._path

    async def open(self) -> None:
        """See :meth:`AuditLog.open`."""
        await self._run(self._write, ())

    async def write(self, entries: Sequence[LogEntry], *, again: bool) -> None:
        """See :meth:`AuditLog.write`."""
        await self._run(self._write, entries)

    async def close(self) -> None:
        """See :meth:`AuditLog.close`."""
        await self._run(self._close)
        self._thread.shutdown()

    async def _run(self, *call: object) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, *call)  # type: ignore[arg-type]

    # -- in the thread -----------------------------------------------------------------------

    def _write(self, entries: Sequence[LogEntry]) -> None:
        try:
            file = self._locked()
            try:
                self._append(file, entries)
            finally:
                if self._size is not None:
                    fcntl.flock(file, fcntl.LOCK_UN)
        except OSError as error:
            raise AuditLogError(f"{self.name}: {error.strerror or error}") from error

    def _append(self, file: int, entries: Sequence[LogEntry]) -> None:
        head, lines = self._head, []
        for each in entries:
            head, line = link(head, each)
            lines.append(line + b"\n")
        data = b"".join(lines)
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(file, left) :]
            if self._size is not None:
                os.fsync(file)
        except OSError:
            if self._size is not None:
                os.ftruncate(file, self._size)  # no part of a line stays
            raise
        self._head = head
        if self._size is not None:
            self._size += len(data)

    def _locked(self) -> int:
        """The file, which is the one of that name, locked, with the head of what is in it."""
        while True:
            if self._file is None:
                self._file = self._opened()
            if self._size is None:
                return self._file
            fcntl.flock(self._file, fcntl.LOCK_EX)
            self._catch_up(self._file)
            if self._is_current(self._file):
                return self._file
            self._close()
            self._size = 0

    def _opened(self) -> int:
        if self._path == "-":
            self._size = None
            return os.dup(1)
        try:
            file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
            problem = f"cannot write the audit to {self._path}: {error.strerror}"
            if self._head.sequence:
                raise
            raise InvalidInputError(
                f"{problem}; name a file in a folder that can be written"
            ) from error
        regular = stat.S_ISREG(os.fstat(file).st_mode)
        self._size = -1 if regular else None
        return file

    def _catch_up(self, file: int) -> None:
        """Takes the head from what others have written since."""
        size = os.fstat(file).st_size
        if size == self._size:
            return
        start = max(0, size - _TAIL)
        tail = os.pread(file, size - start, start)
        if tail and not tail.endswith(b"\n"):
            torn = len(tail) - (tail.rfind(b"\n") + 1)
            size -= torn
            log.warning(
                "%s ends in the midst of an entry, which nobody was told of: cut off", self.name
            )
            os.ftruncate(file, size)
            tail = tail[: len(tail) - torn]
        if tail:
            try:
                self._head = ChainHead.of(orjson.loads(tail[:-1].rpartition(b"\n")[2]))
            except (ValueError, AttributeError) as error:
                problem = f"{self._path} does not end with an entry of an audit log; move it away"
                if self._size == -1 and not self._head.sequence:
                    raise InvalidInputError(problem) from error
                raise OSError(None, problem) from error
        self._size = size

    def _is_current(self, file: int) -> bool:
        try:
            now = os.stat(self._path)
        except FileNotFoundError:
            return False
        own = os.fstat(file)
        return (now.st_dev, now.st_ino) == (own.st_dev, own.st_ino)

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

"""Follows files of credentials, so that a rotated one is used without a restart.

Files are compared by ``stat`` before a request: a symbolic link that points elsewhere (Kubernetes
swaps ``..data``), a file renamed into place and one written in place all show there. What cannot be
used (half written, vanished, a certificate without its key) leaves the last good one in use.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import os
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

from mcp_discovery.errors import InvalidInputError

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds between two looks at a file.
CHECK_EVERY = 2.0
#: Seconds for which a changed file has to stay the same until it is read: it may be half written.
SETTLED = 0.5

_Stamps: TypeAlias = tuple[tuple[int, ...] | None, ...]
_rereadable: weakref.WeakSet[Rereadable] = weakref.WeakSet()


class Rereadable:
    """Credentials that :func:`read_again` reads, once :meth:`is_reread` was called."""

    def is_reread(self) -> None:
        """Has :func:`read_again` call :meth:`reread`."""
        _rereadable.add(self)

    def reread(self) -> None:
        """Takes what is there now."""
        raise NotImplementedError

    def look(self) -> None:
        """Takes what has changed, where it is time to look."""


class FollowedFiles(Rereadable, Generic[T]):
    """What ``make`` makes of the contents of ``paths``, made anew when they change.

    ``what`` names it in messages. ``make`` raises :class:`ValueError` for contents that cannot be
    used. The constructor reads at once and raises
    :class:`~mcp_discovery.errors.InvalidInputError`, a sentence that names the file; later faults
    are logged once, and the last good value stays. Of several files that belong together a fault
    is logged when the next look finds one, too: they come one after the other. ``check_every``:
    seconds between two looks.
    ``watched``: somebody else looks at them, with :meth:`has_changed` and :meth:`take`, which may
    run in another thread: reading a large file takes long.
    """

    def __init__(
        self,
        what: str,
        paths: Sequence[str],
        make: Callable[[Sequence[bytes]], T],
        *,
        check_every: float | None = None,
        watched: bool = False,
    ) -> None:
        self._what = what
        self._watched = watched
        self._check_every = CHECK_EVERY if check_every is None else check_every
        self._paths = tuple(paths)
        self._make = make
        self._stamps = self._seen = self._looked_at()
        contents = self._read()
        self._value = self._made(contents)
        self._digests = _digests(contents)
        self._problem: str | None = None
        #: The problem that the log has, until it tells that it is over.
        self._told: str | None = None
        self._due = math.inf
        if all(map(os.path.isfile, self._paths)):  # a pipe can be read only once
            self._due = time.monotonic() + self._check_every
            self.is_reread()

    def current(self) -> T:
        """The value; looks at the files first where that is due, unless they are watched."""
        if not self._watched and self.has_changed():
            self.take()
        return self._value

    def has_changed(self) -> bool:
        """Whether there is something to :meth:`take`: looks at the files where that is due."""
        now = time.monotonic()
        if now < self._due:
            return False
        self._due = now + self._check_every
        stamps = self._looked_at()
        if stamps == self._stamps:
            self._problem = None
            self._tell_mended()
            return False
        whole = stamps == self._seen or _settled(stamps)
        self._seen = stamps
        if not whole:
            self._due = now + SETTLED
        elif self._problem is not None:  # what is unfit is not read again and again
            self._due = now + max(CHECK_EVERY, self._check_every)
        return whole

    def renewed(self) -> T:
        """The value after reading the files now: the one in use was refused, or an operator says
        so."""
        if self._due == math.inf:
            return self._value
        self._seen = self._looked_at()
        self._take(at_once=True)
        return self._value

    def reread(self) -> None:
        """Reads the files now."""
        self.renewed()

    def look(self) -> None:
        """Looks at the files where that is due, unless they are watched."""
        self.current()

    @property
    def unused(self) -> str | None:
        """Why what is in the files now is not what is in use; ``None`` where it is."""
        if self._looked_at() != self._stamps:
            return self._problem or "it was written a moment ago"
        return self._replaced_elsewhere()

    def take(self) -> None:
        """Reads the files, which have :attr:`_seen`; keeps the last value where they are unfit."""
        self._take(at_once=len(self._paths) == 1)

    def _take(self, *, at_once: bool) -> None:
        try:
            contents = self._read()
            digests = _digests(contents)
            value = self._value if digests == self._digests else self._made(contents)
        except InvalidInputError as error:
            at_once = at_once or self._problem is not None
            self._problem = str(error)
            if at_once and self._told != self._problem:
                self._told = self._problem
                log.warning("what was read before stays in use: %s", error)
            return
        if self._looked_at() != self._seen:
            return  # written meanwhile: read again when it has settled
        self._stamps, self._problem = self._seen, None
        if digests != self._digests:
            pairs = zip(self._paths, self._digests, digests, strict=True)
            changed = [path for path, before, now in pairs if before != now]
            self._digests, self._value = digests, value
            if self._told is None:
                log.info("%s", _said(changed, "has changed; it counts from now on"))
            else:
                self._told = None
                log.info("%s", _said(changed, "can be used again; it counts from now on"))
            return
        self._tell_mended()
        if (problem := self._replaced_elsewhere()) is not None:
            log.warning("%s", problem)

    def _tell_mended(self) -> None:
        """Says that a problem which was told is over, and that all is as it was before."""
        if self._told is not None:
            self._told = None
            log.info("%s", _said(self._paths, "can be used again, and is as it was before"))

    def _replaced_elsewhere(self) -> str | None:
        """A file that is mounted by itself stays the old one when another takes its place outside:
        then no folder has it any more."""
        for path, stamp in zip(self._paths, self._stamps, strict=True):
            if stamp is not None and stamp[-1] == 0:
                return (
                    f"{path} was replaced outside of this container, which sees the old one: mount "
                    "its folder instead of the file; a restart helps until the next time"
                )
        return None

    def _looked_at(self) -> _Stamps:
        return tuple(map(_stamp, self._paths))

    def _read(self) -> list[bytes]:
        contents = []
        for path in self._paths:
            try:
                contents.append(Path(path).read_bytes())
            except OSError as error:
                raise InvalidInputError(
                    f"cannot read {path} for the {self._what}: {error.strerror}"
                ) from error
        return contents

    def _made(self, contents: Sequence[bytes]) -> T:
        try:
            return self._make(contents)
        except ValueError as error:
            if str(error).startswith(tuple(f"{path}:" for path in self._paths)):
                raise InvalidInputError(str(error)) from error
            files = ", ".join(self._paths)
            raise InvalidInputError(f"cannot use {files} for the {self._what}: {error}") from error


def _digests(contents: Iterable[bytes]) -> list[bytes]:
    """Tell contents apart without keeping them."""
    return [hashlib.sha256(each).digest() for each in contents]


def _said(paths: Sequence[str], what: str) -> str:
    """``what``, which is of one file, in a sentence about ``paths``."""
    if len(paths) == 1:
        return f"{paths[0]} {what}"
    several = what.replace("it counts", "they count").replace("is as it was", "are as they were")
    several = several.replace("has changed", "have changed")
    return f"{', '.join(paths[:-1])} and {paths[-1]} {several}"


def _stamp(path: str) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    times = found.st_mtime_ns, found.st_ctime_ns
    return found.st_dev, found.st_ino, found.st_size, *times, found.st_nlink


def _settled(stamps: _Stamps) -> bool:
    """Whether nothing was written for a while, by the clock of the file system."""
    now = time.time()
    return all(each is not None and now - max(each[3:5]) / 1e9 >= SETTLED for each in stamps)


def read_again() -> None:
    """Reads every followed file of this process now, as SIGHUP asks for, and has every token that
    is asked for be asked for again."""
    log.info("reading all credential files again")
    for each in list(_rereadable):
        each.reread()


@asynccontextmanager
async def looking() -> AsyncIterator[None]:
    """Looks at all followed files of this process every few seconds inside the block: what nobody
    uses for a while, as a listener's certificate without connections, is told in time, too."""
    task = asyncio.create_task(_look(), name="look at the files of credentials")
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _look() -> None:
    while True:
        await asyncio.sleep(CHECK_EVERY)
        for each in list(_rereadable):
            try:
                each.look()
            except Exception:  # the guard that keeps the look alive
                log.exception("looking at a file of credentials failed in a way it must not")


def unfit_for_header(text: str) -> str | None:
    """Why ``text`` can be no token in an HTTP header, without repeating it; ``None`` if it can."""
    if not text:
        return "is empty"
    if not (text.isascii() and text.isprintable()):
        return "holds characters that no HTTP header carries"
    return None


class Secret:
    """A token or password that is given itself, or in a file that is followed, or not at all.

    ``what`` names it in messages. In a file, white space around it does not count. With
    ``in_header`` it must be fit for an HTTP header. Raises
    :class:`~mcp_discovery.errors.InvalidInputError`.
    """

    def __init__(
        self, what: str, value: str | None, file: str | None = None, *, in_header: bool = True
    ) -> None:
        if value is not None and file is not None:
            raise InvalidInputError(f"the {what} is given itself and in a file; give one of them")
        self._value = value
        self._in_header = in_header
        if value is not None and (problem := self._unfit(value)) is not None:
            raise InvalidInputError(f"the {what} {problem}")
        self._file = None if file is None else FollowedFiles(what, [file], self._text)

    def current(self) -> str | None:
        """The secret as it is now."""
        return self._value if self._file is None else self._file.current()

    def renewed(self) -> str | None:
        """The secret after reading its file now, for when the one in use was refused."""
        return self._value if self._file is None else self._file.renewed()

    def _text(self, contents: Sequence[bytes]) -> str:
        try:
            text = contents[0].decode().strip()
        except UnicodeDecodeError:
            raise ValueError("it is not text") from None
        if (problem := self._unfit(text)) is not None:
            raise ValueError(f"it {problem}")
        return text

    def _unfit(self, text: str) -> str | None:
        if self._in_header:
            return unfit_for_header(text)
        return None if text else "is empty"

"""What a process says beside its messages: into our log as far as that has room, and what of it
tells why it ended."""

from __future__ import annotations

import logging
import re
import time
from collections import deque
from collections.abc import Iterable
from typing import Final

from mcp_discovery.quoted import quoted

log = logging.getLogger(__name__)

#: The longest line in the log, in characters, and how much of a line is looked at, in bytes.
_LONGEST: Final = 1000
_LOOKED_AT: Final = 4 * _LONGEST
#: How many lines are logged at once, and how many a second in the long run.
_BURST: Final = 200
_RATE: Final = 20.0
#: How many of the last lines are remembered, and how many seconds before the last one they belong
#: to the same event.
_REMEMBERED: Final = 30
_SAME_EVENT: Final = 2.0

_ESCAPES: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))")
#: npm begins each of its lines so, the useless ones, too.
_NPM: Final = re.compile(r"npm (?:error|ERR!)(?: code \S+$| errno \S+$| \d+(?=\s|$))?\s*")
_TELLING: Final = re.compile(
    r"error|exception|panic|fatal|fail|cannot|can't|could not|unable|denied|refused|not found"
    r"|no such|is not |unknown|invalid|missing|must |required|usage|unauthorized|forbidden",
    re.IGNORECASE,
)


class ChildLog:
    """The lines of one process; ``name`` stands before each in the log, and ``***`` in the place of
    each of ``secrets``."""

    def __init__(self, name: str, secrets: Iterable[str] = ()) -> None:
        self.name = name
        self._secrets = sorted(set(secrets), key=len, reverse=True)
        self._rest = b""
        self._room = float(_BURST)
        self._at = time.monotonic()
        self._left_out = 0
        self._said: deque[tuple[float, bytes]] = deque(maxlen=_REMEMBERED)
        self._printed: deque[tuple[float, bytes]] = deque(maxlen=_REMEMBERED)

    def said(self, chunk: bytes) -> None:
        """Takes in what it wrote to standard error, which may end amid a line; empty at its end."""
        *lines, self._rest = (self._rest + (chunk or b"\n")).split(b"\n")
        self._rest = self._rest[:_LOOKED_AT]
        self._take(lines, self._said, "")

    def printed(self, line: bytes) -> None:
        """Takes in a line of its output that is no message."""
        self._take([line], self._printed, "no message on its output: ")

    def end(self) -> None:
        """Says what was left out last."""
        if self._left_out:
            log.info("%s: %d more lines are left out", self.name, self._left_out)
            self._left_out = 0

    @property
    def telling(self) -> str:
        """The line on standard error that tells best why the process ends; empty where it said
        nothing there."""
        return self._telling(self._said)

    @property
    def printed_telling(self) -> str:
        """As :attr:`telling`, among what it printed and was no message."""
        return self._telling(self._printed)

    def all(self) -> str:
        """The last lines of both kinds."""
        return "\n".join(self.text(line) for _, line in (*self._printed, *self._said))

    def _take(
        self, lines: list[bytes], remembered: deque[tuple[float, bytes]], before: str
    ) -> None:
        now = time.monotonic()
        self._room = min(_BURST, self._room + (now - self._at) * _RATE)
        self._at = now
        # A blank line is no event, such as what stands for the end.
        remembered += [(now, line[:_LOOKED_AT]) for line in lines[-_REMEMBERED:] if line.strip()]
        fit = int(self._room)
        if fit and self._left_out:
            self.end()
        for line in lines[:fit]:
            if text := quoted(self.text(line), _LONGEST):
                self._room -= 1
                log.info("%s: %s%s", self.name, before, text)
        self._left_out += len(lines[fit:])

    def text(self, line: bytes | str) -> str:
        """``line`` without what must stay out of logs, and without what controls a terminal."""
        if isinstance(line, bytes):
            line = line[:_LOOKED_AT].decode("utf-8", "replace")
        for secret in self._secrets:
            line = line.replace(secret, "***")
        return _ESCAPES.sub("", line)

    def _telling(self, lines: deque[tuple[float, bytes]]) -> str:
        """The last line that looks like an error, else the last one.

        A stack, which is indented, follows its error in some languages and precedes it in others;
        Node.js ends with its version.
        """
        since = lines[-1][0] - _SAME_EVENT if lines else 0.0
        texts = [text for at, line in lines if at >= since and (text := self.text(line)).strip()]
        flush = [text for text in texts if not text[0].isspace()] or texts
        errors = [text for text in flush if _is_telling(text)]
        return quoted((errors or flush or [""])[-1]).lstrip("| ")  # a group of Python's exceptions


def _is_telling(text: str) -> bool:
    if "complete log of this run" in text:
        return False
    return _TELLING.search(_NPM.sub("", text, count=1)) is not None

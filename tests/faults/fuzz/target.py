"""One parser under fuzz: what it is fed, and how its answer is judged."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

#: Seconds of processor time that no input may cost; the inputs are at most some 500 KB.
MOST_SECONDS = 2.0
#: How many bytes of an input a finding shows.
_SHOWN = 2000


#: How many frames a parser may add: what a program has left below its event loop.
_FRAMES = 900


@contextmanager
def _shallow() -> Iterator[None]:
    """Recursion as a program has it; hypothesis grants its tests some thousand levels more."""
    depth, frame = 0, sys._getframe()
    while frame := frame.f_back:  # type: ignore[assignment]
        depth += 1
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(depth + _FRAMES)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


class Finding(AssertionError):
    """A parser raised what it does not declare, or took too long; ``data`` is what it was given."""

    def __init__(self, target: str, data: bytes, problem: str) -> None:
        shown = repr(data[:_SHOWN]) + (f" … {len(data):,} bytes" if len(data) > _SHOWN else "")
        super().__init__(f"{target}: {problem}\ninput: {shown}")
        self.target = target
        self.data = data


@dataclass(frozen=True)
class Target:
    """``parse`` takes bytes and may raise ``declared`` only; ``corpus`` makes good bytes for it."""

    name: str
    parse: Callable[[bytes], object]
    declared: tuple[type[Exception], ...]
    corpus: st.SearchStrategy[bytes]

    def judge(self, data: bytes) -> None:
        """Parses ``data``; raises :class:`Finding`."""
        began = time.thread_time()
        try:
            with _shallow():
                self.parse(data)
        except self.declared as error:
            answer: Any = error
            if not str(error) or len(str(error)) > 5000:
                problem = f"its error is not a sentence but {len(str(error))} characters"
                raise Finding(self.name, data, problem) from error
        except Exception as error:
            problem = f"raised {type(error).__name__}: {str(error)[:300]}"
            raise Finding(self.name, data, problem) from error
        else:
            answer = None
        took = time.thread_time() - began
        if took > MOST_SECONDS:
            said = f", then {answer!r:.200}" if answer is not None else ""
            raise Finding(self.name, data, f"took {took:.1f} s of processor time{said}")

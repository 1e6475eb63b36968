"""Several processes that serve one address, each a facade of its own over the same store.

They share nothing but the port: the system gives each new connection to one of them
(``SO_REUSEPORT``). So what is true of several facades over one store is true of them, too: each has
its own epoch, its own metrics and its own sessions.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import TypeAlias

log = logging.getLogger(__name__)

#: Serves until it is stopped, or until the file descriptor that it is given can be read: then the
#: process that started it is gone. Returns the exit status.
Serve: TypeAlias = Callable[[int], int]

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_HANDLED = (*_SIGNALS, signal.SIGHUP)
#: Seconds until another worker takes the place of one that was killed.
_PAUSE = 1.0


def supervise(count: int, serve: Serve) -> int:
    """Runs ``serve`` in ``count`` processes until SIGTERM or SIGINT; returns the exit status.
    SIGHUP is passed on to them.

    One that was killed or stopped is replaced. One that ends by itself cannot serve, and has said
    why: the others are stopped, and its exit status is that of all.
    """
    context = multiprocessing.get_context("fork")
    reading_end, writing_end = context.Pipe(duplex=False)
    workers: list[BaseProcess] = []
    stopping = False

    def work() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until it serves: it reads the files then
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
        writing_end.close()  # now only the parent holds it open
        raise SystemExit(serve(reading_end.fileno()))

    def start() -> None:
        # A signal between the start and the list would miss the new one.
        signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
        workers.append(context.Process(target=work))
        workers[-1].start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)

    def stop(*_: int | FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        for each in workers:
            each.terminate()

    def hang_up(*_: int | FrameType | None) -> None:
        for each in workers:
            if each.pid is not None and each.is_alive():
                os.kill(each.pid, signal.SIGHUP)

    for number in _SIGNALS:
        signal.signal(number, stop)
    signal.signal(signal.SIGHUP, hang_up)
    for _ in range(count):
        if not stopping:
            start()
    code = 0
    while workers:
        wait([each.sentinel for each in workers])
        for each in [each for each in workers if not each.is_alive()]:
            workers.remove(each)
            ended = each.exitcode or 0
            if stopping:
                code = code or _status(ended)
            elif ended > 0:
                code = ended
                stop()
            else:
                how = f"killed by signal {-ended}" if ended else "stopped"
                log.error("a worker was %s; starting another", how)
                time.sleep(_PAUSE)
                if not stopping:
                    start()
    return code


def _status(ended: int) -> int:
    """The exit status of a worker that shall stop, which may not listen to signals yet."""
    if -ended in _SIGNALS:
        return 0
    return ended if ended >= 0 else 128 - ended

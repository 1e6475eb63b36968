"""Process 1 of a container: starts the command, passes signals on to it, and collects orphans.

Whoever loses its parent becomes a child of process 1, and stays a zombie after its end until
process 1 waits for it. The command itself cannot do that: to wait for any child is to take the exit
codes of its own ones from asyncio and multiprocessing. So the command is the child of a process
that has nothing else to do, and is nobody's process 1.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress

#: Signals that are no message to the command: a process causes them itself, or the terminal's
#: driver does, and SIGKILL and SIGSTOP cannot be waited for.
_NOT_PASSED_ON = frozenset(
    {
        *(signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV),
        *(signal.SIGSYS, signal.SIGTRAP, signal.SIGCHLD, signal.SIGKILL, signal.SIGSTOP),
        *(signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU),
    }
)


def leave_process_one() -> None:
    """Returns in a process that is not process 1: this one, or else a child of it.

    Process 1 stays behind and ends with that child's exit code, 128 + n after signal n. To be
    called before there are threads.
    """
    if os.getpid() != 1:
        return
    passed_on = signal.valid_signals() - _NOT_PASSED_ON
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, as it may be, it tells of no end
    # Blocked signals wait for :func:`_serve`; process 1 loses any other that it has no handler for.
    waiting = {*passed_on, signal.SIGCHLD, signal.SIGTTOU}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waiting)
    command = os.fork()
    if command:
        os._exit(_serve(command, {*passed_on, signal.SIGCHLD}))
    # A group of its own, lest it gets a signal to the group twice; that of the terminal, if any.
    os.setpgid(0, 0)
    with suppress(OSError):
        os.tcsetpgrp(0, os.getpgrp())
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(command: int, signals: set[int]) -> int:
    """Passes signals on and collects children until ``command`` ends; its exit code."""
    while True:
        number = signal.sigwait(signals)
        if number != signal.SIGCHLD:
            os.kill(command, number)  # it is there, if only as a zombie, until it is collected
            continue
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == command:
                code = os.waitstatus_to_exitcode(ended[1])
                return 128 - code if code < 0 else code

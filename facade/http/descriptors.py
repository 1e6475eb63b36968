"""How many connections this process may have: its limit of open files."""

from __future__ import annotations

import logging
import resource

log = logging.getLogger(__name__)

#: More than any facade needs; some systems have no upper limit, and then loops over all of them.
_MOST = 2**20


def allow_many_connections() -> int:
    """Raises this process's soft limit of open files to the hard one; returns what holds now.

    Each reader of a stream is an open file, and the usual soft limit is 1024.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (ValueError, OSError) as error:  # a system may allow less than it says
        log.warning("at most %d open files: the limit cannot be raised: %s", soft, error)
        return soft
    return wanted

"""Listening on an address, and whether it can be listened on, which is asked before all else."""

from __future__ import annotations

import errno
import ipaddress
import socket
from contextlib import ExitStack

#: How many connections may wait to be accepted: thousands of readers come back at the same moment.
_BACKLOG = 4096


def listeners(host: str, port: int, *, shared: bool = False) -> list[socket.socket]:
    """Sockets that listen at each address of ``host``, all of them on the same port; a free one for
    0. Raises :class:`OSError`.

    ``shared``: others may listen there, too, if they share it as well (``SO_REUSEPORT``).
    """
    unknown: OSError | None = None
    found: list[socket.socket] = []
    with ExitStack() as taken:
        for family, *_, address in socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            place = address[0], port
            try:
                listener = socket.create_server(
                    place, family=family, backlog=_BACKLOG, reuse_port=shared
                )
            except OSError as error:
                if error.errno != errno.EAFNOSUPPORT:
                    raise
                # The kernel has no IPv6: asyncio leaves such an address out as well.
                unknown = error
                continue
            found.append(taken.enter_context(listener))
            port = port or int(listener.getsockname()[1])
        taken.pop_all()
    if unknown is not None and not found:
        raise unknown
    return found


def free_port(host: str, port: int) -> int:
    """``port``, or a free one for 0; raises :class:`OSError` where ``host`` and ``port`` cannot be
    listened on now. Nothing listens there after it: whoever does asks again."""
    for each in listeners(host, port):
        port = port or int(each.getsockname()[1])
        each.close()
    return port


def is_loopback(host: str) -> bool:
    """Whether who listens on ``host`` is reached from this machine alone."""
    try:
        found = {str(each[4][0]) for each in socket.getaddrinfo(host or None, None)}
    except OSError:
        return False
    return bool(host) and all(ipaddress.ip_address(each).is_loopback for each in found)


#: Addresses that stand for all of a machine's, and the loopback address that reaches them.
WILDCARDS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}

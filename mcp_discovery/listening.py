"""Whether an address can be listened on, which is asked before anything else is done."""

from __future__ import annotations

import socket
from contextlib import ExitStack


def free_port(host: str, port: int) -> int:
    """``port``, or a free one for 0; raises :class:`OSError` where ``host`` and ``port`` cannot be
    listened on now. Nothing listens there after it: whoever does asks again."""
    with ExitStack() as taken:
        for family, *_, address in socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            place = address[0], port
            listener = taken.enter_context(socket.create_server(place, family=family))
            port = port or int(listener.getsockname()[1])
    return port

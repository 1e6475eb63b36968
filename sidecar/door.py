"""Notices at once when a server on this machine begins to listen: a look at its port costs little.

A connection to a port of this machine on which nobody listens is refused by the kernel before
``connect`` returns: twenty microseconds, where an attempt to speak MCP takes a thousand.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from urllib.parse import urlsplit

_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}
_LOCALHOST = ("127.0.0.1", "::1")

#: The pause between two looks is this part of the time that was waited already …
_PART = 0.01
#: … and at least so many seconds.
_LEAST = 0.005


class Door:
    """The port of a server on this machine."""

    def __init__(self, hosts: tuple[str, ...], port: int) -> None:
        self._hosts = hosts
        self._port = port

    @classmethod
    def of(cls, url: str) -> Door | None:
        """The door of the server at ``url``; ``None`` where that is not a loopback address."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = parts.port or _PORTS.get(parts.scheme, 0)
        if host == "localhost":
            return cls(_LOCALHOST, port)
        try:
            return cls((host,), port) if ipaddress.ip_address(host).is_loopback else None
        except ValueError:
            return None

    def is_shut(self) -> bool:
        """Whether nobody listens: a connection is refused."""
        return all(_refused(host, self._port) for host in self._hosts)


def pause(waited: float, longest: float) -> float:
    """Seconds until the next look after ``waited`` seconds: a server that took a second to start
    is found within 10 ms, and whoever waits for hours looks every ``longest`` seconds."""
    return min(max(_LEAST, _PART * waited), longest)


def _refused(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as looking:
            looking.setblocking(False)
            told = looking.connect_ex((host, port))
            if told == errno.EINPROGRESS:  # what has become of it meanwhile
                told = looking.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            return told == errno.ECONNREFUSED
    except OSError:
        return family is socket.AF_INET6  # a machine without it: nobody listens there

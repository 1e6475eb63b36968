"""Whether an address can be listened on, as asyncio would listen there."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest

from mcp_discovery.listening import free_port


def test_a_port_in_use_is_told_and_a_free_one_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(OSError) as told:
            free_port("127.0.0.1", taken.getsockname()[1])
        assert told.value.errno == errno.EADDRINUSE
    assert 0 < free_port("127.0.0.1", 0) < 65536


def test_a_kernel_without_ipv6_listens_on_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that was started with ``ipv6.disable=1`` has no such sockets."""
    create = socket.create_server

    def without_ipv6(address: Any, *, family: int, **given: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return create(address, family=family, **given)

    monkeypatch.setattr(socket, "create_server", without_ipv6)
    assert free_port("", 0) > 0
    with pytest.raises(OSError, match="family"):
        free_port("::1", 0)

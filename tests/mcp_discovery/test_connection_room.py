"""How many connections may be open."""

from __future__ import annotations

import resource
from functools import partial

import pytest

from mcp_discovery.connection_room import Room, default_most


def test_in_all_and_by_address() -> None:
    room = Room(4, 2)
    first, second = room.enter("192.0.2.1"), room.enter("192.0.2.1")
    assert (first.over, second.over) == (None, None)
    third = room.enter("192.0.2.1")
    assert third.over is not None and "2 connections are open from 192.0.2.1" in third.over
    assert room.enter("::ffff:192.0.2.1").over is not None, "the same address in IPv6's clothes"
    assert room.enter("192.0.2.2").over is None
    assert room.enter("192.0.2.3").over is None
    fifth = room.enter("192.0.2.4")
    assert fifth.over is not None and fifth.over.startswith("4 connections are open here")
    first.leave()
    first.leave()
    assert room.taken == 3
    assert room.enter("192.0.2.1").over is None


def test_an_ipv6_network_of_one_machine_is_one_address() -> None:
    room = Room(100, 1)
    assert room.enter("2001:db8::1").over is None
    assert room.enter("2001:db8::ffff:2").over is not None
    assert room.enter("2001:db8:0:1::1").over is None


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.9", ""])
def test_this_machine_is_not_counted_by_address(address: str) -> None:
    room = Room(3, 1)
    assert [room.enter(address).over is None for _ in range(4)] == [True, True, True, False]


def test_a_trusted_proxy_is_not_counted_by_address() -> None:
    room = Room(3, 1, "192.0.2.1".__eq__)
    assert all(room.enter("192.0.2.1").over is None for _ in range(3))


def test_beyond_the_limits_the_newest_have_room() -> None:
    room = Room(1, 1)
    room.enter("192.0.2.1")
    dropped: list[int] = []
    for number in range(70):
        place = room.enter("192.0.2.1")
        place.drop = partial(dropped.append, number)
    assert dropped == list(range(6))
    assert room.taken == 1


@pytest.mark.parametrize(
    ("open_files", "most"),
    [(32, 16), (1024, 768), (4096, 3072), (1 << 20, 50_000), (resource.RLIM_INFINITY, 50_000)],
)
def test_open_files_are_left_for_other_things(open_files: int, most: int) -> None:
    assert default_most(open_files) == most

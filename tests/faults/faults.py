"""What a fault is, and the list of them all: each small, named, applied and undone.

A fault is an ``async with`` block over a world: it breaks something and notes into the history what
is true from then on, waits until that can be seen where there is something to see, and mends it at
the block's end. What it breaks is drawn from a seeded source, so that a schedule can be replayed.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Literal

from tests.faults.world import Desk, Seat, StoreKind, World

Claim = Literal["seat", "desk", "store"]
Does = Callable[[World, Random], AbstractAsyncContextManager[None]]
Breaks = Callable[[World, Random], AsyncGenerator[None, None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong. ``claims`` is what it takes for itself: one instance, one facade,
    or the store; faults that claim different things can happen at once."""

    name: str
    claims: Claim
    stores: frozenset[StoreKind]
    does: Does
    #: Whether nothing else can be judged while it lasts.
    alone: bool = False
    #: Whether it needs members with networks of their own.
    apart: bool = False


#: All of them, by name.
FAULTS: dict[str, Fault] = {}


def fault(
    name: str, claims: Claim, *stores: StoreKind, alone: bool = False, apart: bool = False
) -> Callable[[Callable[[World, Random], AsyncGenerator[None, None]]], Does]:
    """Enters a generator that breaks, yields and mends into :data:`FAULTS`."""

    def enter(breaks: Breaks) -> Does:
        does = asynccontextmanager(breaks)
        kinds = frozenset(stores or ("consul", "etcd"))
        FAULTS[name] = Fault(name, claims, kinds, does, alone, apart)
        return does

    return enter


def of(kind: StoreKind, *, apart: bool = False) -> list[Fault]:
    """The faults that can happen to a store of this kind; those between its members only where
    they are ``apart``."""
    return [each for each in FAULTS.values() if kind in each.stores and apart >= each.apart]


@asynccontextmanager
async def a_seat(world: World, draw: Random) -> AsyncGenerator[Seat, None]:
    """One of the world's own instances that no other fault has."""
    seat = draw.choice([each for each in world.own_seats if each.id not in world.taken])
    with world.taking(seat.id):
        yield seat


@asynccontextmanager
async def a_desk(world: World, draw: Random, *, mortal: bool = False) -> AsyncGenerator[Desk, None]:
    """One of the world's own facades that no other fault has.

    The first is never ``mortal``: what grows in a process is seen in one that lasts.
    """
    desks = [each for each in world.own_desks if each.name not in world.taken]
    desk = draw.choice([each for each in desks if not (mortal and each is world.desks[0])])
    with world.taking(desk.name):
        yield desk


def seen_within(world: World) -> float:
    """Seconds after which the end of an instance must have been seen, with some to spare."""
    return world.history.terms.ttl + 6

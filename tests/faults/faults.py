"""What a fault is, and the table of all faults: each is small, named, applied and undone.

A fault is an ``async with`` block over an environment: it breaks something, notes into the history
what is true from then on, waits until that can be seen where there is something to see, and undoes
it at the block's end. What it breaks is drawn from a seeded source, so that a schedule can be
replayed.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Literal

from tests.faults.environment import Environment, FacadeProcess, InstanceProcesses, StoreKind

LASTS = 2.0
"""Seconds that a fault lasts which shows nowhere: reads and writes go on under it meanwhile."""

Claim = Literal["instance", "bridged", "facade", "store"]
Does = Callable[[Environment, Random], AbstractAsyncContextManager[None]]
Breaks = Callable[[Environment, Random], AsyncGenerator[None, None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong. ``claims`` is what it takes for itself: one instance, the one that
    is bridged, one facade, or the store; faults that claim different things can happen at once."""

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
) -> Callable[[Callable[[Environment, Random], AsyncGenerator[None, None]]], Does]:
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
async def an_instance(
    environment: Environment, draw: Random
) -> AsyncGenerator[InstanceProcesses, None]:
    """One of the environment's own instances that no other fault has."""
    instance = draw.choice(
        [each for each in environment.own_instances if each.id not in environment.taken]
    )
    with environment.taking(instance.id):
        yield instance


@asynccontextmanager
async def a_facade(
    environment: Environment, draw: Random, *, mortal: bool = False
) -> AsyncGenerator[FacadeProcess, None]:
    """One of the environment's own facades that no other fault has.

    The first is never ``mortal``: what grows in a process is seen in one that lasts.
    """
    facades = [each for each in environment.own_facades if each.name not in environment.taken]
    facade = draw.choice(
        [each for each in facades if not (mortal and each is environment.facades[0])]
    )
    with environment.taking(facade.name):
        yield facade


def seen_within(environment: Environment) -> float:
    """Seconds after which the end of an instance must have been seen, with some to spare."""
    return environment.history.terms.ttl + 6

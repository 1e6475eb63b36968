"""Which processes a store is made of, as it tells them itself: for people who look at the whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class StoreMember:
    """One process of a store.

    ``address`` is where the others reach it. ``role`` is what it is to the others, ``client`` for
    an agent that only passes on; ``answers`` whether it does, ``None`` where that is not known;
    ``behind`` how many entries of the log it lacks that the leader has.
    """

    name: str
    address: str
    role: Literal["leader", "follower", "learner", "client", "alone"]
    answers: bool | None = None
    datacentre: str = ""
    version: str = ""
    behind: int | None = None


@dataclass(frozen=True, slots=True)
class StoreMembers:
    """All of them. ``datacentres`` are those that the store knows of; ``hidden`` says in a sentence
    what more the credentials would have to allow."""

    members: tuple[StoreMember, ...] = ()
    datacentres: tuple[str, ...] = ()
    hidden: str | None = None

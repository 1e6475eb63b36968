"""Whose a name is: that of who registered it first, or of whom a rule in the file gives it to.

A name is its owner's while an instance of the owner is listed under it, be it down, and as long
again after it, an hour at most. The same is checked of what comes from the store: what breaks a
rule, or is of another owner, is ``quarantined``. What a record is called in the registry API is a
name of it as well.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from pydantic import Field, field_validator

from mcp_discovery.adapters.catalog import Catalog
from mcp_discovery.facade.access.caller import Caller
from mcp_discovery.facade.access.rights import matches
from mcp_discovery.facade.access.section import Section, Words
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.health import Health, Status, utcnow
from mcp_discovery.instance import Instance
from mcp_discovery.origins import Origins
from mcp_discovery.record import Record, is_label
from mcp_discovery.urls import wire_url

#: Seconds for which a name is its owner's at most after the last instance of it has gone, and how
#: many such names are remembered.
_HELD_FOR, _MOST_HELD = 3600.0, 65_536
#: Seconds between two looks for those whose time is over, where they are many.
_FORGET_EVERY = 1.0
#: Seconds between two looks at whether the rules have changed.
_LOOK = 0.5


class NameRule(Section):
    """Whose the names are that match one of the globs ``names``; of several rules the first counts.

    ``owners`` are globs of subjects and ``roles`` roles; a caller of one of them may register under
    the name, besides administrators. ``origins`` are those that its endpoints may have, with
    globs in the host as for :class:`Origins`: ``https://*.payments.example.com``.
    """

    names: list[str] = Field(min_length=1)
    roles: Words = Field([])
    owners: Words = Field([])
    origins: list[str] | None = Field(None, min_length=1)

    @property
    def is_for_some(self) -> bool:
        """Whether it says which callers the names are for."""
        return bool(self.roles or self.owners)

    def is_for(self, caller: Caller) -> bool:
        """Whether it gives its names to ``caller``."""
        if caller.is_anonymous:
            return False
        owner = matches(tuple(self.owners), (caller.subject,))
        return owner or not set(self.roles).isdisjoint(caller.roles)

    @field_validator("origins")
    @classmethod
    def _check_origins(cls, given: list[str] | None) -> list[str] | None:
        if given is not None:
            Origins(given)
        return given

    def why_not_at(self, record: Record) -> str | None:
        """Why the endpoint of ``record`` is none that its name may have; ``None`` where it is."""
        if self.origins is None:
            return None
        if (url := record.endpoint.url) is None:
            return f"the name {record.name} is for servers with a URL of certain origins"
        if Origins(self.origins).include(url):
            return None
        return (
            f"{wire_url(url).origin()} is no origin that servers of the name {record.name} may have"
        )


@dataclass(slots=True)
class _Name:
    """One name: its instances as the store has them, how many each owner has, the owner, and since
    when that has had it."""

    since: datetime
    instances: dict[str, Instance] = field(default_factory=dict)
    owners: Counter[str] = field(default_factory=Counter)
    owner: str | None = None


class NameOwners:
    """Who the names in one list belong to; ``rules`` gives the rules in force, ``None`` where
    callers are not told apart, and names belong to nobody."""

    def __init__(self, rules: Callable[[], Sequence[NameRule]] | None = None) -> None:
        self._rules = rules
        self._names: dict[str, _Name] = {}
        self._known: dict[str, Instance] = {}
        #: Id → why it is quarantined, and since when.
        self._quarantined: dict[str, tuple[str, datetime]] = {}
        self._left = _LeftNames()
        #: Called with each instance that breaks a rule from now on, and why.
        self.on_quarantine: Callable[[Instance, str], None] | None = None

    @property
    def are_owned(self) -> bool:
        """Whether names belong to anybody."""
        return self._rules is not None

    @property
    def quarantined(self) -> int:
        """How many instances break a rule."""
        return len(self._quarantined)

    # -- what callers may register ---------------------------------------------------------------

    def owner_of(self, name: str, *, but: str | None = None) -> str | None:
        """The owner of ``name``; ``""`` where registrants without a caller's identity have it, and
        ``None`` where nobody has. The instance with the id ``but`` does not count."""
        known = self._names.get(name)
        if known is None:
            return self._left.get(name)
        mine = known.instances.get(but) if but is not None else None
        if known.owner is not None:
            own = mine is not None and mine.lease.holder.owner == known.owner
            if known.owners[known.owner] > own:
                return known.owner
        others = (each.lease.holder for id, each in known.instances.items() if id != but)
        return "" if any(each.owner is None and each.by == "sidecar" for each in others) else None

    def require_origin(self, record: Record) -> None:
        """Raises :class:`ProblemError` (409, ``name-held``) where ``record`` has an endpoint that
        its name may not have."""
        for name in names_of(record):
            rule = self._rule(name)
            if rule is not None and (why := rule.why_not_at(record)) is not None:
                raise _held(name, f"{why}; register it at another URL, or under another name")

    def require_owner(
        self, caller: Caller, name: str, record: Record, *, but: str | None = None
    ) -> None:
        """Raises :class:`ProblemError` (409, ``name-held``) where ``name``, which ``record`` has or
        takes, is another's than ``caller``'s, who does not administer that either. The instance
        ``but`` is known to be the caller's own."""
        if self._rules is None:
            return
        rule, owner = self._rule(name), self.owner_of(name, but=but)
        if rule is not None and rule.is_for_some:
            if rule.is_for(caller):
                return
        elif owner in (None, caller.subject):
            return
        named = record if record.name == name else record.model_copy(update={"name": name})
        if not caller.is_anonymous and caller.rights.may("admin", named, owner):
            return
        raise _held(name, f"the name {name!r} belongs to another caller; choose another name")

    def owner_for(self, caller: Caller, record: Record, given: str | None) -> str | None:
        """Whom ``caller`` registers ``record`` for: itself. Who administers it as another owner's
        does for the one that it has ``given``, or the name has."""
        for owner in (given, self.owner_of(record.name)):
            if owner and caller.rights.may("admin", record, owner):
                return owner
        return caller.subject or None

    def _rule(self, name: str) -> NameRule | None:
        rules = self._rules() if self._rules is not None else ()
        return next((each for each in rules if matches(tuple(each.names), (name,))), None)

    # -- what the store has ----------------------------------------------------------------------

    def admit(self, differences: Mapping[str, Instance | None]) -> Mapping[str, Instance | None]:
        """``differences`` of the list as they are shown, and what is shown otherwise by them."""
        if self._rules is None:
            return differences
        moved: set[str] = set()
        given = {id: self._as_stored(id, each) for id, each in differences.items()}
        for id, instance in given.items():
            moved |= self._take(id, instance)
        concerned = dict(given)
        for name in moved:
            if self._elect(name) and name in self._names:
                concerned |= self._names[name].instances
        return {id: each and self._shown(each) for id, each in concerned.items()}

    async def run(self, catalog: Catalog) -> None:
        """Applies changed rules to the list of ``catalog``, for ever."""
        if self._rules is None:
            return
        rules = self._rules()
        while True:
            await asyncio.sleep(_LOOK)
            if (now := self._rules()) is not rules:
                rules = now
                catalog.show({id: self._shown(each) for id, each in self._known.items()})

    def _as_stored(self, id: str, instance: Instance | None) -> Instance | None:
        """What the store has; what was quarantined here may be given as it is shown."""
        shown = instance is not None and instance.health.status is Status.QUARANTINED
        return self._known[id] if shown and id in self._quarantined else instance

    def _take(self, id: str, instance: Instance | None) -> set[str]:
        """Takes one difference in; returns the names that may have another owner by that."""
        before = self._known.pop(id, None)
        if instance is None:
            self._quarantined.pop(id, None)
        else:
            self._known[id] = instance
        if before is not None and instance is not None and _owned(before) == _owned(instance):
            for name in names_of(instance.record):
                self._names[name].instances[id] = instance
            return set()
        moved: set[str] = set()
        if before is not None:
            names, owner = _owned(before)
            for name in names:
                known = self._names[name]
                del known.instances[id]
                if owner is not None:
                    known.owners[owner] -= 1
            moved.update(names)
        if instance is not None:
            names, owner = _owned(instance)
            # What is renamed takes the name now, however long it has been there.
            since = instance.record.registered_at if before is None else utcnow()
            for name in names:
                known = self._names.setdefault(name, _Name(since))
                known.instances[id] = instance
                if owner is not None:
                    known.owners[owner] += 1
            moved.update(names)
        return moved

    def _elect(self, name: str) -> bool:
        """Finds the owner of ``name`` where it has none any more; whether it has another now."""
        known = self._names[name]
        before = known.owner
        if before is not None and known.owners[before] > 0:
            return False
        if before is not None:
            self._left.add(name, before, (utcnow() - known.since).total_seconds())
            known.since = utcnow()
        if not known.instances:
            del self._names[name]
            return False
        owned = [each for each in known.instances.values() if each.lease.holder.owner is not None]
        known.owner = None
        if owned:  # an owner that left lately has it still
            first = min(owned, key=lambda each: (each.record.registered_at, each.id))
            known.owner = self._left.get(name) or first.lease.holder.owner
        return known.owner != before

    def _shown(self, instance: Instance) -> Instance:
        id, why = instance.id, self._why_not(instance)
        if why is None:
            self._quarantined.pop(id, None)
            return instance
        before, since = self._quarantined.get(id, ("", utcnow()))
        if before != why and self.on_quarantine is not None:
            self.on_quarantine(instance, why)
        self._quarantined[id] = why, since if before == why else utcnow()
        health = Health(
            Status.QUARANTINED, why, self._quarantined[id][1], instance.health.last_seen
        )
        return replace(instance, health=health)

    def _why_not(self, instance: Instance) -> str | None:
        """Why ``instance`` must not be offered under its names."""
        found = (self._why_not_under(name, instance) for name in names_of(instance.record))
        return next(filter(None, found), None)

    def _why_not_under(self, name: str, instance: Instance) -> str | None:
        record, owner = instance.record, instance.lease.holder.owner
        rule = self._rule(name)
        if rule is not None:
            if (why := rule.why_not_at(record)) is not None:
                return why
            if rule.is_for_some:  # which roles its owner has, the store does not tell
                known = owner is None or rule.roles or matches(tuple(rule.owners), (owner,))
                return None if known else f"its owner is none that the name {name} is for"
        known_name = self._names.get(name)
        held_by = known_name.owner if known_name is not None else None
        if owner is None or held_by in (None, owner):
            return None
        return f"the name {name} belongs to another owner"


class _LeftNames:
    """The names whose owners have left, and for how long they are still theirs: for as long as they
    were before, so that nobody holds more names than it has had servers for. None is forgotten for
    another: where there are too many, no more are remembered."""

    def __init__(self) -> None:
        #: Name → owner, and until when, in monotonic seconds.
        self._names: dict[str, tuple[str, float]] = {}
        self._forgotten_at = 0.0

    def get(self, name: str) -> str | None:
        """Whose ``name`` still is."""
        owner, until = self._names.get(name, (None, 0.0))
        return owner if until > time.monotonic() else None

    def add(self, name: str, owner: str, seconds: float) -> None:
        """``owner``, who has had ``name`` for so many ``seconds``, has left."""
        now = time.monotonic()
        if len(self._names) >= _MOST_HELD and now >= self._forgotten_at + _FORGET_EVERY:
            self._forgotten_at = now
            self._names = {each: left for each, left in self._names.items() if left[1] > now}
        if name in self._names or len(self._names) < _MOST_HELD:
            self._names[name] = owner, now + min(max(seconds, 0.0), _HELD_FOR)


def names_of(record: Record) -> tuple[str, ...]:
    """The names that ``record`` takes: its own, and that of the registry API where it is another
    one. ``local/<name>`` is what a server of that name has there, and so is that name."""
    other = record.registry_name.lower()
    publisher, _, label = other.partition("/")
    if publisher == "local" and is_label(label):
        other = label
    return (record.name,) if other in ("", record.name) else (record.name, other)


def _owned(instance: Instance) -> tuple[tuple[str, ...], str | None]:
    return names_of(instance.record), instance.lease.holder.owner


def _held(name: str, detail: str) -> ProblemError:
    return ProblemError(409, "name-held", detail, name=name)

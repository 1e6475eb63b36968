"""One synchronization with a Drupal site: what each side has, what it had last time, what to do.

Both sides are compared with the digest of what was there after the last synchronization, which the
resource itself has in its field ``sync``, and an entry that came from Drupal in its metadata. What
changed on one side is carried to the other as far as the mode says; what changed on both is a
conflict, told and left alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from mcp_discovery.adapters.view import Entry
from mcp_discovery.facade.drupal.content import (
    BASE_KEY,
    STATUS,
    UUID_KEY,
    Content,
    attributes_of,
    content_in,
    content_of,
    differing,
    digest_of,
    gone,
    resource_id,
    synced,
)
from mcp_discovery.facade.drupal.jsonapi import DrupalError, DrupalSite, Resource
from mcp_discovery.facade.http.pauses import sliced
from mcp_discovery.plural import counted

Mode: TypeAlias = Literal["push", "pull", "bidirectional"]
#: How many resources are changed at the same time.
_AT_ONCE: Final = 4
#: From so many on it is looked at how large a part of what was synchronized is gone.
_MANY: Final = 10


@dataclass(slots=True)
class SyncReport:
    """What was done, or would be: ids by effect, and what was not done and why."""

    created: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    unpublished: list[str] = field(default_factory=list)
    unchanged: int = 0
    conflicts: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, Any]] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)
    failed: list[dict[str, Any]] = field(default_factory=list)

    def pushed(self) -> dict[str, list[str]]:
        """What was changed in Drupal, in order."""
        found = {
            "created": self.created,
            "updated": self.updated,
            "unpublished": self.unpublished,
        }
        return {name: sorted(ids) for name, ids in found.items()}


#: A change of the site, to be made unless this is a dry run.
Change: TypeAlias = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Pulled:
    """What is to be registered here, as Drupal has it."""

    content: Content
    resource: Resource
    known: Entry | None


@dataclass(eq=False)
class Synchronization:
    """One run over ``entries``, those that are to be synchronized, by id. ``is_listed`` says of any
    id whether the list has it at all; ``complete`` whether the list is the store's, whole."""

    site: DrupalSite
    type: str
    fields: Mapping[str, str]
    mode: Mode
    entries: Mapping[str, Entry]
    is_listed: Callable[[str], bool]
    complete: bool
    unpublish_many: bool = False
    report: SyncReport = field(default_factory=SyncReport)
    #: What is to be registered, and what is to be removed here.
    pulls: list[Pulled] = field(default_factory=list)
    removals: list[str] = field(default_factory=list)
    _changes: list[tuple[str, Change]] = field(default_factory=list)
    _vanished: list[tuple[str, Resource, str]] = field(default_factory=list)
    _synced: int = 0

    @property
    def _pushes(self) -> bool:
        return self.mode != "pull"

    @property
    def _asked(self) -> tuple[str, ...]:
        return (*self.fields.values(), STATUS)

    async def plan(self) -> None:
        """Reads the site, and finds out what is to be done; raises :class:`DrupalError`."""
        seen: set[str] = set()
        async for resource in self.site.resources(self.type, self._asked):
            content = content_in(resource, self.fields)
            id = str(content["id"])
            if id in seen:
                self._skip(id, "several resources of the site have this id; give each its own")
                continue
            seen.add(id)
            self._compare(id, resource, content)
        async for id, entry in sliced(self.entries.items()):
            if id not in seen and self._pushes:
                self._create(id, entry)
        self._unpublish()

    async def push(self) -> None:
        """Makes the changes of the site; one that fails is told, and does not end the others."""
        remaining = iter(self._changes)

        async def make() -> None:
            for id, change in remaining:
                try:
                    await change()
                except DrupalError as error:
                    self._forget(id)
                    if error.status == 409:  # by another facade, or in Drupal
                        self._conflict(id, f"{error}; synchronize again", [])
                    else:
                        self.report.failed.append({"id": id, "reason": str(error)})

        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(make())

    def pulled(self, pulled: Pulled) -> None:
        """What came from Drupal is here; that it was synchronized is put down there."""
        if self._pushes:
            id = str(pulled.content["id"])
            names = ("id",)
            attributes = attributes_of(pulled.content, self.fields, pulled.resource, *names)
            digest = digest_of(pulled.content)
            self._change(id, pulled.resource, attributes | {self.fields["sync"]: digest})

    # -- one resource ----------------------------------------------------------------------------

    def _compare(self, id: str, resource: Resource, theirs: Content) -> None:
        base, was_gone = synced(resource, self.fields)
        self._synced += bool(base) and not was_gone
        entry = self.entries.get(id)
        if entry is None:
            if not self.is_listed(id):
                self._only_there(id, resource, theirs, base, was_gone)
            return
        published = resource.attributes.get(STATUS, True)
        metadata = entry.record.metadata
        if not published and not was_gone and metadata.get(UUID_KEY) == resource.id:
            if self.mode == "push":
                self._skip(id, "it was unpublished there; pull removes it here")
            else:
                self.removals.append(id)
            return
        ours = content_of(entry.record, self.fields)
        differs = differing(ours, theirs)
        if not differs:
            if self._pushes and (base != digest_of(ours) or was_gone):
                self._adopt(id, resource, ours, was_gone)
            else:
                self.report.unchanged += 1
            return
        bases = {base, metadata.get(BASE_KEY, "")} - {""}
        here, there = digest_of(ours) not in bases, digest_of(theirs) not in bases
        if not bases:
            self._conflict(id, "it was never synchronized, and both sides differ", differs)
        elif here is there:
            self._conflict(id, "both sides changed since the last synchronization", differs)
        elif here and self._pushes:
            attributes = attributes_of(ours, self.fields, resource, *differs)
            self._write(id, resource, theirs, attributes, ours, was_gone)
        elif there and self.mode != "push":
            self.pulls.append(Pulled(theirs, resource, entry))
        else:
            where, mode = ("here", "push") if here else ("in Drupal", "pull")
            self._skip(id, f"it changed {where} alone, and {mode} carries that over", differs)

    def _only_there(
        self, id: str, resource: Resource, theirs: Content, base: str, was_gone: bool
    ) -> None:
        published = resource.attributes.get(STATUS, True)
        if was_gone:
            if published:
                self._skip(id, "it is gone here, and was published there again")
            else:
                self.report.unchanged += 1
        elif base:
            if base != digest_of(theirs):
                self._conflict(id, "it is gone here, and was changed there since", [])
            elif self._pushes and published:
                self._vanished.append((id, resource, base))
            else:
                self.report.unchanged += 1
        elif self.mode == "push" or not published:
            self.report.unchanged += 1  # a draft, or none of ours
        else:
            self.pulls.append(Pulled(theirs, resource, None))

    def _create(self, id: str, entry: Entry) -> None:
        ours = content_of(entry.record, self.fields)
        attributes = attributes_of(ours, self.fields, None)
        attributes |= {self.fields["sync"]: digest_of(ours), STATUS: True}
        self.report.created.append(id)
        self._changes.append((id, lambda: self.site.create(self.type, resource_id(id), attributes)))

    def _adopt(self, id: str, resource: Resource, ours: Content, was_gone: bool) -> None:
        """Both sides have the same, and nobody has put that down yet."""
        attributes: dict[str, Any] = {self.fields["sync"]: digest_of(ours)}
        self._change(id, resource, attributes | ({STATUS: True} if was_gone else {}))

    def _write(
        self,
        id: str,
        resource: Resource,
        theirs: Content,
        attributes: dict[str, Any],
        ours: Content,
        was_gone: bool,
    ) -> None:
        """Carries our values over, if theirs are still those that were compared."""
        attributes |= {self.fields["sync"]: digest_of(ours)} | ({STATUS: True} if was_gone else {})

        async def change() -> None:
            now = await self.site.resource(self.type, resource, self._asked)
            if content_in(now, self.fields) != theirs:
                raise DrupalError("it was changed meanwhile", 409)
            await self.site.update(self.type, resource, attributes)

        self.report.updated.append(id)
        self._changes.append((id, change))

    def _change(self, id: str, resource: Resource, attributes: Mapping[str, Any]) -> None:
        self.report.updated.append(id)
        self._changes.append((id, lambda: self.site.update(self.type, resource, attributes)))

    def _unpublish(self) -> None:
        """Unpublishes what is gone here, unless that is suspiciously much."""
        many = self._synced >= _MANY and len(self._vanished) * 2 > self._synced
        for id, resource, base in self._vanished:
            if not self.complete:
                self._skip(id, "it is not in the list, which is not the whole one now")
            elif many and not self.unpublish_many:
                much = f"so are {len(self._vanished)} of {counted(self._synced, 'server')}"
                self._skip(id, f"it is gone here, and {much}; unpublishMany unpublishes them")
            else:
                attributes = {STATUS: False, self.fields["sync"]: gone(base)}
                self.report.unpublished.append(id)
                self._changes.append(
                    (id, lambda r=resource, a=attributes: self.site.update(self.type, r, a))  # type: ignore[misc]
                )

    # -- what is told ----------------------------------------------------------------------------

    def _skip(self, id: str, reason: str, differs: list[str] | None = None) -> None:
        found: dict[str, Any] = {"id": id[:100], "reason": reason}
        self.report.skipped.append(found | ({"fields": differs} if differs else {}))

    def _conflict(self, id: str, reason: str, differs: list[str]) -> None:
        found: dict[str, Any] = {"id": id[:100], "reason": reason}
        self.report.conflicts.append(found | ({"fields": differs} if differs else {}))

    def _forget(self, id: str) -> None:
        for known in (self.report.created, self.report.updated, self.report.unpublished):
            if id in known:
                known.remove(id)

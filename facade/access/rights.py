"""Rights: what a caller may see, call, register, report and administer.

A role is a set of scopes, a scope a set of grants (:mod:`mcp_discovery.facade.access.auth_file`). A
grant allows verbs for the instances, and for what of them, that its selectors match. Whatever is
asked of a caller's rights is asked here.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import translate
from functools import cached_property, lru_cache
from typing import Literal, TypeAlias, get_args

from mcp_discovery.record import Capabilities, Endpoint, Record

#: What rights are about. ``read`` is to see, ``call`` to use a server through the facade,
#: ``register`` to change the list, ``report`` to tell outcomes and ask for probes, ``admin`` to see
#: and do what concerns the facade itself.
Verb: TypeAlias = Literal["read", "call", "register", "report", "admin"]
VERBS: tuple[Verb, ...] = get_args(Verb)
#: What an operation needs: a verb, or nothing (``open``).
Need: TypeAlias = Verb | Literal["open"]
#: What of an instance a grant may be restricted to.
Part: TypeAlias = Literal["tools", "resources", "prompts", "skills"]
PARTS: tuple[Part, ...] = get_args(Part)


#: Rights are not about addresses.
_ANYWHERE = Endpoint(transport="streamable-http", url="http://localhost/mcp")


def record_as_it_was(
    name: str, tags: Iterable[str], zone: str | None, *, tools: Iterable[str] = ()
) -> Record:
    """What rights are asked about of an instance that may not be listed any more."""
    return Record.model_construct(
        name=name,
        tags=tuple(tags),
        zone=zone,
        endpoint=_ANYWHERE,
        capabilities=Capabilities(tools=tuple(tools)),
    )


def in_words(need: Need) -> str:
    """What a right is to, in a sentence."""
    return "administer" if need == "admin" else need


@lru_cache(4096)
def _matcher(globs: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(translate, globs)) or r"(?!)")


def matches(globs: tuple[str, ...], values: Iterable[str]) -> bool:
    """Whether one of ``values`` matches one of ``globs`` (``*``, ``?`` and ``[…]``)."""
    fits = _matcher(globs).match
    return any(fits(each) is not None for each in values)


@dataclass(frozen=True, slots=True)
class Grant:
    """Verbs, and the instances that they are granted for.

    Each selector is a tuple of globs, of which one has to match; ``None`` matches all. ``owners``
    are compared with the caller that the instance's name belongs to. ``tools``, ``resources``,
    ``prompts`` and ``skills`` restrict the grant to these of an instance that offers at least one
    of them; where one of the four is given, of the others nothing is granted.
    """

    verbs: frozenset[Verb]
    names: tuple[str, ...] | None = None
    tags: tuple[str, ...] | None = None
    owners: tuple[str, ...] | None = None
    zones: tuple[str, ...] | None = None
    tools: tuple[str, ...] | None = None
    resources: tuple[str, ...] | None = None
    prompts: tuple[str, ...] | None = None
    skills: tuple[str, ...] | None = None

    @property
    def is_partial(self) -> bool:
        """Whether it is for some tools, resources, prompts or skills alone."""
        return any(getattr(self, part) is not None for part in PARTS)

    def covers(self, record: Record, owner: str | None) -> bool:
        """Whether the instance is one that the grant is for, whatever it offers."""
        return (
            (self.names is None or matches(self.names, (record.name,)))
            and (self.tags is None or matches(self.tags, record.tags))
            and (self.owners is None or matches(self.owners, (owner or "",)))
            and (self.zones is None or matches(self.zones, (record.zone or "",)))
        )

    def includes(self, part: Part, name: str) -> bool:
        """Whether the grant is for what is called ``name`` among an instance's ``part``."""
        globs: tuple[str, ...] | None = getattr(self, part)
        if globs is None:
            return not self.is_partial
        return matches(globs, (name,))


def includes(grants: Iterable[Grant], part: Part, name: str) -> bool:
    """Whether one of ``grants`` is for what is called ``name`` among an instance's ``part``."""
    return any(each.includes(part, name) for each in grants)


@dataclass(frozen=True)
class Rights:
    """The sum of a caller's grants.

    ``refused`` says for verbs why nobody has them here, whatever is granted; it is one sentence
    that says what to do.
    """

    grants: tuple[Grant, ...]
    refused: Mapping[Verb, str] = field(default_factory=dict)

    @classmethod
    def all(cls, refused: Mapping[Verb, str] | None = None) -> Rights:
        """Every verb for every instance, but for those that are ``refused``."""
        return cls((Grant(frozenset(VERBS)),), refused or {})

    @cached_property
    def verbs(self) -> frozenset[Verb]:
        """The verbs that are granted for anything at all."""
        found: frozenset[Verb] = frozenset().union(*(each.verbs for each in self.grants))
        return found - self.refused.keys()

    @cached_property
    def sees_all(self) -> bool:
        """Whether every instance is visible, with all that it offers."""
        return self.grants_all("read")

    def grants_all(self, verb: Verb) -> bool:
        """Whether ``verb`` is granted for every instance, with all that it offers: what is of the
        whole facade needs that."""
        return verb not in self.refused and any(
            verb in each.verbs and each == Grant(each.verbs) for each in self.grants
        )

    @cached_property
    def visibility(self) -> str:
        """The same text for all rights that show the same of every list."""
        return self.reach("read")

    def reach(self, verb: Verb) -> str:
        """The same text for all rights that grant ``verb`` for the same."""
        granted = sorted({repr(_sorted(each)) for each in self.grants if verb in each.verbs})
        return hashlib.sha256("\n".join(granted).encode()).hexdigest()

    def covering(self, verb: Verb, record: Record, owner: str | None) -> list[Grant]:
        """The grants of ``verb`` for an instance."""
        if verb in self.refused:
            return []
        return [each for each in self.grants if verb in each.verbs and each.covers(record, owner)]

    def may(
        self,
        verb: Verb,
        record: Record,
        owner: str | None,
        part: Part | None = None,
        name: str = "",
    ) -> bool:
        """Whether ``verb`` is granted for an instance, or for one of its tools, resources,
        prompts or skills. ``owner`` is the caller that its name belongs to, ``None`` for nobody."""
        found = self.covering(verb, record, owner)
        if part is not None:
            return includes(found, part, name)
        return any(not each.is_partial or _offers_some(each, record) for each in found)


def _offers_some(grant: Grant, record: Record) -> bool:
    offered = record.capabilities
    return any(grant.includes(part, name) for part in PARTS for name in getattr(offered, part))


def _sorted(grant: Grant) -> tuple[object, ...]:
    selectors = ("names", "tags", "owners", "zones", *PARTS)
    return tuple(
        None if (globs := getattr(grant, each)) is None else sorted(set(globs))
        for each in selectors
    )

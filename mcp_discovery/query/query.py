"""What a reader asks of the list: its filters, and which of them an instance fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import TypeAlias

from mcp_discovery.health import Status, utcnow
from mcp_discovery.instance import Instance
from mcp_discovery.query.versions import VersionRange
from mcp_discovery.record import Record

Passes: TypeAlias = Callable[["Query", Instance, datetime], bool]


def uptime(instance: Instance, now: datetime) -> float:
    """For how many seconds the instance has had a status in which it answers; 0 for one ``down``.

    It counts from ``since``, so a change from ``healthy`` to ``degraded`` or back starts it anew:
    what has been steady for that long is what is asked for.
    """
    if instance.health.status is Status.DOWN:
        return 0.0
    return max(0.0, (now - instance.health.since).total_seconds())


def capability_names(record: Record) -> Iterable[str]:
    """The names of all tools, resources and prompts of ``record``."""
    offered = record.capabilities
    return chain(offered.tools, offered.resources, offered.prompts)


@dataclass(frozen=True, slots=True)
class Query:
    """What a reader asks for; an empty set leaves its field open.

    ``tags`` all of them or (``any_tag``) at least one; ``capabilities`` all of them, each the name
    of a tool, resource or prompt; ``tools`` all of them; ``statuses``, ``names``, ``transports``,
    ``zones``, ``owners``, ``versions`` one of them; ``min_uptime`` seconds of :func:`uptime`.
    """

    tags: frozenset[str] = frozenset()
    any_tag: bool = True
    capabilities: frozenset[str] = frozenset()
    statuses: frozenset[Status] = frozenset({Status.HEALTHY})
    names: frozenset[str] = frozenset()
    transports: frozenset[str] = frozenset()
    tools: frozenset[str] = frozenset()
    versions: frozenset[VersionRange] = frozenset()
    zones: frozenset[str] = frozenset()
    owners: frozenset[str] = frozenset()
    min_uptime: float = 0.0
    #: The filters that are set: the parameter's name and what an instance must pass.
    checks: tuple[tuple[str, Passes], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        given = tuple((name, passes) for name, attr, passes in _FILTERS if getattr(self, attr))
        object.__setattr__(self, "checks", given)

    def matches(self, instance: Instance, now: datetime | None = None) -> bool:
        """Whether ``instance`` is among the answers at ``now``."""
        if self.min_uptime:
            now = now or utcnow()
        at = now or instance.health.since
        # A loop: all() of a generator takes three times as long, and every stream asks here.
        for _, passes in self.checks:  # noqa: SIM110
            if not passes(self, instance, at):
                return False
        return True

    def failed(self, instance: Instance, now: datetime) -> list[str]:
        """The names of the filters that ``instance`` does not pass, as parameters are named."""
        return [name for name, passes in self.checks if not passes(self, instance, now)]

    def narrowing(self) -> Iterator[tuple[str, str, frozenset[str], bool]]:
        """The filters that an index answers: the filter, its index, the keys, and whether all of
        the keys are wanted or any one."""
        tag_for_all = not self.any_tag
        for name, index, keys, every in (
            ("name", "name", self.names, False),
            ("tool", "tool", self.tools, True),
            ("capability", "capability", self.capabilities, True),
            ("tags", "tag", self.tags, tag_for_all),
            ("zone", "zone", self.zones, False),
            ("owner", "owner", self.owners, False),
            ("transport", "transport", self.transports, False),
            ("status", "status", frozenset(each.value for each in self.statuses), False),
        ):
            if keys:
                yield name, index, keys, every


def _tags(query: Query, instance: Instance, _: datetime) -> bool:
    tags = instance.record.tags
    return not query.tags.isdisjoint(tags) if query.any_tag else query.tags.issubset(tags)


def _version(query: Query, instance: Instance, _: datetime) -> bool:
    version = instance.record.version
    return any(version in wanted for wanted in query.versions)


#: The filter's name, the field of :class:`Query` that sets it, and what an instance must pass. The
#: cheap ones come first.
_FILTERS: tuple[tuple[str, str, Passes], ...] = (
    ("status", "statuses", lambda query, one, _: one.health.status in query.statuses),
    ("name", "names", lambda query, one, _: one.record.name in query.names),
    (
        "transport",
        "transports",
        lambda query, one, _: one.record.endpoint.transport in query.transports,
    ),
    ("zone", "zones", lambda query, one, _: one.record.zone in query.zones),
    ("owner", "owners", lambda query, one, _: one.record.owner in query.owners),
    ("tags", "tags", _tags),
    ("tool", "tools", lambda query, one, _: query.tools.issubset(one.record.capabilities.tools)),
    (
        "capability",
        "capabilities",
        lambda query, one, _: query.capabilities.issubset(capability_names(one.record)),
    ),
    ("version", "versions", _version),
    ("min_uptime", "min_uptime", lambda query, one, now: uptime(one, now) >= query.min_uptime),
)

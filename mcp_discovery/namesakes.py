"""Namesakes: instances of one name that are no replicas of one server.

A name belongs to one server, whose replicas may be called in each other's place. Two servers come
to share one where both call themselves by their framework's default, or were given the same name by
hand. Then one of them has the name, and nothing that is asked of it goes to the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from mcp_discovery.health import Status
from mcp_discovery.instance import Instance
from mcp_discovery.record import Record, default_registry_name
from mcp_discovery.vouching import seniority

T = TypeVar("T")


def why_different(one: Record, other: Record) -> str | None:
    """Why two records of one name are not of replicas of one server; ``None`` where they may be.

    They are of different servers if their registry names or what the servers call themselves
    (``serverInfo.name``) differ, or if both offer tools and not one in common. What is not known
    does not differ. Another version, or a tool more or less, is what an upgrade looks like.
    """
    if (names := _differing(_registry_name(one), _registry_name(other))) is not None:
        return f"{one.id} is {names[0]!r} in registries and {other.id} {names[1]!r}"
    if (names := _differing(_own_name(one), _own_name(other))) is not None:
        return f"{one.id} calls itself {names[0]!r} and {other.id} {names[1]!r}"
    tools, others = one.capabilities.tools, other.capabilities.tools
    if tools and others and tools != others and set(tools).isdisjoint(others):
        return f"{one.id} and {other.id} have no tool in common"
    return None


def by_server(items: Iterable[T], instance_of: Callable[[T], Instance]) -> Sequence[Sequence[T]]:
    """The instances of one name, those of one server together, the server that has the name first.

    It is the one with the eldest instance that is not draining, of those that are vouched for
    (:mod:`mcp_discovery.vouching`): how many there are does not count. Instances that are ``down``
    do: their server has the name until they are gone.
    """
    ordered = sorted(items, key=lambda each: seniority(instance_of(each)))
    groups: dict[tuple[object, ...], list[T]] = {}
    for item in ordered:
        groups.setdefault(_traits(instance_of(item).record), []).append(item)
    servers: list[list[T]] = []
    for group in groups.values():
        record = instance_of(group[0]).record
        for server in servers:
            if why_different(instance_of(server[0]).record, record) is None:
                server.extend(group)
                break
        else:
            servers.append(group)
    # Each server has its eldest instance first, and the servers are in the order of these.
    return sorted(servers, key=lambda each: _eldest(map(instance_of, each)))


def _traits(record: Record) -> tuple[object, ...]:
    """What :func:`why_different` compares, by which most instances of a name are alike."""
    capabilities = record.capabilities
    offered = capabilities.digest or capabilities.tools
    return record.registry_name, _own_name(record), offered


def _eldest(instances: Iterable[Instance]) -> tuple[bool, object]:
    """The sort key of a server; one of which nothing stays comes last."""
    staying = [seniority(each) for each in instances if _stays(each)]
    return not staying, min(staying, default=())


def _stays(instance: Instance) -> bool:
    return instance.health.status not in (Status.DRAINING, Status.QUARANTINED)


def _registry_name(record: Record) -> str | None:
    """The registry name, unless nobody gave one."""
    name = record.registry_name
    return None if name == default_registry_name(record.name) else name


def _own_name(record: Record) -> str | None:
    name = (record.protocol.server_info or {}).get("name")
    return name if isinstance(name, str) and name else None


def _differing(one: str | None, other: str | None) -> tuple[str, str] | None:
    return None if one is None or other is None or one == other else (one, other)

"""What of an instance a caller may call: all of it, some of what it offers, or nothing.

Whether a caller sees an instance at all is asked first: one that it does not see does not exist.
"""

from __future__ import annotations

from dataclasses import dataclass

from mcp_discovery.facade.access.rights import Grant, Part, Rights, includes
from mcp_discovery.instance import Instance


@dataclass(frozen=True, slots=True)
class PartialAccess:
    """Some of what an instance offers, by grants of which each is for some parts alone."""

    grants: tuple[Grant, ...]

    def allows(self, part: Part, name: str) -> bool:
        """Whether what is called ``name`` among the instance's ``part`` may be called."""
        return includes(self.grants, part, name)


def access_to(rights: Rights, instance: Instance) -> PartialAccess | bool:
    """What of ``instance`` may be called: all of it (``True``), a part, or nothing (``False``)."""
    found = rights.covering("call", instance.record, instance.lease.holder.owner)
    if not found:
        return False
    return any(not each.is_partial for each in found) or PartialAccess(tuple(found))


def may_call(rights: Rights, instance: Instance, tool: str | None = None) -> bool:
    """Whether ``instance``, or its ``tool`` where one is given, may be called; one that offers
    nothing that may be called is none."""
    if tool is None:
        return rights.may("call", instance.record, instance.lease.holder.owner)
    access = access_to(rights, instance)
    return access if isinstance(access, bool) else access.allows("tools", tool)

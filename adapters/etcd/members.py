"""The members of an etcd cluster: who leads, and how far each is behind."""

from __future__ import annotations

import asyncio
from typing import Any

from mcp_discovery.adapters.etcd.api import EtcdGateway
from mcp_discovery.adapters.members import StoreMember, StoreMembers
from mcp_discovery.errors import StoreError

#: How long, in seconds, one member may take.
_WITHIN = 2.0


async def etcd_members(gateway: EtcdGateway) -> StoreMembers:
    """Who is in the cluster; raises as :class:`EtcdGateway` does.

    Each member is asked at the address that it advertises to clients, or at the endpoint that was
    given where it is that one; which may be out of reach from here, though it serves others.
    """
    listed = (await gateway.call("cluster/member/list", {})).get("members", [])
    answers = await asyncio.gather(*(_status(gateway, each) for each in listed))
    indexes = [int(each["raftIndex"]) for each in answers if each is not None]
    newest = max(indexes, default=0)
    leaders = {each.get("leader") for each in answers if each is not None}
    found = []
    for member, answer in zip(listed, answers, strict=True):
        if member.get("isLearner"):
            role = "learner"
        elif len(listed) == 1:
            role = "alone"
        else:
            role = "leader" if member["ID"] in leaders else "follower"
        found.append(
            StoreMember(
                member.get("name") or member["ID"],
                ", ".join(member.get("clientURLs", ())),
                role,  # type: ignore[arg-type]
                answer is not None,
                version=(answer or {}).get("version", ""),
                behind=None if answer is None else newest - int(answer["raftIndex"]),
            )
        )
    return StoreMembers(tuple(found))


async def _status(gateway: EtcdGateway, member: dict[str, Any]) -> dict[str, Any] | None:
    for url in member.get("clientURLs", ()):
        try:
            found: dict[str, Any] = await gateway.call_endpoint(
                url, "maintenance/status", {}, _WITHIN
            )
        except StoreError:
            continue
        return found
    return None

"""The servers and agents of a Consul datacentre, as far as the token may see them."""

from __future__ import annotations

from typing import Any

from mcp_discovery.adapters.consul.transport import ConsulTransport, is_filtered
from mcp_discovery.adapters.members import StoreMember, StoreMembers
from mcp_discovery.errors import StoreDeniedError

#: Serf's number for a member that is alive.
_ALIVE = 1
_HIDDEN = (
    "the token may not read nodes, so servers are told by their addresses alone; grant node:read "
    "to see their names, versions and agents"
)


async def consul_members(http: ConsulTransport) -> StoreMembers:
    """Who is in the agent's datacentre; raises as :class:`ConsulTransport` does.

    Which servers there are and which leads is open to everybody; their names need ``node:read``,
    how far each is behind ``operator:read``.
    """
    leader = await _json(http, "/v1/status/leader")
    servers = list(await _json(http, "/v1/status/peers"))
    datacentres = tuple(await _json(http, "/v1/catalog/datacenters"))
    named = await _agents(http)
    behind = await _behind(http)
    found = []
    for each in named or ():
        tags, address = each["Tags"], str(each["Addr"])
        raft = f"{address}:{tags['port']}" if tags.get("role") == "consul" else ""
        is_server = raft in servers
        found.append(
            StoreMember(
                str(each["Name"]),
                raft or address,
                ("leader" if raft == leader else "follower") if is_server else "client",
                each["Status"] == _ALIVE,
                str(tags.get("dc", "")),
                str(tags.get("build", "")).partition(":")[0],
                behind.get(raft),
            )
        )
    known = {each.address for each in found}
    found += [
        StoreMember(each, each, "leader" if each == leader else "follower", behind=behind.get(each))
        for each in servers
        if each not in known
    ]
    return StoreMembers(tuple(found), datacentres, None if named else _HIDDEN)


async def _json(http: ConsulTransport, path: str) -> Any:
    return http.json(await http.request("GET", path))


async def _agents(http: ConsulTransport) -> list[dict[str, Any]] | None:
    """The members of the agent's gossip pool; ``None`` where the token sees none of them."""
    try:
        response = await http.request("GET", "/v1/agent/members")
    except StoreDeniedError:
        return None
    listed: list[dict[str, Any]] = http.json(response)
    return None if is_filtered(response) and not listed else listed or None


async def _behind(http: ConsulTransport) -> dict[str, int]:
    """Raft address → how many entries a server lacks; nothing without the right to know it."""
    try:
        servers = (await _json(http, "/v1/operator/autopilot/health"))["Servers"] or ()
    except StoreDeniedError:
        return {}
    newest = max((each["LastIndex"] for each in servers), default=0)
    return {each["Address"]: newest - each["LastIndex"] for each in servers}

"""``GET /topology``: this facade, the members of its store, and who keeps which instances alive."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal

from aiohttp import web
from pydantic import Field

from mcp_discovery.adapters.members import StoreMembers
from mcp_discovery.adapters.store import Store
from mcp_discovery.adapters.view import View
from mcp_discovery.errors import StoreError
from mcp_discovery.facade.access.caller import caller_of
from mcp_discovery.facade.access.challenge import CHALLENGES
from mcp_discovery.facade.http.body import Shaped
from mcp_discovery.facade.http.operation import Operation
from mcp_discovery.facade.http.pauses import sliced
from mcp_discovery.facade.servers.current_list import view_of
from mcp_discovery.facade.servers.list_json import caveats, json_response
from mcp_discovery.facade.state import FACADE
from mcp_discovery.facade.status.handlers import STARTED
from mcp_discovery.health import Status
from mcp_discovery.version import installed_version

#: How long, in seconds, the store may take to tell its members.
_WITHIN = 5.0
#: How many names of what a registrant keeps are listed.
_NAMES = 20


class TopologyFacade(Shaped):
    """The facade that answers."""

    holder: str = Field(description="What it is called in the leases of what it keeps alive.")
    host: str
    version: str
    uptime: int = Field(ge=0, description="Seconds.")
    revision: int
    epoch: str


class TopologyMember(Shaped):
    """One process of the store."""

    name: str
    address: str
    role: Literal["leader", "follower", "learner", "client", "alone"]
    answers: bool | None = None
    datacentre: str = ""
    version: str = ""
    behind: int | None = Field(None, description="Entries of the log that the leader has more.")


class TopologyStore(Shaped):
    """What the list is read from."""

    url: str
    reachable: bool
    milliseconds: float | None = Field(None, description="How long it took to tell its members.")
    problem: str | None = None
    members: list[TopologyMember]
    datacentres: list[str]
    hidden: str | None = Field(None, description="What the credentials do not show, and why.")


class TopologyRegistrant(Shaped):
    """One process that keeps instances registered: a sidecar, or a facade that probes what was
    posted to it."""

    holder: str
    host: str
    by: Literal["sidecar", "facade"]
    is_this: bool = Field(description="Whether it is the facade that answers.")
    probes: bool = Field(description="Whether it asks the servers itself whether they live.")
    instances: int = Field(ge=1)
    statuses: dict[str, int]
    names: list[str] = Field(description=f"Up to {_NAMES} of the servers' names.")
    zones: list[str]


class TopologyZone(Shaped):
    """A zone that instances name."""

    zone: str
    instances: int
    healthy: int


class Topology(Shaped):
    """The whole, as this facade sees it now."""

    facade: TopologyFacade
    store: TopologyStore
    registrants: list[TopologyRegistrant]
    zones: list[TopologyZone]
    stale_since: datetime | None = None
    problem: str | None = None
    partial: str | None = None


@dataclass(slots=True)
class RegistrantSummary:
    """One process that keeps instances registered, with what it keeps."""

    holder: str
    host: str
    by: str
    probes: bool
    statuses: Counter[str] = field(default_factory=Counter)
    names: set[str] = field(default_factory=set)
    zones: set[str] = field(default_factory=set)

    @property
    def instances(self) -> int:
        """How many it keeps."""
        return self.statuses.total()


@dataclass(frozen=True, slots=True)
class StoreLook:
    """What the store said of itself, and after how many seconds; ``problem`` where it did not."""

    members: StoreMembers
    seconds: float
    problem: str | None = None


async def look_at(store: Store) -> StoreLook:
    """Asks ``store`` for its members; a store that cannot tell has none."""
    began = time.monotonic()
    problem: str | None = None
    members = StoreMembers()
    try:
        async with asyncio.timeout(_WITHIN):
            members = await store.members()
    except TimeoutError:
        problem = f"it has not answered within {_WITHIN:g} s"
    except StoreError as error:
        problem = str(error)
    return StoreLook(members, time.monotonic() - began, problem)


async def registrants_of(view: View) -> list[RegistrantSummary]:
    """Who keeps the instances of ``view`` registered, those with most of them first."""
    found: dict[str, RegistrantSummary] = {}
    async for each in sliced(view):
        holder = each.instance.lease.holder
        known = found.setdefault(
            holder.public_id,
            RegistrantSummary(holder.public_id, holder.host, holder.by, holder.by == "facade"),
        )
        known.probes = known.probes or holder.probed or holder.by == "sidecar"
        known.statuses[each.health.status.value] += 1
        known.names.add(each.record.name)
        if each.record.zone:
            known.zones.add(each.record.zone)
    return sorted(found.values(), key=lambda each: (-each.instances, each.host, each.holder))


async def zones_of(view: View) -> list[tuple[str, int, int]]:
    """Zone → how many instances, how many of them healthy; in the order of their names."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    async for each in sliced(view):
        if each.record.zone:
            counts[each.record.zone][each.health.status.value] += 1
    healthy = Status.HEALTHY.value
    return [(zone, found.total(), found[healthy]) for zone, found in sorted(counts.items())]


def require_all(request: web.Request) -> None:
    """Raises :class:`~mcp_discovery.facade.http.problems.ProblemError` (403) for a caller that
    administers some servers only: stores and facades are of all of them."""
    if not caller_of(request).rights.grants_all("admin"):
        detail = "the topology is of all servers; ask for a role that may administer all of them"
        raise request.app[CHALLENGES].insufficient(request, "admin", detail)


async def topology_of(request: web.Request) -> dict[str, Any]:
    """The whole, in the shape of :class:`Topology`."""
    require_all(request)
    facade, view = request.app[FACADE], view_of(request)
    look, registrants = await look_at(facade.catalog.store), await registrants_of(view)
    own = facade.posted.holder
    store: dict[str, Any] = {
        "url": facade.catalog.store.url,
        "reachable": look.problem is None,
        "milliseconds": round(look.seconds * 1000, 1),
        "members": [
            {name: value for name, value in asdict(each).items() if value not in (None, "")}
            for each in look.members.members
        ],
        "datacentres": list(look.members.datacentres),
    }
    if (problem := look.problem) is not None:
        store["problem"] = problem
    if look.members.hidden is not None:
        store["hidden"] = look.members.hidden
    return {
        "facade": {
            "holder": own.public_id,
            "host": own.host,
            "version": installed_version(),
            "uptime": int(time.monotonic() - request.app[STARTED]),
            "revision": view.revision,
            "epoch": view.epoch,
        },
        "store": store,
        "registrants": [
            {
                "holder": each.holder,
                "host": each.host,
                "by": each.by,
                "isThis": each.holder == own.public_id,
                "probes": each.probes,
                "instances": each.instances,
                "statuses": dict(each.statuses),
                "names": sorted(each.names)[:_NAMES],
                "zones": sorted(each.zones),
            }
            for each in registrants
        ],
        "zones": [
            {"zone": zone, "instances": total, "healthy": healthy}
            for zone, total, healthy in await zones_of(view)
        ],
        **caveats(view),
    }


async def topology(request: web.Request) -> web.Response:
    """This facade, the members of its store with who leads and how far each is behind, and who
    keeps which instances registered, as this facade sees it now.

    Other facades are known by what they keep registered; one that keeps nothing is in no store.
    """
    return json_response(await topology_of(request))


OPERATIONS = (
    Operation(
        "GET",
        "/topology",
        topology,
        "facade",
        answers={200: Topology},
        needs="admin",
    ),
)

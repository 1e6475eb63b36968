"""The topology for people: registrants, the store they write to, and the facade that reads it."""

from __future__ import annotations

from aiohttp import web

from mcp_discovery.facade.pages.site import page, page_operation
from mcp_discovery.facade.servers.current_list import view_of
from mcp_discovery.facade.topology.topology import topology_of

#: How many registrants, and how many zones, the page shows, and how many zones of each registrant.
_MOST, _ZONES_OF_ONE = 200, 20


async def topology(request: web.Request) -> web.Response:
    """Who keeps which servers registered, in which store, and who leads there, for people."""
    found = await topology_of(request)
    return page(
        request,
        "topology.html",
        title="Topology",
        current="topology",
        facade=found["facade"],
        store=found["store"],
        registrants=[
            each | {"zones": each["zones"][:_ZONES_OF_ONE]} for each in found["registrants"][:_MOST]
        ],
        more=max(0, len(found["registrants"]) - _MOST),
        zones=found["zones"][:_MOST],
        more_zones=max(0, len(found["zones"]) - _MOST),
        view=view_of(request),
    )


OPERATIONS = (page_operation("/ui/topology", topology, needs="admin", errors=(503,)),)

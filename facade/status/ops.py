"""Health and metrics on a listener of their own, for whoever looks after the facade."""

from __future__ import annotations

from aiohttp import web

from mcp_discovery.facade.access.front_door import FacadeDoor
from mcp_discovery.facade.access.parts import PartSet, given_parts
from mcp_discovery.facade.http.client_address import TRUSTED_PROXIES
from mcp_discovery.facade.http.metrics import METRICS
from mcp_discovery.facade.http.middleware import OutermostMiddleware
from mcp_discovery.facade.http.operation import routes
from mcp_discovery.facade.http.problems import Handler
from mcp_discovery.facade.status import handlers

_PATHS = frozenset(("/health", "/ready", handlers.METRICS_PATH))
#: The application of that listener, where there is one.
OPS = web.AppKey("ops", web.Application)


def ops_app(
    app: web.Application, outermost: OutermostMiddleware, front_door: FacadeDoor, parts: PartSet
) -> web.Application:
    """Answers from the state of ``app``, for the hosts that it answers for, by all ``parts`` of it.
    Nobody is asked for a credential: what may reach its port is decided by the network.
    """

    @web.middleware
    async def see_all(request: web.Request, handler: Handler) -> web.StreamResponse:
        given_parts(request, parts)
        return await handler(request)

    ops = web.Application()
    outermost.install(ops, front_door.admit, see_all)
    ops[METRICS], ops[TRUSTED_PROXIES] = app[METRICS], app[TRUSTED_PROXIES]
    ops[handlers.STARTED] = app[handlers.STARTED]
    ops.add_routes(routes(each for each in handlers.OPERATIONS if each.path in _PATHS))
    return ops

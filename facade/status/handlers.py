"""The facade and its list at a glance: ``/capabilities``, ``/status``, ``/health``, ``/ready``."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from dataclasses import replace
from datetime import datetime
from itertools import chain
from typing import Final, Literal

import orjson
from aiohttp import web
from pydantic import Field

from mcp_discovery.adapters.catalog import Catalog
from mcp_discovery.adapters.view import Entry, View
from mcp_discovery.document import KINDS, Kind
from mcp_discovery.facade.access.caller import caller_if_known, caller_of
from mcp_discovery.facade.access.challenge import CHALLENGES
from mcp_discovery.facade.access.parts import parts_of
from mcp_discovery.facade.access.quotas import QUOTAS
from mcp_discovery.facade.documents.documents import DOCUMENTS
from mcp_discovery.facade.http.body import Shaped
from mcp_discovery.facade.http.etag import IF_NONE_MATCH, tag_of, tagged
from mcp_discovery.facade.http.metrics import METRICS
from mcp_discovery.facade.http.operation import Operation
from mcp_discovery.facade.http.pauses import Pauses, made_of_each
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.facade.options import OPTIONS
from mcp_discovery.facade.servers import list_json
from mcp_discovery.facade.servers.current_list import CATALOG, MISSED, view_of
from mcp_discovery.facade.servers.list_json import json_response
from mcp_discovery.facade.servers.search_index import MEANING
from mcp_discovery.facade.state import FACADE
from mcp_discovery.facade.usage.usage import USAGE
from mcp_discovery.health import Load, Status, rfc3339
from mcp_discovery.probe.verdict import is_usable
from mcp_discovery.record import SERVER
from mcp_discovery.telemetry.spans import are_on
from mcp_discovery.version import installed_version


class Capability(Shaped):
    """A tool, resource, prompt or skill, whoever offers it."""

    name: str
    kind: Kind | None = None
    description: str | None = None
    providers: int = Field(ge=0, description="Instances that offer it: healthy, or of stdio.")
    total_requests: int = Field(
        ge=0, description="As far as servers count them, or clients reported them here."
    )
    average_latency: float | None = Field(None, ge=0, description="Milliseconds, where known.")


class CapabilityCount(Shaped):
    """All that healthy instances offer."""

    capabilities: list[Capability]
    total_capabilities: int = Field(ge=0)
    stale_since: datetime | None = None
    problem: str | None = None
    partial: str | None = None


class Summary(Shaped):
    """How many instances have which status."""

    total: int
    healthy: int
    degraded: int
    draining: int
    down: int
    quarantined: int


class ServerStatus(Shaped):
    """One instance at a glance."""

    id: str
    name: str
    status: Status
    reason: str
    last_seen: datetime


class SkippedModel(Shaped):
    """What lies in the store and is no instance."""

    total: int
    keys: dict[str, str] = Field(description="Key → why it was skipped.")


class LimitsStatus(Shaped):
    """The common count of callers' requests: while it is away, each facade counts by itself."""

    store: str
    shared: bool
    since: datetime | None = None


class SemanticStatus(Shaped):
    """The model that ranks what is searched for by its meaning; else its words alone do."""

    model: str
    state: Literal["loading", "ready", "failed"]
    problem: str | None = None


class StatusPage(Shaped):
    """The whole list at a glance."""

    status: Literal["operational", "degraded"]
    summary: Summary
    servers: list[ServerStatus]
    missed: list[ServerStatus] = Field(
        description="Left the list without a goodbye within a day, and nobody has come instead."
    )
    store: str | None = Field(None, description="For administrators, as are the next two.")
    epoch: str
    revision: int
    held: int | None = Field(
        None, description="Instances that were ever held back from a mass drop."
    )
    skipped: SkippedModel | None = None
    stale_since: datetime | None = None
    problem: str | None = None
    partial: str | None = None
    limits: LimitsStatus | None = Field(
        None, description="Where several facades count requests together."
    )
    semantic: SemanticStatus | None = Field(None, description="Where a model is chosen.")


class RegistryCount(Shaped):
    """How many connections there are."""

    connections: int
    healthy: int
    unhealthy: int


class RecentPerformance(Shaped):
    """As far as it is known; the latency in milliseconds."""

    requests_per_second: float | None = Field(None, ge=0)
    average_latency: float | None = Field(None, ge=0)


class HealthPage(Shaped):
    """That the process lives."""

    status: Literal["healthy"]
    version: str
    uptime: int = Field(ge=0, description="Seconds.")
    registry: RegistryCount
    performance: RecentPerformance | None = None


class Ready(Shaped):
    """That a first whole list was seen."""

    status: Literal["ready"]
    stale_since: datetime | None = None
    problem: str | None = None
    partial: str | None = None


#: How many documents one request reads for their descriptions, and for how many seconds.
_MOST_READ = 16
_READ_TIMEOUT = 0.5

#: When an application was made, in seconds of the monotonic clock.
STARTED = web.AppKey("started", float)


#: Where Prometheus finds the figures.
METRICS_PATH: Final = "/metrics"


async def capabilities(request: web.Request) -> web.Response:
    """What healthy MCP servers offer, and those of stdio: each name with how many offer it, and how
    much it is used as far as clients report."""
    view = view_of(request)
    documents, usage = parts_of(request)[DOCUMENTS], parts_of(request)[USAGE]
    await usage.count()
    providers: Counter[tuple[str, str]] = Counter()
    digests: defaultdict[tuple[str, str], str] = defaultdict(str)
    used: dict[str, None] = {}
    pauses = Pauses()
    for (digest, lists), count in offers(view).items():
        await pauses.pause()
        used[digest] = None
        for kind, names in zip(KINDS, lists, strict=True):
            for name in dict.fromkeys(names):
                key = kind, name
                providers[key] += count
                # The greatest digest, so that the result does not depend on the order.
                digests[key] = max(digests[key], digest)
    used.pop("", None)
    await documents.learn(used, most=_MOST_READ, timeout=_READ_TIMEOUT)
    listed = []
    for listed_as, name in sorted(providers, key=lambda each: (each[1], each[0])):
        await pauses.pause()
        entry: dict[str, object] = {"name": name, "kind": listed_as}
        if text := documents.descriptions(digests[listed_as, name]).get((listed_as, name)):
            entry["description"] = text
        entry["providers"] = providers[listed_as, name]
        figures = usage.capability(name)
        entry["totalRequests"] = figures.requests or 0
        if figures.latency is not None:
            entry["averageLatency"] = round(figures.latency * 1000, 1)
        listed.append(entry)
    counted = {"capabilities": listed, "totalCapabilities": len(listed)}
    data = orjson.dumps(counted | list_json.caveats(view))
    return tagged(request, tag_of(data), data, {list_json.REVISION: list_json.position(view)})


async def status(request: web.Request) -> web.Response:
    """The whole at a glance: how many are how, and each with its reason.

    What concerns the store, and not what its caller sees of it, is told to those who administer
    the facade: `store`, `held` and `skipped`.
    """
    view = view_of(request)
    counts = _counts(view)
    doubtful = view.stale_since is not None or view.partial is not None
    troubled = counts["down"] or counts["degraded"] or doubtful
    now = view.as_of

    def told(entry: Entry) -> dict[str, str]:
        return {
            "id": entry.id,
            "name": entry.record.name,
            "status": entry.health.status.value,
            "reason": entry.health.reason,
            "lastSeen": rfc3339(entry.last_seen(now)),
        }

    servers = await made_of_each(sorted(view, key=lambda each: each.order), told)
    body: dict[str, object] = {
        "status": "degraded" if troubled else "operational",
        "summary": {"total": len(view), **counts},
        "servers": servers,
        "missed": [told(entry) for entry in parts_of(request)[MISSED].entries()],
        "epoch": view.epoch,
        "revision": view.revision,
    }
    if caller_of(request).rights.grants_all("admin"):
        body |= _of_store(request.app[FACADE].catalog)
        quotas = request.app.get(QUOTAS)
        if quotas is not None and (counted := quotas.status()) is not None:
            body["limits"] = counted
        if (meaning := request.app.get(MEANING)) is not None:
            body["semantic"] = meaning.status()
    body |= list_json.caveats(view)
    # All but lastSeen, which changes with the clock alone, belongs to the revision.
    tag = tag_of({name: value for name, value in body.items() if name != "servers"})
    headers = {list_json.REVISION: list_json.position(view)}
    return tagged(request, tag, lambda: orjson.dumps(body), headers)


def _of_store(catalog: Catalog) -> dict[str, object]:
    skipped = catalog.store.skipped
    return {
        "store": catalog.store.url,
        "held": catalog.held_total,
        "skipped": {"total": len(skipped), "keys": dict(skipped)},
    }


async def health(request: web.Request) -> web.Response:
    """Whether this process lives, whatever the store does."""
    view = parts_of(request)[CATALOG].view
    counts = _counts(view)
    body: dict[str, object] = {
        "status": "healthy",
        "version": installed_version(),
        "uptime": int(time.monotonic() - request.app[STARTED]),
        "registry": {
            "connections": len(view),
            "healthy": counts["healthy"],
            "unhealthy": len(view) - counts["healthy"],
        },
    }
    usage = parts_of(request)[USAGE]
    await usage.count()
    if performance := performance_of(usage.whole()):
        body["performance"] = performance
    return json_response(body)


async def ready(request: web.Request) -> web.Response:
    """Whether a first whole list was seen. A stale one is served, and said to be stale."""
    view = view_of(request)
    return json_response({"status": "ready"} | list_json.caveats(view), view)


_OPEN_METRICS = "application/openmetrics-text"


async def metrics(request: web.Request) -> web.Response:
    """Figures for Prometheus. With `--ops-port` they are on that port alone."""
    options = request.app.get(OPTIONS)
    if options is not None and options.ops_port is not None:
        detail = "the figures of this facade are on a port of their own (--ops-port)"
        raise ProblemError(404, "on-another-port", detail)
    caller = caller_if_known(request)  # on a port of their own nobody is asked
    if caller is not None and not caller.rights.grants_all("admin"):
        detail = "these figures are of all servers; ask for a role that may administer all of them"
        raise request.app[CHALLENGES].insufficient(request, "admin", detail)
    # Exemplars, which lead from a figure to a trace, are in OpenMetrics alone.
    exemplars = are_on() and _OPEN_METRICS in request.headers.get("Accept", "")
    kind = f"{_OPEN_METRICS}; version=1.0.0" if exemplars else "text/plain; version=0.0.4"
    body = request.app[METRICS].exposition(exemplars=exemplars)
    return web.Response(body=body, headers={"Content-Type": f"{kind}; charset=utf-8"})


def performance_of(figures: Load) -> dict[str, float]:
    """``requestsPerSecond`` and ``averageLatency`` (milliseconds), as far as they are known."""
    performance = {}
    if figures.rate is not None:
        performance["requestsPerSecond"] = round(figures.rate / 60, 3)
    if figures.latency is not None:
        performance["averageLatency"] = round(figures.latency * 1000, 1)
    return performance


_Offer = tuple[str, tuple[tuple[str, ...], ...]]


def offers(view: View) -> Counter[_Offer]:
    """What usable servers offer: digest and names → how many instances offer exactly that.

    Usable are the healthy ones, and those of stdio, which clients start and nobody probes.
    Instances of one version are equal, so the names are processed once for each version.
    """
    candidates = chain(
        *(view.having("status", each.value) for each in (Status.HEALTHY, Status.DEGRADED))
    )
    fit = (entry for id in candidates if is_usable((entry := view.entries[id]).health))
    indexed = (entry.record.capabilities for entry in fit if entry.record.kind == SERVER)
    return Counter((each.digest or "", each.lists()) for each in indexed)


def _counts(view: View) -> dict[str, int]:
    return {each.value: view.number("status", each) for each in Status}


_STATUS = Operation(
    "GET",
    "/status",
    status,
    "facade",
    answers={200: StatusPage, 304: None},
    parameters=(IF_NONE_MATCH,),
    needs="read",
)
OPERATIONS = (
    Operation(
        "GET",
        "/capabilities",
        capabilities,
        "discovery",
        answers={200: CapabilityCount, 304: None},
        parameters=(IF_NONE_MATCH,),
        needs="read",
    ),
    _STATUS,
    replace(_STATUS, path="/api/platform/servers", group="platform"),
    Operation(
        "GET",
        "/health",
        health,
        "facade",
        answers={200: HealthPage},
        needs="open",
    ),
    Operation(
        "GET",
        "/ready",
        ready,
        "facade",
        answers={200: Ready},
        needs="open",
    ),
    Operation(
        "GET",
        METRICS_PATH,
        metrics,
        "facade",
        media="text/plain",
        needs="admin",
    ),
)

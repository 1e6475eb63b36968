"""The list in Prometheus's HTTP service-discovery format: ``GET /sd/prometheus``.

https://prometheus.io/docs/prometheus/latest/http_sd/ — the whole list at each request, status 200,
``application/json``, every label a string. Labels that begin with ``__`` are for relabelling and
stand on no time series, so that what changes often does not make new ones.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import orjson
from aiohttp import web
from pydantic import BaseModel, RootModel

from mcp_discovery.adapters.view import Entry
from mcp_discovery.facade.access.parts import parts_of
from mcp_discovery.facade.http.etag import IF_NONE_MATCH, tag_of, tagged
from mcp_discovery.facade.http.operation import Operation
from mcp_discovery.facade.options import OPTIONS
from mcp_discovery.facade.servers.current_list import MISSED, view_of
from mcp_discovery.facade.servers.filters import list_filters, parse
from mcp_discovery.health import Status

_META = "__meta_mcp_"
_SECURE = {"https": "https", "wss": "https"}
_NO_LABEL = re.compile(r"[^a-zA-Z0-9_]")


class TargetGroup(BaseModel):
    """One instance: where it listens, and what is known of it as labels."""

    targets: list[str]
    labels: dict[str, str]


class TargetGroups(RootModel[list[TargetGroup]]):
    """All instances that have a host and a port."""


async def targets(request: web.Request) -> web.Response:
    """The instances that match the filters, as targets for Prometheus, whatever their status.

    Only records of sidecars name addresses to scrape: an entry that was posted is left out, and
    with ``--auth`` so is a lease of which nobody knows whose it is. So is what has no URL
    (``stdio``), and what is quarantined. Without ``status`` those that
    are down are targets, too: that they do not answer is what Prometheus is to see. So are those
    that left the list without a goodbye within the last day: a sidecar that the store locks out is
    among them.
    """
    view = view_of(request)
    query = parse(request, status=())
    gone = [each for each in parts_of(request)[MISSED].entries() if query.matches(each.instance)]
    known = request.app[OPTIONS].auth is not None
    # Beside the event loop: Prometheus always asks for all of them.
    body = await asyncio.to_thread(
        lambda: orjson.dumps(groups([*view.select(query), *gone], known=known))
    )
    return tagged(request, tag_of(body), body)


def groups(entries: Iterable[Entry], *, known: bool) -> list[dict[str, Any]]:
    """A target group for each of ``entries`` that is a sidecar's and has a URL.

    ``known`` says that callers show who they are, and a sidecar of the facade's own store does.
    """
    found = []
    for entry in entries:
        url, holder = entry.record.endpoint.url, entry.instance.lease.holder
        if url is None or entry.health.status is Status.QUARANTINED:
            continue
        if holder.by != "sidecar" or (known and holder.claims):
            continue
        parts = urlsplit(url)
        scheme = _SECURE.get(parts.scheme, "http")
        host = parts.hostname or ""
        port = parts.port or (443 if scheme == "https" else 80)
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        found.append({"targets": [where], "labels": {"__scheme__": scheme, **_labels(entry)}})
    return found


def _labels(entry: Entry) -> dict[str, str]:
    record = entry.record
    labels = {
        "name": record.name,
        "id": record.id,
        # Commas at both ends, so that a tag is matched by `.*,products,.*`.
        "tags": f",{','.join(record.tags)},",
        "status": entry.health.status.value,
        "version": record.version,
        "transport": record.endpoint.transport,
        "url": record.endpoint.url,
        "health_url": record.health_url,
        "zone": record.zone,
        "owner": record.owner,
    }
    labels |= {f"metadata_{_NO_LABEL.sub('_', key)}": said for key, said in record.metadata.items()}
    return {f"{_META}{name}": value for name, value in labels.items() if value is not None}


OPERATIONS = (
    Operation(
        "GET",
        "/sd/prometheus",
        targets,
        "ecosystem",
        answers={200: TargetGroups, 304: None},
        parameters=(list_filters, IF_NONE_MATCH),
        needs="read",
    ),
)

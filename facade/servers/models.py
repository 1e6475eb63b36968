"""Servers as the facade lists them, and as they are posted."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.fields import FieldInfo

from mcp_discovery.facade.http.body import Shaped
from mcp_discovery.health import Status
from mcp_discovery.record import Auth, Capabilities, Endpoint, Label, Record
from mcp_discovery.record_fields import GIVEN_FIELDS, unconstrained, with_fields

Transport = Literal["streamable-http", "sse", "websocket", "stdio", "a2a"]


class LeaseModel(Shaped):
    """Who keeps an instance registered, and on what terms."""

    holder: str
    host: str
    by: Literal["sidecar", "facade"]
    owner: str | None = Field(None, description="The caller that registered it.")
    claims: bool | None = Field(
        None, description="`true`: whoever registered it did not say who that is."
    )
    probed: bool | None = Field(None, description="`true`: this facade has found it all the same.")
    ttl: float = Field(gt=0, description="Unheard for so many seconds, it is `down`.")
    reap_after: float = Field(gt=0, description="Unheard for so many seconds, it is gone.")


class ToolUseModel(Shaped):
    """How much a tool is used."""

    requests: float | None = Field(None, description="All since the instance began to count.")
    latency: float | None = Field(None, description="Mean, in seconds.")


class LoadModel(Shaped):
    """What an instance reports of itself; what it does not know is absent."""

    active: float | None = Field(None, description="Requests in flight.")
    capacity: float | None = Field(None, description="Requests in flight that it wants at most.")
    rate: float | None = Field(None, description="Requests per minute.")
    latency: float | None = Field(None, description="Mean, in seconds.")
    p95: float | None = Field(None, description="In seconds.")
    error_rate: float | None = Field(None, description="From 0 to 1.")
    requests: float | None = Field(None, description="All since the instance began to count.")
    memory: float | None = Field(None, description="Resident, of all its processes, in bytes.")
    cpu: float | None = Field(None, description="Processor time: 1 is one core, busy.")
    running: bool | None = Field(None, description="Whether its process runs.")
    tools: dict[str, ToolUseModel] | None = Field(
        None, description="Its tools, those that were called most."
    )


def _listed(field: FieldInfo) -> tuple[Any, Any]:
    """A list leaves out what is ``None``; every other field of a record is in it."""
    kind: Any = Annotated[field.annotation, *field.metadata, None]
    return unconstrained(kind), None if field.default is None else ...


@with_fields({name: _listed(field) for name, field in Record.model_fields.items()})
class ServerModel(Shaped):
    """One instance: its record, how it is, and who keeps it registered."""

    url: str | None = Field(None, description="Absent for `stdio`.")
    transport: Transport
    status: Status
    reason: str
    since: datetime = Field(description="Since when it has had this status.")
    last_seen: datetime = Field(description="It was heard of at this moment or later.")
    lease: LeaseModel
    load: LoadModel | None = None
    why: str | None = Field(None, description="With `q`: which of its words were found, in a line.")
    stale_since: datetime | None = Field(None, description="The store is away since then.")
    problem: str | None = None
    partial: str | None = None


class SomeOfServer(Shaped):
    """One instance, or those of its fields that were asked for."""

    id: Label


class LeftOut(Shaped):
    """One instance that is not in the list, and why."""

    id: Label
    name: Label
    filters: list[str] = Field(description="The filters that it does not pass.")
    status: Status
    reason: str = Field(description="Why it has this status.")


class UnknownFilterValue(Shaped):
    """A wanted value that no server in the list has, whatever its status."""

    filter: str
    value: str
    nearest: list[str] = Field(description="The values in the list that are most like it.")


class Namesakes(Shaped):
    """A name that several servers have."""

    name: Label
    servers: list[list[str]] = Field(
        description="The ids of each server's instances; first those that calls by the name go to."
    )
    why: str = Field(description="Why they are taken for several servers.")


class ServerListModel(Shaped):
    """Servers in the order that was asked for."""

    servers: list[SomeOfServer]
    total: int | None = Field(None, description="How many match; with `limit`.")
    next_cursor: str | None = Field(None, description="Absent from the last page.")
    excluded: list[LeftOut] | None = Field(None, description="With `explain`; `limit` at most.")
    total_excluded: int | None = Field(None, description="With `explain`: how many are left out.")
    unknown_values: list[UnknownFilterValue] | None = Field(
        None, description="With `explain`: wanted values that no server has."
    )
    other_statuses: dict[Status, int] | None = Field(
        None, description="With `explain`: how many match but for their status, by status."
    )
    namesakes: list[Namesakes] | None = Field(
        None, description="With `explain`: names in the list that several servers have."
    )
    stale_since: datetime | None = Field(None, description="The store is away since then.")
    problem: str | None = Field(None, description="Why the store is away.")
    partial: str | None = Field(None, description="What the facade's credentials hide from it.")


class CapabilityLists(Shaped):
    """What one instance offers, schemas included, as MCP spells it."""

    digest: str
    tools: list[dict[str, Any]]
    resources: list[dict[str, Any]]
    resource_templates: list[dict[str, Any]]
    prompts: list[dict[str, Any]]
    skills: list[dict[str, Any]]


class LeaseTerms(Shaped):
    """That the poster sends heartbeats itself, and on what terms."""

    ttl: float = Field(ge=1, le=366 * 86400)
    reap_after: float | None = None
    holder: str | None = None
    host: str | None = None
    by: Literal["sidecar", "facade"] | None = None


class SaidHealth(Shaped):
    """What a registrant says of its health."""

    status: Status | None = None
    reason: str | None = None


_EXAMPLE: dict[str, Any] = {
    "id": "product-catalog-1",
    "name": "product-catalog",
    "url": "http://127.0.0.1:8000/mcp",
    "tags": ["products"],
}


@with_fields({name: (field.annotation, field) for name, field in GIVEN_FIELDS.items()})
class ServerPosting(Shaped):
    """A server as it is posted: a record, with a flat `url` or an `endpoint`."""

    id: Label | None = None
    url: str | None = Field(None, max_length=2048, description="Or `endpoint`.")
    endpoint: Endpoint | None = None
    tags: list[Label] = Field(default_factory=list, max_length=64)
    capabilities: Capabilities | list[str] | None = None
    document: dict[str, Any] | None = Field(None, description="The capability document.")
    auth: Auth | None = None
    metadata: dict[str, str | int | float | bool] = Field(default_factory=dict)
    health: SaidHealth | None = None
    lease: LeaseTerms | None = Field(
        None, description="That you send heartbeats; without it this facade probes the server."
    )
    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})


class RegisteredServer(Shaped):
    """The server is registered."""

    id: Label
    holder: str | None = Field(None, description="The holder that a lease without one was given.")
    warnings: list[str] | None = Field(
        None, description="What may not be as it was meant, such as a command without capabilities."
    )


class Heartbeat(Shaped):
    """A heartbeat; all of it may be left out."""

    holder: str | None = None
    status: Status | None = None
    reason: str | None = None
    load: LoadModel | None = None


class HeartbeatAnswer(Shaped):
    """The health that is known now."""

    id: Label
    status: Status
    reason: str | None = None
    ttl: float = Field(description="Seconds within which the next one has to come.")


class Held(Shaped):
    """Who asks; may be left out where the registration is anonymous."""

    holder: str | None = None


class Drained(Shaped):
    """It is listed, and offered to nobody."""

    id: Label
    status: Status

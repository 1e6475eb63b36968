"""The request bodies of the connections API, and their validation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError, create_model
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from mcp_discovery.balancing import Strategy
from mcp_discovery.document import Kind
from mcp_discovery.facade.connections.statuses import ConnectionStatus, Protocol
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.facade.registration.traits import INTERVALS, TIMEOUTS
from mcp_discovery.faults import fault_text
from mcp_discovery.health import FAIL_AFTER
from mcp_discovery.nearest import nearest
from mcp_discovery.query.filters import FILTERS, Filter
from mcp_discovery.record import at_most
from mcp_discovery.record_fields import GIVEN_FIELDS, unconstrained, with_fields

Model = TypeVar("Model", bound=BaseModel)

#: What the value is not, by pydantic's kind of error.
_NOT: Mapping[str, str] = {
    "model_type": "an object",
    "dict_type": "an object",
    "list_type": "a list",
    "string_type": "text",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "none_required": "null",
}


def parsed(model: type[Model], body: Mapping[str, Any]) -> Model:
    """``body`` as ``model``.

    Raises :class:`ProblemError` (422): ``field`` names the first field at fault, ``nearest`` the
    known one most like an unknown one.
    """
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise _refused(model, body, error) from error


def _refused(
    model: type[BaseModel], body: Mapping[str, Any], error: ValidationError
) -> ProblemError:
    faults = error.errors(include_url=False, include_input=False)
    # Of the alternatives of a union, the one that failed deepest is the one that was meant.
    fault = max(faults, key=lambda each: (len(_path(body, each)), each["type"] not in _NOT))
    path = _path(body, fault)
    field = ".".join(str(part)[:100] for part in path)[:200]
    if fault["type"] == "extra_forbidden":
        known = _members(model, fault["loc"][:-1])
        near = nearest(str(path[-1]), known)
        hint = f"did you mean {near!r}? " if near else ""
        detail = f"{field}: is not known; {hint}known are {', '.join(known)}"
        facts = {"nearest": near} if near else {}
        return ProblemError(422, "unknown-field", detail, field=field, **facts)
    nots: list[str] = []
    if fault["type"] in _NOT:
        alike = (each["type"] for each in faults if _path(body, each) == path)
        nots = list(dict.fromkeys(_NOT[kind] for kind in alike if kind in _NOT))
    problem = fault_text(fault)
    if nots:
        problem = f"is not {', '.join(nots[:-1])}{' or ' if nots[1:] else ''}{nots[-1]}"
    return ProblemError(422, "invalid-field", f"{field}: {problem}", field=field)


def _path(body: Any, fault: ErrorDetails) -> tuple[int | str, ...]:
    """The path of the fault in ``body``, without the names of the alternatives of unions."""
    path: list[int | str] = []
    for number, part in enumerate(fault["loc"]):
        last = number == len(fault["loc"]) - 1
        if isinstance(body, Mapping) and (part in body or (last and fault["type"] == "missing")):
            path.append(part)
            body = body.get(part) if isinstance(part, str) else None
        elif isinstance(body, list) and isinstance(part, int):
            path.append(part)
            body = body[part]
    return tuple(path)


def _members(model: type[BaseModel], loc: Sequence[int | str]) -> list[str]:
    """The member names of the model at ``loc`` within ``model``."""
    schema = model.model_json_schema(by_alias=True)
    within: Any = schema
    for part in loc:
        found = within.get("properties", {}).get(part) if isinstance(part, str) else None
        if found is not None:
            within = _model_in(schema, found) or within
        elif isinstance(part, str) and part in schema.get("$defs", {}):
            within = schema["$defs"][part]
    return list(within.get("properties", ()))


def _model_in(schema: Mapping[str, Any], found: Mapping[str, Any]) -> Mapping[str, Any] | None:
    for each in (found, *found.get("anyOf", ())):
        if reference := each.get("$ref"):
            model: Mapping[str, Any] = schema["$defs"][reference.rpartition("/")[2]]
            return model
    return None


Type = Literal["server", "client"]
Word = Annotated[str, Field(min_length=1, max_length=256)]
Words = Annotated[list[Word], Field(max_length=256), at_most(256)]
#: A time-out as bodies give it, in milliseconds.
Milliseconds = Annotated[float, Field(ge=1000 * TIMEOUTS[0], le=1000 * TIMEOUTS[1])]

#: How many connections one batch may name.
MOST_CHECKED = 1000


class _RequestModel(BaseModel):
    """What a client sends: no member that is not known, no type that is not right."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=False, extra="forbid", strict=True, frozen=True
    )


class HealthCheckWish(_RequestModel):
    """How the facade probes: ``interval`` in seconds, ``timeout`` in milliseconds, and after how
    many bad answers in a row it is down."""

    enabled: bool | None = None
    interval: Annotated[float, Field(ge=INTERVALS[0], le=INTERVALS[1])] | None = None
    timeout: Milliseconds | None = None
    fail_after: Annotated[int, Field(ge=FAIL_AFTER[0], le=FAIL_AFTER[-1])] | None = None


class EndpointGiven(_RequestModel):
    """``command`` and ``args``, or ``url``; ``transport`` tells SSE from streamable HTTP."""

    command: str | None = None
    args: Annotated[list[str], Field(max_length=256), at_most(256)] | None = None
    url: str | None = None
    transport: Literal["streamable-http", "sse", "websocket", "stdio", "a2a"] | None = None


class CapabilityGiven(_RequestModel):
    """A tool with what is known of it; ``schema`` is that of its input."""

    name: Word
    description: Annotated[str, Field(max_length=16384)] | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    kind: Kind = "tool"


Capabilities = Annotated[list[Word | CapabilityGiven], Field(max_length=4096), at_most(4096)]
Metadata = Annotated[
    dict[Word, str | StrictBool | int | float | None], Field(max_length=64), at_most(64)
]
Tags = Annotated[list[str], Field(max_length=64), at_most(64)]


#: The fields of a record that a connection has under the same names.
RECORD_FIELDS = {
    name: field for name, field in GIVEN_FIELDS.items() if name not in ("endpoint", "metadata")
}


def _member(field: FieldInfo) -> tuple[Any, Any]:
    """The type of a member, and its default; the record's own rules are applied later."""
    kind = unconstrained(field.annotation)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        kind = dict[str, Any]
    return kind | None, None


@with_fields({name: _member(field) for name, field in RECORD_FIELDS.items()})
class NewConnection(_RequestModel):
    """A connection to register. ``name`` is a DNS label; ``title`` is its name for people.

    ``metadata.version`` and ``metadata.owner`` are its version and owner.
    """

    name: str
    type: Type = "server"
    protocol: Protocol | None = None
    endpoint: EndpointGiven | str
    capabilities: Capabilities | None = None
    metadata: Metadata | None = None
    health_check: HealthCheckWish | None = None
    status: Literal["active", "idle"] | None = None
    tags: Tags | None = None
    era: Literal["modern", "legacy"] | None = Field(
        default=None,
        description="Set in an export where the server told its capabilities itself, so that it "
        "is asked again where it is imported.",
    )


class ConnectionPatch(_RequestModel):
    """What is to change; what is not named stays. A metadata value of ``null`` removes its key."""

    status: Literal["active", "idle"] | None = None
    metadata: Metadata | None = None
    health_check: HealthCheckWish | None = None
    capabilities: Capabilities | None = None
    tags: Tags | None = None


class DiscoverFilters(_RequestModel):
    """What connections have to be like; ``minUptime`` in seconds, ``version`` a semver range.

    Where there can be several values, one of them suffices (of ``tags`` with ``match`` ``any``).
    """

    status: ConnectionStatus | list[ConnectionStatus] | None = None
    protocol: Protocol | list[Protocol] | None = None
    type: Type = "server"
    min_uptime: Annotated[float, Field(ge=0)] | None = None
    tags: Word | Words | None = None
    match: Literal["any", "all"] = "any"

    @property
    def others(self) -> dict[str, frozenset[str]]:
        """The values of the filters that :func:`discover_body` adds from the table; one that is
        not given is left to its default."""
        found = {each.name: strings(getattr(self, each.name, None)) for each in _others()}
        return {name: values for name, values in found.items() if values}


class LoadBalancing(_RequestModel):
    """``key`` is for ``consistent-hash``: the same key is given the same connection."""

    strategy: Strategy | None = None
    max_connections: Annotated[int, Field(ge=1, le=100_000)] | None = None
    key: Annotated[str, Field(min_length=1, max_length=4096)] | None = None


class Discover(_RequestModel):
    """``capabilities``: all of them, each the name of a tool, resource, prompt or skill."""

    capabilities: Words | None = None
    filters: DiscoverFilters | None = None
    load_balancing: LoadBalancing | None = None


def strings(given: str | Iterable[str] | None) -> frozenset[str]:
    """The values of a member that may be missing, one string or several."""
    return frozenset(() if given is None else (given,) if isinstance(given, str) else given)


def discover_body() -> type[Discover]:
    """:class:`Discover` with a member of its ``filters`` for each filter of the table that has no
    word of its own in this API."""
    return _discover_body(tuple(_others()))


def _others() -> list[Filter]:
    known = {"capability", "tool", "status", "transport", *DiscoverFilters.model_fields}
    found = [each for each in FILTERS.values() if each.name not in known]
    return sorted(found, key=lambda each: (each.syntax is not None, each.name))


@lru_cache(4)
def _discover_body(others: tuple[Filter, ...]) -> type[Discover]:
    members: Any = {
        each.name: (Word | None if each.syntax else Word | Words | None, None) for each in others
    }
    filters = create_model(
        "DiscoverFilters", __base__=DiscoverFilters, __doc__=DiscoverFilters.__doc__, **members
    )
    return create_model(
        "Discover", __base__=Discover, __doc__=Discover.__doc__, filters=(filters | None, None)
    )


class CheckWish(_RequestModel):
    """``timeout`` in milliseconds."""

    timeout: Milliseconds | None = None


class BatchCheck(_RequestModel):
    """Which connections to probe, and for how many milliseconds all of them together."""

    connection_ids: Annotated[list[Word], Field(max_length=MOST_CHECKED), at_most(MOST_CHECKED)]
    timeout: Milliseconds | None = None


class Export(_RequestModel):
    """What ``GET /registry/export`` answered; only ``connections`` is needed."""

    connections: Annotated[list[dict[str, Any]], Field(max_length=20_000)]
    version: str | None = None
    exported_at: str | None = None
    total_exported: int | None = None
    documents: dict[str, dict[str, Any]] | None = None

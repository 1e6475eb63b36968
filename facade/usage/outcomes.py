"""The outcomes of calls, as clients report them: ``POST /connections/{id}/outcome``."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from mcp_discovery.facade.http.body import read_object
from mcp_discovery.facade.http.operation import Operation, Parameter
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.facade.registration.permission import entry_to_report
from mcp_discovery.facade.servers.current_list import view_of
from mcp_discovery.facade.state import facade_of
from mcp_discovery.faults import fault_text
from mcp_discovery.nearest import nearest
from mcp_discovery.query.filters import capability_names
from mcp_discovery.record import Record

_Model = TypeVar("_Model", bound=BaseModel)
#: The most outcomes in one request.
MOST_AT_ONCE = 1000
#: The longest latency that is accepted, in milliseconds: an hour.
MOST_MS = 3_600_000.0


class OutcomeModel(BaseModel):
    """How one call of a server went, as its client saw it."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    success: bool = Field(description="Whether the call did what it was made for.")
    latency: Annotated[float, Field(ge=0, le=MOST_MS, allow_inf_nan=False)] | None = Field(
        None, description="How many milliseconds it took, where that is known."
    )
    capability: Annotated[str, StringConstraints(min_length=1, max_length=256)] | None = Field(
        None, description="The tool, resource, prompt or skill that was used."
    )
    error: Annotated[str, StringConstraints(max_length=500)] | None = Field(
        None, description="What went wrong, in one sentence without secrets."
    )


class OutcomesModel(BaseModel):
    """Many outcomes at once; each also says of which instance it is."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    outcomes: Annotated[list[dict[str, Any]], Field(max_length=MOST_AT_ONCE)] = Field(
        description="Outcomes as of one call, each with the instance's `id`."
    )


async def outcome(request: web.Request) -> web.Response:
    """Counts one call of the server towards its figures and those of the capability."""
    body = await read_object(request)
    _count(request, request.match_info["id"], body)
    return web.Response(status=204)


async def outcomes(request: web.Request) -> web.Response:
    """Counts many calls at once, as clients report them every second or so.

    One that cannot be counted, because its server is gone for instance, is named in `refused` by
    its place in the list, and harms no other.
    """
    body = _parsed(OutcomesModel, await read_object(request))
    refused: list[dict[str, Any]] = []
    for number, item in enumerate(body.outcomes):
        id, rest = item.get("id"), {key: item[key] for key in item if key != "id"}
        try:
            if not isinstance(id, str):
                detail = "id: each outcome needs the id of its instance"
                raise ProblemError(422, "invalid-outcome", detail, field="id")
            _count(request, id, rest)
        except ProblemError as error:
            refused.append({"index": number, "detail": error.detail})
    return web.json_response({"counted": len(body.outcomes) - len(refused), "refused": refused})


def _count(request: web.Request, id: str, body: dict[str, Any]) -> None:
    entry = entry_to_report(request, id)
    reported = _parsed(OutcomeModel, body)
    if reported.capability is not None:
        seen = view_of(request).entries.get(id, entry)
        _require_offered(seen.record, reported.capability)
    facade_of(request).usage.outcome(
        entry.id,
        latency=None if reported.latency is None else reported.latency / 1000,
        success=reported.success,
        capability=reported.capability,
        error=reported.error,
    )


def _parsed(shape: type[_Model], body: dict[str, Any]) -> _Model:
    try:
        return shape.model_validate(body)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, fault["loc"]))[:100]
        detail = (
            f"{field}: {fault_text(fault)}; send an object such as "
            '{"latency": 120, "success": true, "capability": "search"}, latency in milliseconds'
        )
        raise ProblemError(422, "invalid-outcome", detail, field=field) from error


def _require_offered(record: Record, capability: str) -> None:
    """Raises :class:`ProblemError` for a name that ``record`` does not list.

    A record that lists no names accepts every name: the facade cannot introspect a server that
    requires credentials.
    """
    names = tuple(capability_names(record))
    if capability in names or (not names and capability.isprintable()):
        return
    near = nearest(capability, names)
    hint = f"; did you mean {near!r}?" if near else ""
    detail = f"capability: {record.id!r} does not offer {capability[:100]!r}{hint}"
    raise ProblemError(422, "unknown-capability", detail, field="capability")


_ID = Parameter("id", "The instance's id.", {"type": "string"}, where="path")
_REFUSED = {
    "type": "object",
    "properties": {"index": {"type": "integer"}, "detail": {"type": "string"}},
}
OPERATIONS = (
    *(
        Operation(
            "POST",
            path,
            outcome,
            "usage",
            parameters=(_ID,),
            body=OutcomeModel,
            answers={204: None},
            errors=(400, 404, 408, 413, 415, 422),
            needs="report",
        )
        for path in ("/connections/{id}/outcome", "/servers/{id}/outcome")
    ),
    Operation(
        "POST",
        "/outcomes",
        outcomes,
        "usage",
        body=OutcomesModel,
        answers={
            200: {
                "type": "object",
                "required": ["counted", "refused"],
                "properties": {
                    "counted": {"type": "integer"},
                    "refused": {"type": "array", "items": _REFUSED},
                },
            }
        },
        errors=(400, 408, 413, 415, 422),
        needs="report",
    ),
)

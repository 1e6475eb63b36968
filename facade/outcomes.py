"""What clients report of their calls: ``POST /connections/{id}/outcome``."""

from __future__ import annotations

import difflib
from typing import Annotated, Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from facade.bodies import read_object
from facade.operation import Operation, Parameter
from facade.problems import Refused
from facade.state import facade_of
from mcp_discovery.record import Record

#: The longest call that is believed, in milliseconds: an hour.
MOST_MS = 3_600_000.0


class Outcome(BaseModel):
    """How one call of a server went, as its client saw it."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    success: bool = Field(description="Whether the call did what it was made for.")
    latency: Annotated[float, Field(ge=0, le=MOST_MS, allow_inf_nan=False)] | None = Field(
        None, description="How many milliseconds it took, where that is known."
    )
    capability: Annotated[str, StringConstraints(min_length=1, max_length=256)] | None = Field(
        None, description="The tool, resource or prompt that was used."
    )
    error: Annotated[str, StringConstraints(max_length=500)] | None = Field(
        None, description="What went wrong, in one sentence without secrets."
    )


async def outcome(request: web.Request) -> web.Response:
    """Counts one call of the server towards its figures and those of the capability."""
    facade = facade_of(request)
    body = await read_object(request, timeout=facade.options.body_timeout)
    entry = facade.entry(request.match_info["id"])
    told = _parsed(body)
    if told.capability is not None:
        _require_offered(entry.record, told.capability)
    facade.usage.outcome(
        entry.id,
        latency=None if told.latency is None else told.latency / 1000,
        success=told.success,
        capability=told.capability,
        error=told.error,
    )
    return web.Response(status=204)


def _parsed(body: dict[str, Any]) -> Outcome:
    try:
        return Outcome.model_validate(body)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = ".".join(map(str, fault["loc"]))[:100]
        detail = (
            f"{field}: {fault['msg']}; send an object such as "
            '{"latency": 120, "success": true, "capability": "search"}, latency in milliseconds'
        )
        raise Refused(422, "invalid-outcome", detail, field=field) from error


def _require_offered(record: Record, capability: str) -> None:
    """Raises for a name that ``record`` does not list, unless it lists none at all: of a server
    that wants credentials nobody here knows what it offers."""
    offered = record.capabilities
    names = (*offered.tools, *offered.resources, *offered.prompts)
    if not names and capability.isprintable():
        return
    if capability in names:
        return
    near = difflib.get_close_matches(capability, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    detail = f"capability: {record.id!r} does not offer {capability[:100]!r}{hint}"
    raise Refused(422, "unknown-capability", detail, field="capability")


_ID = Parameter("id", "The instance's id.", {"type": "string"}, where="path")
OPERATIONS = tuple(
    Operation(
        "POST",
        path,
        outcome,
        "usage",
        parameters=(_ID,),
        body=Outcome,
        answers={204: None},
        errors=(400, 404, 408, 413, 415, 422),
    )
    for path in ("/connections/{id}/outcome", "/servers/{id}/outcome")
)

"""Validates a body against its model; a fault is reported in one sentence."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mcp_discovery.facade.http.problems import ProblemError

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
        near = difflib.get_close_matches(str(path[-1]), known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        detail = f"{field}: is not known; {hint}known are {', '.join(known)}"
        facts = {"nearest": near[0]} if near else {}
        return ProblemError(422, "unknown-field", detail, field=field, **facts)
    nots: list[str] = []
    if fault["type"] in _NOT:
        alike = (each["type"] for each in faults if _path(body, each) == path)
        nots = list(dict.fromkeys(_NOT[kind] for kind in alike if kind in _NOT))
    if fault["type"] == "missing":
        problem = "is missing"
    elif nots:
        problem = f"is not {', '.join(nots[:-1])}{' or ' if nots[1:] else ''}{nots[-1]}"
    elif fault["type"] == "literal_error":
        problem = f"is not one of {fault['ctx']['expected']}"
    else:
        problem = fault["msg"][:1].lower() + fault["msg"][1:]
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

"""The fields of the record as data: names in JSON, where values come from, types for schemas.

What lists, copies, compares or describes records is made from these, so that a new field stands in
:class:`~mcp_discovery.record.Record` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, WithJsonSchema, create_model
from pydantic.fields import FieldInfo

from mcp_discovery.record import FieldOrigin, Particulars, Record

Model = TypeVar("Model", bound=BaseModel)


def fields_from(*sources: FieldOrigin) -> dict[str, FieldInfo]:
    """The fields whose values come from one of ``sources``, by their names in Python."""
    found = {}
    for name, field in Record.model_fields.items():
        origins = [each for each in field.metadata if isinstance(each, FieldOrigin)]
        if (origins or [FieldOrigin.REGISTRANT])[0] in sources:
            found[name] = field
    return found


def json_names(fields: Mapping[str, FieldInfo]) -> tuple[str, ...]:
    """The names of ``fields`` in JSON."""
    return tuple(field.alias or name for name, field in fields.items())


#: The fields that can be posted: everything but what is observed.
GIVEN_FIELDS = fields_from(FieldOrigin.REGISTRANT, FieldOrigin.SERVER)
#: The names in JSON of these, of those that the server may give, and of those that are observed.
GIVEN = json_names(GIVEN_FIELDS)
FROM_SERVER = json_names(fields_from(FieldOrigin.SERVER))
OBSERVED = json_names(fields_from(FieldOrigin.OBSERVED))
#: The names in JSON of the fields that are mostly equal in all instances of one server.
SHARED = json_names(
    {k: each for k, each in Record.model_fields.items() if k not in Particulars.model_fields}
)


def with_fields(members: Mapping[str, Any]) -> Callable[[type[Model]], type[Model]]:
    """Adds ``members``, as :func:`pydantic.create_model` takes them, to the decorated model.

    What the model declares itself stays as it is.
    """

    def extended(model: type[Model]) -> type[Model]:
        more: Any = {key: each for key, each in members.items() if key not in model.model_fields}
        return create_model(model.__name__, __base__=model, __doc__=model.__doc__, **more)

    return extended


def unconstrained(kind: Any) -> Any:
    """The JSON type ``kind`` without its constraints, for what is checked elsewhere."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        notes = [each for each in parts[1:] if isinstance(each, WithJsonSchema)]
        plain = unconstrained(parts[0])
        return Annotated[plain, *notes] if notes else plain
    if origin in (Union, UnionType):
        return Union[tuple(map(unconstrained, parts))]  # noqa: UP007
    if origin is tuple:
        return list[unconstrained(parts[0])]  # type: ignore[misc]
    if origin is Mapping:
        return dict[unconstrained(parts[0]), unconstrained(parts[1])]  # type: ignore[misc]
    return kind

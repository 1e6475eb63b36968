"""What the files of rules, and their sections, are made from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from mcp_discovery.errors import InvalidInputError
from mcp_discovery.faults import fault_text
from mcp_discovery.yaml_files import Table, parse


def _split(value: Any) -> Any:
    return value.split() if isinstance(value, str) else value


#: Several words, as a list or separated by blanks.
Words = Annotated[list[str], BeforeValidator(_split, json_schema_input_type=str | list[str])]


class Section(BaseModel):
    """A part of the file, in which only what is known may stand."""

    model_config = ConfigDict(extra="forbid", frozen=True)


S = TypeVar("S", bound=Section)


def read_section(data: bytes, path: str, kind: type[S]) -> S:
    """What ``data``, YAML of the file at ``path``, says; raises :class:`InvalidInputError`."""
    content = parse(data, path)
    if content is not None and not isinstance(content, Table):
        raise InvalidInputError(f"{path}: is no mapping; write {next(iter(kind.model_fields))}:")
    given = content.value() if content is not None else {}
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        # Of a value that may be one of several kinds: what is wrong with it as the kind that it is.
        fault = max(error.errors(), key=lambda each: not each["type"].endswith("_type"))
        what = f"{'.'.join(_place(given, fault['loc']))} {fault_text(fault)}".lstrip()
        raise InvalidInputError(f"{path}: {what}") from error


def _place(given: Any, loc: Sequence[str | int]) -> Iterator[str]:
    """``loc`` as it stands in the file: without the kinds that a value there was tried as."""
    for number, part in enumerate(loc):
        if isinstance(given, dict) and (part in given or number == len(loc) - 1):
            given = given.get(part)
        elif isinstance(given, list) and isinstance(part, int):
            given = given[part]
        else:
            continue
        yield str(part)

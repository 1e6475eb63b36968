"""What the files of rules, and their sections, are made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from mcp_discovery.errors import InvalidInputError
from mcp_discovery.faults import fault_text
from mcp_discovery.nearest import nearest
from mcp_discovery.yaml_files import Table, parse

#: The kind of fault of a key that is not known.
_UNKNOWN = "unknown_key"
#: What is said of other kinds of values, to whom wrote the file.
_WORDS: Mapping[str, str] = {
    **dict.fromkeys(
        ("dict_type", "model_type"), "has to hold names with values (name: value) below it"
    ),
    "list_type": "has to be a list: [a, b], or lines below it that begin with -",
    "string_type": "is no text; put it in quotes",
}


def _split(value: Any) -> Any:
    return value.split() if isinstance(value, str) else value


#: Several words, as a list or separated by blanks.
Words = Annotated[list[str], BeforeValidator(_split, json_schema_input_type=str | list[str])]


class Section(BaseModel):
    """A part of the file, in which only what is known may stand."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown(cls, given: Any) -> Any:
        """Where the names that may stand there are known, which is not so where a fault is read."""
        known = cls.model_fields
        for key in given if isinstance(given, dict) else ():
            if key not in known:
                facts = {"key": key, "known": [*known]}
                raise PydanticCustomError(_UNKNOWN, "is not known", facts)
        return given


S = TypeVar("S", bound=Section)


def read_section(
    data: bytes, path: str, kind: type[S], words: Mapping[tuple[str, str], str] | None = None
) -> S:
    """What ``data``, YAML of the file at ``path``, says; raises :class:`InvalidInputError`.

    ``words`` are what is said of faults by the name of the value and pydantic's kind of fault;
    ``[key]`` is the name of a name.
    """
    content = parse(data, path)
    if content is not None and not isinstance(content, Table):
        raise InvalidInputError(f"{path}: is no mapping; write {next(iter(kind.model_fields))}:")
    given = content.value() if content is not None else {}
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        # Of a value that may be one of several kinds: what is wrong with it as the kind that it is.
        fault = max(error.errors(), key=lambda each: not each["type"].endswith("_type"))
        loc, text = fault["loc"], _text(fault, words or {})
        if fault["type"] == _UNKNOWN:
            loc = *loc, fault["ctx"]["key"]
        elif loc[-1:] == ("[key]",):
            loc = loc[:-1]
        what = f"{'.'.join(_place(given, loc))} {text}".lstrip()
        raise InvalidInputError(f"{path}: {what}") from error


def _text(fault: ErrorDetails, words: Mapping[tuple[str, str], str]) -> str:
    kind = fault["type"]
    if kind == _UNKNOWN:
        known = fault["ctx"]["known"]
        near = nearest(fault["ctx"]["key"], known)
        hint = f"did you mean {near}?" if near else f"it may be {', '.join(known)}"
        return f"is not known; {hint}"
    own = words.get((str(fault["loc"][-1]), kind)) if fault["loc"] else None
    return own or _WORDS.get(kind) or fault_text(fault)


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

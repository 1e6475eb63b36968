"""What the sections of the file of ``--auth`` are made from."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict


def _split(value: Any) -> Any:
    return value.split() if isinstance(value, str) else value


#: Several words, as a list or separated by blanks.
Words = Annotated[list[str], BeforeValidator(_split, json_schema_input_type=str | list[str])]


class Section(BaseModel):
    """A part of the file, in which only what is known may stand."""

    model_config = ConfigDict(extra="forbid", frozen=True)

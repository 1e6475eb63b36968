"""What the sections of the file of ``--auth`` are made from."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

#: Several words, as a list or separated by blanks.
Words = Annotated[str | list[str], AfterValidator(lambda v: v.split() if isinstance(v, str) else v)]


class Section(BaseModel):
    """A part of the file, in which only what is known may stand."""

    model_config = ConfigDict(extra="forbid", frozen=True)

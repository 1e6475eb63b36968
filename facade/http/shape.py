"""The base of every model of a body or an answer."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Shaped(BaseModel):
    """Camel case in JSON; further members may be there and are to be ignored."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="allow")

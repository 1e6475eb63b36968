"""A named query as it is written: what is asked, what is asked instead, and who comes first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from mcp_discovery.balancing import Strategy
from mcp_discovery.errors import InvalidInputError
from mcp_discovery.query.filters import FILTERS, InvalidFilterValueError
from mcp_discovery.query.query import Query, query_of
from mcp_discovery.query.question import MAX_TEXT, Question

#: The largest definition in bytes of JSON, and how many one store keeps at most.
MAX_DEFINITION, MAX_QUERIES = 8 * 2**10, 1000
#: How many servers an answer has at most, and unless the definition says another number.
MOST_SERVERS, USUAL_LIMIT = 1000, 100

_Value = Annotated[str, Field(min_length=1, max_length=256)]
_Values = _Value | Annotated[list[_Value], Field(min_length=1, max_length=256)]


@dataclass(frozen=True, slots=True)
class NamedQuery:
    """A query by its name, the asker's ``zone``, and its ``key`` for ``consistent-hash``."""

    name: str
    zone: str | None = None
    key: str | None = None

    @property
    def params(self) -> list[tuple[str, str]]:
        """The parameters of ``GET /queries/{name}``."""
        return [(name, text) for name in ("zone", "key") if (text := getattr(self, name))]


class _Written(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class QueryStep(_Written):
    """One question: servers that pass all ``filters``, and are found by the words of ``q``.

    ``filters`` are those of a list, by name, each one value or several; one that is left out has
    its default. ``match`` says whether any or all of the tags, and of the words, are needed.
    """

    filters: Annotated[dict[str, _Values], Field(max_length=len(FILTERS))] = Field(
        default_factory=dict, description="Filters of `GET /servers`: one value each, or several."
    )
    q: str | None = Field(
        None, min_length=1, max_length=MAX_TEXT, description="A sentence or words to find."
    )
    match: Literal["any", "all"] | None = Field(
        None, description="Whether any or all of the tags, and of the words, are needed."
    )

    @field_validator("filters")
    @classmethod
    def _known(cls, filters: Mapping[str, Any]) -> Mapping[str, Any]:
        if "match" in filters:
            raise ValueError("has no match; write it beside filters")
        try:
            query_of(filters, usual=True)
        except InvalidFilterValueError as error:
            raise ValueError(str(error)) from error
        return filters

    @field_validator("q")
    @classmethod
    def _searchable(cls, q: str | None) -> str | None:
        if q is not None and not Question(q).words:
            raise ValueError("has no word to search for; write letters or digits")
        return q

    @cached_property
    def query(self) -> Query:
        """The filters, as a view takes them."""
        return query_of({**self.filters, "match": self.match}, usual=True)


_EXAMPLE: dict[str, Any] = {
    "description": "Who takes payments",
    "filters": {"tags": ["payments"], "version": "^2"},
    "zone": "eu-1",
    "strategy": "least-loaded",
    "fallbacks": [{"filters": {"tags": ["payments"]}}],
}


class QueryDefinition(QueryStep):
    """A named query: a question, and what else is asked while that has fewer than ``least``
    answers."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    description: str = Field("", max_length=1000, description="What it is for, for people.")
    strategy: Strategy | None = Field(
        None, description="Who is named first; without it by relevance to `q`, else by name."
    )
    limit: int = Field(USUAL_LIMIT, ge=1, le=MOST_SERVERS, description="So many at most.")
    zone: str | None = Field(
        None,
        min_length=1,
        max_length=256,
        description="Servers of this zone come first; an asker's `zone` takes its place.",
    )
    least: int = Field(
        1, ge=1, le=MOST_SERVERS, description="With fewer servers than this the next is asked."
    )
    fallbacks: Annotated[list[QueryStep], Field(max_length=8)] = Field(
        default_factory=list, description="Asked in this order."
    )

    @property
    def steps(self) -> tuple[QueryStep, ...]:
        """All that is asked, in order."""
        return (self, *self.fallbacks)

    def encode(self) -> bytes:
        """The definition in JSON, without what is as usual.

        Raises :class:`InvalidInputError` for one that is too large.
        """
        data = self.model_dump_json(exclude_defaults=True).encode()
        if len(data) > MAX_DEFINITION:
            raise InvalidInputError(
                f"the definition has {len(data):,} bytes, and may have {MAX_DEFINITION:,}; name "
                "fewer values"
            )
        return data

    @classmethod
    def decode(cls, data: bytes) -> QueryDefinition:
        """Reads what :meth:`encode` wrote; raises :class:`ValueError` for anything else."""
        if len(data) > MAX_DEFINITION:
            raise ValueError(f"it has {len(data):,} bytes")
        return cls.model_validate_json(data)

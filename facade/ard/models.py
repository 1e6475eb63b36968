"""The bodies of the ARD registry API, as section 5.3 of ARD v0.91 has them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool
from pydantic.alias_generators import to_camel

from mcp_discovery.facade.http.body import Shaped
from mcp_discovery.health import Status
from mcp_discovery.record import at_most

#: How many entries a page has at most; more that are wanted are that many.
MOST_ENTRIES = 100
_MOST_TERMS = 64
_Key = Annotated[str, Field(min_length=1, max_length=512)]
_Value = Annotated[str, Field(max_length=2048)] | StrictBool | int | float
_Values = Annotated[list[_Value], Field(max_length=256), at_most(256)]
_Token = Annotated[str, Field(max_length=4096)]


class _Given(BaseModel):
    """What a client sends: no member that is not known, no type that is not right."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=False, extra="forbid", strict=True, frozen=True
    )


class ArdQuery(_Given):
    """Which entries are wanted: by what they are for, and by their terms."""

    context: dict[str, Any] | list[Any] | str | None = Field(None, alias="@context")
    text: Annotated[str, Field(max_length=1000)] | None = None
    filter: (
        Annotated[dict[_Key, _Value | _Values], Field(max_length=_MOST_TERMS), at_most(_MOST_TERMS)]
        | None
    ) = Field(
        None,
        description="Term → values: one of each. Only `healthy` ones without `health`, which is "
        "`healthy`, `degraded`, `draining`, `down`, `quarantined` or `all`.",
    )


class ArdTextQuery(ArdQuery):
    """The same, where words are needed."""

    text: Annotated[str, Field(min_length=1, max_length=1000)]


class ArdSearch(_Given):
    """Entries for a need, the best first."""

    query: ArdTextQuery
    federation: Literal["auto", "referrals", "none"] | None = None
    page_size: int | None = Field(
        None, ge=1, description=f"10 unless it is given, and {MOST_ENTRIES} at most."
    )
    page_token: _Token | None = None


class ArdFacet(_Given):
    """A term whose values are counted."""

    field: _Key
    limit: int | None = Field(None, ge=1, description="20 unless it is given.")
    min_count: int | None = Field(None, ge=0)


class ArdResultType(_Given):
    """What is made of the entries."""

    facets: Annotated[list[ArdFacet], Field(min_length=1, max_length=32), at_most(32)]


class ArdExplore(_Given):
    """How many entries have which values."""

    query: ArdQuery | None = None
    result_type: ArdResultType


class ArdError(Shaped):
    """What went wrong, in one sentence."""

    error_code: str
    message: str


class ArdTerms(Shaped):
    """What an entry may say besides its identifier."""

    context: Any = Field(None, alias="@context")
    identifier: str = Field(pattern=r"^urn:air:[a-zA-Z0-9.-]+(:[a-zA-Z0-9._-]+)+$")
    display_name: str
    type: str
    url: str
    description: str | None = None
    capabilities: list[str] = Field(default_factory=list)
    tags: list[str] = Field(default_factory=list)
    version: str | None = None
    updated_at: datetime | None = None
    metadata: dict[str, str] = Field(default_factory=dict)
    health: Status = Field(description="That of its best instance.")
    health_reason: str | None = None
    health_since: datetime | None = None


class ArdEntryModel(ArdTerms):
    """One server."""

    representative_queries: list[str] = Field(default_factory=list)


class ArdResult(ArdTerms):
    """One server, and how well it fits. The score is no judgement of trust or safety."""

    score: int = Field(ge=0, le=100)
    why: str = Field(description="Which words were found.")
    source: str


class ArdResults(Shaped):
    """A page of results."""

    results: list[ArdResult]
    referrals: list[Any] | None = Field(None, description="This registry knows no others.")
    page_token: str | None = None


class ArdList(Shaped):
    """A page of entries."""

    items: list[ArdEntryModel]
    total: int = Field(ge=0)
    page_token: str | None = None


class ArdBucket(Shaped):
    """A value, and how many entries have it."""

    value: str
    count: int = Field(ge=0)


class ArdBuckets(Shaped):
    """The values of a term, the most frequent first."""

    buckets: list[ArdBucket]
    other_count: int | None = Field(None, ge=0)


class ArdFacets(Shaped):
    """The values of terms."""

    result_type: Literal["facets"]
    facets: dict[str, ArdBuckets]


class ArdHost(Shaped):
    """Who publishes the manifest."""

    display_name: str
    identifier: str | None = None
    documentation_url: str | None = None


class ArdManifest(Shaped):
    """What is published here."""

    spec_version: str
    host: ArdHost
    entries: list[ArdEntryModel]

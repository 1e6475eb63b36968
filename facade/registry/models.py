"""The answers of the MCP registry API, as its OpenAPI document of 2025-12-01 has them, with the
``statusMessage`` that was added to it since."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mcp_discovery.facade.http.body import Shaped
from mcp_discovery.facade.registry.entries import LIVE, OFFICIAL
from mcp_discovery.health import Status


class RegistryError(Shaped):
    """What went wrong, in one sentence."""

    error: str


class RegistryOfficial(BaseModel):
    """What the registry says of an entry."""

    model_config = ConfigDict(extra="forbid")

    status: Literal["active", "deleted"]
    statusMessage: str | None = Field(
        None, max_length=500, description="Why it is deleted, or how it is if it is not healthy."
    )
    statusChangedAt: datetime
    publishedAt: datetime
    updatedAt: datetime
    isLatest: bool


class RegistryLive(Shaped):
    """How a server is: as well as the best of its instances."""

    status: Status
    reason: str
    since: datetime
    instances: dict[str, int] = Field(description="How many there are, by status.")
    tags: list[str]
    zones: list[str] = Field(default_factory=list)
    last_seen: datetime


class RegistryMeta(Shaped):
    """What is said of an entry beside its `server.json`."""

    official: RegistryOfficial = Field(alias=OFFICIAL)
    live: RegistryLive | None = Field(
        None, alias=LIVE, description="This facade's own; absent from one that is deleted."
    )


class RegistryServerJson(Shaped):
    """A `server.json` of 2025-12-11."""

    name: str = Field(pattern="^[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+$", min_length=3, max_length=200)
    description: str = Field(min_length=1, max_length=100)
    version: str = Field(max_length=255)
    title: str | None = Field(None, min_length=1, max_length=100)
    website_url: str | None = None
    icons: list[dict[str, Any]] = Field(default_factory=list)
    remotes: list[dict[str, Any]] = Field(default_factory=list)


class RegistryEntry(Shaped):
    """One version of a server."""

    server: RegistryServerJson
    meta: RegistryMeta = Field(alias="_meta")


class RegistryMetadata(Shaped):
    """Where the next page begins, and how many entries this one has."""

    count: int = Field(ge=0)
    next_cursor: str | None = Field(None, pattern="^[A-Za-z0-9._~-]+$")


class RegistryList(Shaped):
    """A page of entries."""

    servers: list[RegistryEntry]
    metadata: RegistryMetadata


class CatalogEntry(Shaped):
    """Where one artifact is."""

    identifier: str
    type: str
    url: str
    updated_at: datetime | None = None
    tags: list[str] = Field(default_factory=list)


class CatalogHost(Shaped):
    """Who runs the catalog."""

    display_name: str
    identifier: str | None = Field(None, description="A domain, where `--public-url` has one.")
    documentation_url: str


class AiCatalog(Shaped):
    """What there is to be found here."""

    spec_version: str
    host: CatalogHost
    entries: list[CatalogEntry]


class ServerCard(Shaped):
    """A server card, version 1."""

    schema_: str = Field(alias="$schema")
    name: str
    description: str
    version: str
    title: str | None = None
    remotes: list[dict[str, Any]] = Field(default_factory=list)


class AgentCardModel(Shaped):
    """An A2A agent's card: these members, and whatever else the agent says (A2A, 4.4.1)."""

    name: str
    skills: list[dict[str, Any]]

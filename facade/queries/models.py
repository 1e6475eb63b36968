"""Named queries and their answers, as the API has them."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from mcp_discovery.facade.http.body import Shaped
from mcp_discovery.facade.servers.models import ServerListModel
from mcp_discovery.query.definition import QueryDefinition


class KeptQuery(Shaped):
    """A named query. Who sees all servers, or may change it, sees its definition, too."""

    name: str
    description: str = Field(description="What it is for.")
    etag: str | None = Field(None, description="The version of the definition, for `If-Match`.")
    definition: QueryDefinition | None = None
    problem: str | None = Field(None, description="Why it cannot be read, where it cannot.")


class _OfDefinitions(Shaped):
    definitions_stale_since: datetime | None = Field(
        None, description="The store is away, and the queries are those of then."
    )
    definitions_problem: str | None = None


class KeptQueries(_OfDefinitions):
    """All named queries, by name."""

    queries: list[KeptQuery]


class NamedQueryAnswer(ServerListModel, _OfDefinitions):
    """The servers that a named query found."""

    query: str = Field(description="The name.")
    answered_by: int | None = Field(
        description="0: the question itself; n: its nth fall-back; null: none found any server."
    )
    in_zone: int | None = Field(
        None, description="How many of the servers, the first ones, are of the wanted zone."
    )

"""The responses of ``/tools`` and ``/tools/{name}``."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from mcp_discovery.facade.http.body import Shaped


class ListedTool(Shaped):
    """One tool, whoever offers it, as most of those who offer it describe it."""

    name: str
    title: str | None = None
    description: str | None = None
    servers: int = Field(ge=1, description="Servers that offer it, replicas counted once.")
    providers: int = Field(ge=1, description="Instances that offer it.")
    instances: list[str] = Field(description="Ids of instances that offer it, 20 at most.")
    variants: int = Field(
        ge=0, description="Different spellings of it that were read; 0 where none could be."
    )
    input_schema: dict[str, Any] | bool | None = Field(
        None, description="With `schema=true`, where it is known."
    )


class ToolListModel(Shaped):
    """Tools in the order of their names or, with `q`, the best first."""

    tools: list[ListedTool]
    total_tools: int = Field(ge=0, description="How many there are, listed or not.")
    unread: int = Field(ge=0, description="Capability documents that could not be read in time.")
    stale_since: datetime | None = None
    problem: str | None = None


class Variant(Shaped):
    """One spelling of a tool, and who spells it so."""

    digest: str = Field(description="SHA-256 of the tool's canonical JSON.")
    tool: dict[str, Any] = Field(description="The tool as MCP spells it.")
    input_schema: Any = Field(None, alias="schema", description="Its `inputSchema`.")
    differs: list[str] = Field(description="Its members that are not as in the first variant.")
    servers: list[str] = Field(description="Names of servers.")
    instances: list[str] = Field(description="Ids of instances.")


class ToolDetail(Shaped):
    """Who offers one tool, and whether all of them spell it alike."""

    name: str
    title: str | None = None
    description: str | None = None
    servers: list[str] = Field(description="Names of servers that offer it.")
    providers: int = Field(ge=1)
    instances: list[str] = Field(description="Ids of instances that offer it.")
    consistent: bool = Field(description="Whether all that could be read spell it alike.")
    variants: list[Variant] = Field(description="That of most instances first.")
    odd: list[str] = Field(description="Ids of instances that spell it unlike the first variant.")
    inconsistent_servers: list[str] = Field(
        description="Names of servers whose own replicas do not spell it alike."
    )
    unknown: list[str] = Field(description="Ids of instances whose spelling could not be read.")
    unread: int = Field(ge=0, description="Capability documents that could not be read in time.")
    stale_since: datetime | None = None
    problem: str | None = None

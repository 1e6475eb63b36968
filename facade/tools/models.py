"""What ``/tools``, ``/skills`` and each of their names answer, as models."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from mcp_discovery.facade.http.body import Shaped


class _Listed(Shaped):
    name: str
    title: str | None = None
    description: str | None = None
    servers: int = Field(ge=1, description="Servers that offer it, replicas counted once.")
    providers: int = Field(ge=1, description="Instances that offer it.")
    instances: list[str] = Field(description="Ids of instances that offer it, 20 at most.")
    variants: int = Field(
        ge=0, description="Different spellings of it that were read; 0 where none could be."
    )
    server: str | None = Field(None, description="With `q`: the server whose fits best.")
    why: str | None = Field(None, description="With `q`: which of its words were found, in a line.")


class ListedTool(_Listed):
    """One tool, whoever offers it, as most of those who offer it describe it."""

    input_schema: dict[str, Any] | bool | None = Field(
        None, description="With `schema=true`, where it is known."
    )


class ListedSkill(_Listed):
    """One skill, whoever has it, as most of those who have it describe it."""

    uri: str | None = Field(None, description="Of its SKILL.md, where it is known.")


class _List(Shaped):
    unread: int = Field(ge=0, description="Capability documents that could not be read in time.")
    stale_since: datetime | None = None
    problem: str | None = None
    partial: str | None = None


class ToolListModel(_List):
    """Tools in the order of their names or, with `q`, the best first."""

    tools: list[ListedTool]
    total_tools: int = Field(ge=0, description="How many there are, listed or not.")


class SkillList(_List):
    """Skills in the order of their names or, with `q`, the best first."""

    skills: list[ListedSkill]
    total_skills: int = Field(ge=0, description="How many there are, listed or not.")


class _Variant(Shaped):
    digest: str = Field(description="SHA-256 of its canonical JSON.")
    differs: list[str] = Field(description="Its members that are not as in the first variant.")
    servers: list[str] = Field(description="Names of servers.")
    instances: list[str] = Field(description="Ids of instances.")


class Variant(_Variant):
    """One spelling of a tool, and who spells it so."""

    tool: dict[str, Any] = Field(description="The tool as MCP spells it.")
    input_schema: Any = Field(None, alias="schema", description="Its `inputSchema`.")


class SkillVariant(_Variant):
    """One form of a skill, and who has it so: the digest of one of its files may differ."""

    skill: dict[str, Any] = Field(description="The entry of `skills/list`, with its files.")


class _Detail(Shaped):
    name: str
    title: str | None = None
    description: str | None = None
    servers: list[str] = Field(description="Names of servers that offer it.")
    providers: int = Field(ge=1)
    instances: list[str] = Field(description="Ids of instances that offer it.")
    consistent: bool = Field(description="Whether all that could be read spell it alike.")
    odd: list[str] = Field(description="Ids of instances that spell it unlike the first variant.")
    inconsistent_servers: list[str] = Field(
        description="Names of servers whose own replicas do not spell it alike."
    )
    unknown: list[str] = Field(description="Ids of instances whose spelling could not be read.")
    unread: int = Field(ge=0, description="Capability documents that could not be read in time.")
    stale_since: datetime | None = None
    problem: str | None = None
    partial: str | None = None


class ToolDetail(_Detail):
    """Who offers one tool, and whether all of them spell it alike."""

    variants: list[Variant] = Field(description="That of most instances first.")


class SkillDetail(_Detail):
    """Who has one skill, and whether it is the same everywhere, each of its files included."""

    uri: str | None = Field(None, description="Of its SKILL.md in the first variant.")
    variants: list[SkillVariant] = Field(description="That of most instances first.")

"""What a server offers, and how the pages of its lists are understood."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from mcp_discovery.document import text_of
from mcp_discovery.probe.errors import BadAnswerError
from mcp_discovery.probe.messages import SKILLS_EXTENSION, result_of

if TYPE_CHECKING:
    from mcp_discovery.probe.agent_card import AgentCard


@dataclass(frozen=True, slots=True)
class Introspection:
    """All that one server offers.

    Attributes:
        era: ``modern`` or ``legacy``; None for an agent.
        versions: protocol versions that the server supports, as far as known; a legacy server
            tells only the negotiated one.
        server_info, instructions, capabilities: as in its ``server/discover`` or ``initialize``.
        tools, resources, resource_templates, prompts, skills: all pages, each item as MCP spells
            it, in the server's order.
        findings: what is wrong with the server's answers and was read all the same.
        unread: the lists that could not be read, which are as they were read before; empty where
            all were read.
        card: the agent's, where it is one; what MCP servers offer is empty then.
    """

    era: str | None
    versions: tuple[str, ...]
    server_info: dict[str, Any]
    instructions: str | None
    capabilities: dict[str, Any]
    tools: tuple[dict[str, Any], ...]
    resources: tuple[dict[str, Any], ...]
    resource_templates: tuple[dict[str, Any], ...]
    prompts: tuple[dict[str, Any], ...]
    skills: tuple[dict[str, Any], ...] = ()
    findings: tuple[str, ...] = ()
    unread: tuple[UnreadList, ...] = ()
    card: AgentCard | None = None


@dataclass(frozen=True, slots=True)
class UnreadList:
    """A list that could not be read: what it lists, such as ``resource templates``, and why not."""

    noun: str
    reason: str
    wants_credentials: bool = False


@dataclass(frozen=True, slots=True)
class McpListing:
    """One of MCP's lists: what it lists, how it is asked for and what names its items.

    ``capability`` is what a server declares that has it, and says that it has changed; one of an
    ``extension`` is there where that is declared, and nowhere else.
    """

    noun: str
    capability: str
    method: str
    items_key: str
    name_key: str
    extension: str = ""

    def is_declared(self, capabilities: Mapping[str, Any]) -> bool:
        """Whether a server with these ``capabilities`` says that it has the list."""
        if not self.extension:
            return self.capability in capabilities
        extensions = capabilities.get("extensions")
        return isinstance(extensions, dict) and self.extension in extensions


TOOLS = McpListing("tools", "tools", "tools/list", "tools", "name")
RESOURCES = McpListing("resources", "resources", "resources/list", "resources", "uri")
RESOURCE_TEMPLATES = McpListing(
    "resource templates",
    "resources",
    "resources/templates/list",
    "resourceTemplates",
    "uriTemplate",
)
PROMPTS = McpListing("prompts", "prompts", "prompts/list", "prompts", "name")
#: The lists of MCP itself.
BASE_LISTINGS = (TOOLS, RESOURCES, RESOURCE_TEMPLATES, PROMPTS)
#: SEP-2640. It has no notification of its own: the files of skills are resources.
SKILLS = McpListing("skills", "resources", "skills/list", "skills", "uri", SKILLS_EXTENSION)
LISTINGS = (*BASE_LISTINGS, SKILLS)


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page as it was read."""

    items: tuple[dict[str, Any], ...]
    next_cursor: str | None
    findings: tuple[str, ...]

    def same_items(self, other: ListPage) -> bool:
        """Whether both hold the same, wherever they go on."""
        return self.items == other.items and self.findings == other.findings


def read_page(message: dict[str, Any], listing: McpListing) -> ListPage:
    """Read one page without what no reader could use; raises BadAnswerError when it is none."""
    result = result_of(message, listing.method)
    listed = result.get(listing.items_key)
    findings: Counter[str] = Counter()
    if listed is None:
        findings[f"{listing.method} answered without {listing.items_key!r}"] += 1
        listed = []
    if not isinstance(listed, list):
        raise BadAnswerError(
            f"answered, but not MCP: {listing.items_key!r} in the result of {listing.method} "
            "is not a list"
        )
    items: list[dict[str, Any]] = []
    for item in listed:
        if not isinstance(item, dict):
            findings[f"{listing.method}: dropped an item that is not an object"] += 1
        elif not isinstance(name := item.get(listing.name_key), str) or not name:
            findings[f"{listing.method}: dropped an item without {listing.name_key!r}"] += 1
        elif not encodable(item):
            findings[f"{listing.method}: dropped an item nested too deeply"] += 1
        else:
            items.append(item)
            if listing is TOOLS and not isinstance(item.get("inputSchema"), dict):
                findings["tools/list: kept a tool without an 'inputSchema' object"] += 1
            if listing is SKILLS and not text_of(item, "name"):
                findings["skills/list: kept a skill without a 'name' in its 'frontmatter'"] += 1
    cursor = result.get("nextCursor")
    if cursor is not None and not isinstance(cursor, str):
        findings[f"{listing.method}: ignored a 'nextCursor' that is not a string"] += 1
        cursor = None
    return ListPage(tuple(items), cursor or None, counted(findings))


def joined(
    listing: McpListing, pages: Sequence[ListPage]
) -> tuple[tuple[dict[str, Any], ...], list[str]]:
    """Put the pages of one list together; of items with one name, the first counts."""
    seen: set[str] = set()
    items: list[dict[str, Any]] = []
    findings: list[str] = []
    repeated = 0
    for page in pages:
        findings.extend(page.findings)
        for item in page.items:
            name = item[listing.name_key]
            if name in seen:
                repeated += 1
            else:
                seen.add(name)
                items.append(item)
    if repeated:
        findings.append(
            f"{listing.method}: dropped {repeated} with the {listing.name_key!r} of an earlier item"
        )
    return tuple(items), findings


def counted(findings: Counter[str]) -> tuple[str, ...]:
    """Spell each finding once, with how often it was made."""
    return tuple(
        text if times == 1 else f"{text} ({times} times)" for text, times in findings.items()
    )


def encodable(value: Any) -> bool:
    """Whether ``value`` can be written as JSON again: orjson reads deeper than it writes."""
    try:
        orjson.dumps(value)
    except orjson.JSONEncodeError:
        return False
    return True

"""Which servers a tool of the facade's looks at: the filters that its arguments set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from mcp_discovery.adapters.view import View
from mcp_discovery.facade.http.parameters import nearest
from mcp_discovery.facade.mcp.tool import InvalidArgumentsError, strings
from mcp_discovery.facade.servers.filters import TRANSPORTS
from mcp_discovery.health import Status
from mcp_discovery.query.query import Query
from mcp_discovery.query.search import words
from mcp_discovery.query.versions import VersionRange

_STATUSES = (*(each.value for each in Status), "all")

#: The filters that every tool has.
FILTERS: Final[Mapping[str, Any]] = {
    "tags": strings(
        "Only servers with these tags, such as ['products']. With match 'any' (the default) one "
        "of them is enough."
    ),
    "match": {
        "type": "string",
        "enum": ["any", "all"],
        "default": "any",
        "description": "Whether a server needs any or all of the tags.",
    },
    "status": strings(
        "Only servers in one of these states. Leave it out for the healthy ones, which are those "
        "you can use; 'all' also shows why others cannot be used.",
        enum=list(_STATUSES),
    ),
}
#: … and those that only a list of servers has.
SERVER_FILTERS: Final[Mapping[str, Any]] = {
    "capability": strings(
        "Only servers that offer all of these, each the exact name of a tool, resource or prompt."
    ),
    "tool": strings("Only servers that offer all of these tools, by their exact names."),
    "name": strings("Only servers with one of these exact names, such as 'product-catalog'."),
    "version": {
        "type": "string",
        "maxLength": 200,
        "description": "Only this range of semantic versions, such as '>=1.2,<2' or '^1.2'.",
    },
    "transport": strings("Only servers with one of these transports.", enum=list(TRANSPORTS)),
}
#: How words are asked for.
WORDS: Final[dict[str, Any]] = {"type": "string", "minLength": 1, "maxLength": 1000}
_MOST_WORDS = 32


def query_of(given: Mapping[str, Any]) -> Query:
    """The filters in arguments that are right; raises :class:`InvalidArgumentsError` for a bad
    range."""
    statuses = given.get("status") or [Status.HEALTHY.value]
    return Query(
        tags=frozenset(tag.lower() for tag in given.get("tags") or ()),
        any_tag=given.get("match") != "all",
        statuses=frozenset() if "all" in statuses else frozenset(map(Status, statuses)),
        capabilities=frozenset(given.get("capability") or ()),
        tools=frozenset(given.get("tool") or ()),
        names=frozenset(given.get("name") or ()),
        transports=frozenset(given.get("transport") or ()),
        versions=_versions(given.get("version")),
    )


def words_of(text: str | None) -> tuple[str, ...]:
    """The words in ``text``; raises :class:`InvalidArgumentsError` where it has none, or too
    many."""
    if text is None:
        return ()
    found = tuple(dict.fromkeys(words(text)))
    if not found:
        raise InvalidArgumentsError(
            f"q is {text[:50]!r}, which has no word; write letters or digits"
        )
    if len(found) > _MOST_WORDS:
        raise InvalidArgumentsError(
            f"q has {len(found)} words; {_MOST_WORDS} at most, the best ones"
        )
    return found


def why_nothing(view: View, query: Query) -> str:
    """What to change where nothing is found: names that nobody has, or who is not healthy."""
    for what, index, wanted in (
        ("tag", "tag", query.tags),
        ("tool", "tool", query.tools),
        ("tool, resource or prompt", "capability", query.capabilities),
        ("name", "name", query.names),
    ):
        known = view.keys(index)
        for each in sorted(wanted):
            if each not in known:
                return f"No server has the {what} {each!r}{_perhaps(each, known)}"
    if not len(view):
        return "No server is registered at all."
    if query.statuses:
        return (
            "Nothing matches. Use fewer filters or words, or status ['all'] to see also the "
            "servers that cannot be used now."
        )
    return "Nothing matches. Use fewer filters or words."


def _perhaps(name: str, known: Iterable[str]) -> str:
    near = nearest(name, sorted(known)[:10_000])
    return f"; did you mean {near!r}?" if near else "."


def _versions(text: str | None) -> frozenset[VersionRange]:
    if not text:
        return frozenset()
    try:
        return frozenset({VersionRange.parse(text)})
    except ValueError as error:
        raise InvalidArgumentsError(
            f"version {text[:100]!r} is no range of versions; write for example '>=1.2,<2'"
        ) from error

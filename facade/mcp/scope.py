"""The filters of the facade's own tools: their arguments, and the query that these make."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from mcp_discovery.adapters.view import View
from mcp_discovery.facade.http.parameters import nearest
from mcp_discovery.facade.mcp.tool import InvalidArgumentsError, strings
from mcp_discovery.query.filters import FILTERS, Filter, InvalidFilterValueError
from mcp_discovery.query.query import Query
from mcp_discovery.query.search import words
from mcp_discovery.query.versions import MAX_RANGE


def filter_arguments(*, find_tools: bool = False) -> dict[str, Any]:
    """The JSON Schema of the arguments that set filters; for ``find_tools`` those that it has."""
    offered = [each for each in FILTERS.values() if each.argument is not None]
    found: dict[str, Any] = {}
    for each in sorted(offered, key=lambda each: not each.in_find_tools):
        if find_tools and not each.in_find_tools:
            continue
        found[each.name] = filter_argument(each)
        if (mode := each.mode) is not None:
            found[mode.name] = {
                "type": "string",
                "enum": list(mode.choices),
                "default": mode.choices[0],
                "description": mode.argument,
            }
    return found


def filter_argument(filter: Filter) -> dict[str, Any]:
    """The JSON Schema of the argument that sets one filter."""
    description = filter.argument or f"Only servers: {filter.help}"
    if filter.syntax is not None:
        return {"type": "string", "maxLength": MAX_RANGE, "description": description}
    if filter.allowed:
        return strings(description, enum=list(filter.allowed))
    return strings(description)


#: The JSON Schema of the words to search for.
WORDS: Final[dict[str, Any]] = {"type": "string", "minLength": 1, "maxLength": 1000}
_MOST_WORDS = 32


def query_of(given: Mapping[str, Any]) -> Query:
    """The query that checked arguments make; raises :class:`InvalidArgumentsError` for a bad
    range."""
    wanted: dict[str, Any] = {}
    for each in FILTERS.values():
        value = given.get(each.name)
        if not value:
            continue
        try:
            wanted[each.name] = each.values([value] if isinstance(value, str) else value)
        except InvalidFilterValueError as error:
            raise InvalidArgumentsError(
                f"{each.name} {error.text[:100]!r} is no {error.syntax.noun}; write for example "
                f"{error.syntax.examples[0]!r}"
            ) from error
    return Query(match=given.get("match") or "any", **wanted)


def words_of(text: str | None) -> tuple[str, ...]:
    """The words in ``text``; raises :class:`InvalidArgumentsError` for none or too many."""
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
    """What to change where nothing matches: a value that no server has, or the status."""
    for each, wanted, _ in query.indexed():
        if each.choices or each.syntax is not None:
            continue
        known = view.keys(each.name)
        for value in sorted(wanted):
            if value not in known:
                return (
                    f"No server has the {each.noun or each.name} {value!r}{_perhaps(value, known)}"
                )
    if not len(view):
        return "No server is registered at all."
    if query["status"]:
        return (
            "Nothing matches. Use fewer filters or words, or status ['all'] to see also the "
            "servers that cannot be used now."
        )
    return "Nothing matches. Use fewer filters or words."


def _perhaps(name: str, known: Iterable[str]) -> str:
    near = nearest(name, sorted(known)[:10_000])
    return f"; did you mean {near!r}?" if near else "."

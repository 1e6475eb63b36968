"""The terms of ARD entries by which a search, a list or facets are restricted.

Sections 5.3.1 (the query model) and Appendix A (filter expressions) of ARD v0.91.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mcp_discovery.facade.ard.entries import BASE_CONTEXT, HEALTH_TERMS, OWN_TERMS, ArdEntry
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.facade.registry.identifiers import canonical
from mcp_discovery.health import rfc3339
from mcp_discovery.nearest import nearest
from mcp_discovery.query.filters import ALL, FILTERS
from mcp_discovery.record import parse_moment

_NAMESPACE = "https://agenticresourcediscovery.org/ns#"
#: The terms of ARD itself that entries here may carry, and ``publisher``, which is a part of the
#: identifier.
_CORE = (
    *("identifier", "displayName", "type", "description", "tags", "capabilities"),
    *("representativeQueries", "version", "updatedAt", "metadata", "trustManifest", "publisher"),
)
_BASE: Mapping[str, str] = {
    **{term: _NAMESPACE + term for term in _CORE},
    **{term: OWN_TERMS + term for term in HEALTH_TERMS},
}
_TERMS = {iri: term for term, iri in _BASE.items()}
#: Members whose own members are paths in JSON, and no terms.
_OPEN = frozenset(("metadata", "trustManifest"))
_HEALTH = FILTERS["status"]


def resolved(keys: Iterable[str], context: Any = None) -> dict[str, str]:
    """The path in an entry that each of ``keys`` means in a query with the ``@context``
    ``context``.

    A term is compared by its IRI, whatever prefix it is written with. Raises :class:`ProblemError`
    (400) for one that no entry here can carry, and for a context that cannot be used.
    """
    if not (found := dict.fromkeys(keys, "")):
        return found
    known = dict(_BASE)
    for part in context if isinstance(context, list) else [context]:
        known |= _definitions(part)
    return {key: _path(key, known) for key in found}


def _path(key: str, known: Mapping[str, str]) -> str:
    term, dot, rest = (key, "", "") if "://" in key else key.partition(".")
    found = _TERMS.get(_iri(term, known))
    if found is None or (rest and found not in _OPEN):
        near = nearest(key, tuple(_BASE))
        hint = f"did you mean {near!r}? " if near else ""
        detail = f"{key[:100]!r} is no term of the entries here; {hint}use one of "
        raise _bad(detail + ", ".join([*_BASE, "metadata.<key>"]))
    return found + dot + rest


def _definitions(context: Any) -> dict[str, str]:
    """The terms and prefixes that one context defines (JSON-LD 1.1, 9.15)."""
    if context is None or context == BASE_CONTEXT:
        return {}
    if not isinstance(context, Mapping):
        raise _bad(
            "query.@context: is no object of terms and their IRIs; a context elsewhere is not "
            "fetched, so write it out"
        )
    found: dict[str, str] = {}
    for name, value in context.items():
        iri = value.get("@id") if isinstance(value, Mapping) else value
        if name.startswith("@"):
            continue
        if not isinstance(iri, str):
            raise _bad(f"query.@context.{name[:100]}: is no IRI")
        found[name] = iri
    return {name: _iri(iri, found) for name, iri in found.items()}


def _iri(term: str, known: Mapping[str, str]) -> str:
    if term in known:
        return known[term]
    prefix, colon, last = term.partition(":")
    if colon and not last.startswith("//") and prefix in known:
        return known[prefix] + last
    return term


def values_at(entry: ArdEntry, path: str) -> Iterator[str]:
    """What stands at a resolved ``path``, as text; each item of a list."""
    term, _, rest = path.partition(".")
    value = entry.identifier.split(":")[2] if term == "publisher" else entry.terms.get(term)
    if rest:
        value = value.get(rest) if isinstance(value, Mapping) else None
    for each in value if isinstance(value, list | tuple) else (value,):
        if each is not None:
            yield str(each)


@dataclass(frozen=True)
class Constraints:
    """What an entry has to be: of each path one of the values; all ``checks`` as well.

    Only the healthy, unless ``health`` is among the paths.
    """

    wanted: Mapping[str, frozenset[str]]
    checks: tuple[Callable[[ArdEntry], bool], ...] = field(default=())

    @classmethod
    def of(
        cls, given: Iterable[tuple[str, Iterable[object]]], *checks: Callable[[ArdEntry], bool]
    ) -> Constraints:
        """Those of ``given``, resolved paths and values."""
        wanted = {"health": frozenset(_HEALTH.default)}
        for path, values in given:
            texts = frozenset(map(_text, values))
            if path == "health":
                for text in texts.difference(_HEALTH.allowed):
                    allowed = ", ".join(_HEALTH.allowed)
                    raise _bad(f"health {text[:100]!r} is not known; use one of {allowed}")
                texts = frozenset() if ALL in texts else texts
            elif path == "identifier":
                texts = frozenset(map(canonical, texts))
            wanted[path] = texts
        if not wanted["health"]:
            del wanted["health"]
        return cls(wanted, checks)

    @property
    def identity(self) -> Mapping[str, list[str]]:
        """The paths and their values as JSON: the same for the same."""
        return {path: sorted(self.wanted[path]) for path in sorted(self.wanted)}

    def fit(self, entry: ArdEntry) -> bool:
        """Whether ``entry`` is all that."""
        return all(
            not values.isdisjoint(values_at(entry, path)) for path, values in self.wanted.items()
        ) and all(check(entry) for check in self.checks)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


_WORD = r"""'[^']*'|"[^"]*"|[^\s,'"]+"""
_NAME = r"[\w@./#-]"
#: One condition of a filter expression, and what joins it to the next. Nothing of it is read a
#: second time in another way, so that the time is in proportion to the length.
_CONDITION = re.compile(
    rf"\s*+(?:((?:{_NAME}|:)++)\s*+(>=|=|>)|({_NAME}++)\s*+(:))"
    rf"\s*+((?>{_WORD})(?:\s*+,\s*+(?>{_WORD}))*+)\s*+(AND\b|$)",
    re.IGNORECASE,
)
_MOMENTS: Mapping[str, Callable[[ArdEntry], str | None]] = {
    "createdAfter": lambda entry: None if entry.published is None else rfc3339(entry.published),
    "updatedAfter": lambda entry: entry.terms.get("updatedAt"),
}
_SAMPLE = "type = 'application/mcp-server-card+json' AND updatedAfter > '2026-01-01T00:00:00Z'"


def read_expression(text: str) -> Constraints:
    """The constraints that a filter expression writes: ``field = value, value AND …``.

    Fields are those of Appendix A and all terms. Raises :class:`ProblemError` (400).
    """
    given: list[tuple[str, list[str]]] = []
    checks: list[Callable[[ArdEntry], bool]] = []
    at, joined = 0, "AND"
    while joined:
        if (found := _CONDITION.match(text, at)) is None:
            raise _bad(f"filter: {text[at : at + 100].strip()!r} is no condition; write {_SAMPLE}")
        name, sign, written, joined = (each for each in found.groups() if each is not None)
        at = found.end()
        values = [each.strip("'\"") for each in re.findall(_WORD, written)]
        if name in _MOMENTS:
            checks.append(_after(name, values))
        elif sign.startswith(">"):
            raise _bad(f"filter: {sign} is for {' and '.join(_MOMENTS)}; write {name} = …")
        elif name == "displayName":
            checks.append(_named(values))
        else:
            key = "publisher" if name == "publisherId" else name
            given.append((resolved([key])[key], values))
    return Constraints.of(given, *checks)


def _after(name: str, values: list[str]) -> Callable[[ArdEntry], bool]:
    try:
        text = values[0] if "T" in values[0].upper() else f"{values[0]}T00:00:00Z"
        moment = rfc3339(parse_moment(text.replace(" ", "+")))
    except ValueError as error:
        detail = f"filter: {values[0][:100]!r} is no moment; write for example 2026-01-01T00:00:00Z"
        raise _bad(detail) from error
    of_entry = _MOMENTS[name]
    return lambda entry: (of_entry(entry) or "") > moment


def _named(values: list[str]) -> Callable[[ArdEntry], bool]:
    parts = [each.casefold() for each in values]

    def check(entry: ArdEntry) -> bool:
        name = entry.terms["displayName"].casefold()
        return any(part in name for part in parts)

    return check


def _bad(detail: str) -> ProblemError:
    return ProblemError(400, "bad-filter", detail)

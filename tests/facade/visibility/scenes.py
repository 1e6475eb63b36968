"""Random rights, and pairs of lists that differ only in what these rights do not show.

What is visible is decided here once more, from the words of the documentation and in no way that
the facade has.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from hypothesis import strategies as st

from mcp_discovery.document import CapabilityDocument
from mcp_discovery.health import Load, Status, ToolUse
from mcp_discovery.record import Record

NAMES = ("pay", "pay-eu", "shop", "docs", "desk")
#: The name of what is an A2A agent, and offers skills alone.
AGENT = "desk"
TAGS = ("eu", "beta")
OWNERS = {"pay": "ann", "pay-eu": "ann", "shop": "bob"}
ZONES = ("west", "east", None)
OFFERS = ("read_x", "read_y", "write_x", "drop")
URIS = {
    "resources": {name: f"docs:///{name}" for name in OFFERS},
    "skills": {name: f"skill://desk/{name}/SKILL.md" for name in OFFERS},
}
DESCRIPTIONS = ("Reads orders", "Writes invoices", "Drops everything")
#: Is in every pair of lists at the end, and visible to everybody.
SENTINEL = "sentinel"
PARTS = ("tools", "resources", "prompts", "skills")

Grants = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class Made:
    """One instance; ``offers`` are (part, name, description)."""

    id: str
    name: str
    tags: tuple[str, ...] = ()
    zone: str | None = None
    is_owned: bool = False
    offers: tuple[tuple[str, str, str], ...] = ()
    status: Status = Status.HEALTHY
    version: str = "1.0.0"
    is_part: bool = False

    @property
    def owner(self) -> str | None:
        """Who has registered it. A name has one owner: that it has is no secret."""
        return OWNERS.get(self.name) if self.is_owned else None

    @property
    def document(self) -> CapabilityDocument:
        """All that it offers, each name once; a resource with the last description is a
        template."""
        found: dict[str, dict[str, dict[str, Any]]] = {part: {} for part in (*PARTS, "templates")}
        for part, name, text in self.offers:
            item: dict[str, Any] = {"name": name, "description": text}
            if part == "tools":
                item["inputSchema"] = {"type": "object"}
            elif part == "resources":
                is_template = text == DESCRIPTIONS[-1]
                item["uriTemplate" if is_template else "uri"] = URIS[part][name]
                part = "templates" if is_template else part
            elif self.name == AGENT:
                item["id"] = name
            elif part == "skills":
                item = {"uri": URIS[part][name], "frontmatter": item, "resources": "dynamic"}
            found[part].setdefault(name, item)
        return CapabilityDocument(
            tools=tuple(found["tools"].values()),
            resources=tuple(found["resources"].values()),
            resource_templates=tuple(found["templates"].values()),
            prompts=tuple(found["prompts"].values()),
            skills=tuple(found["skills"].values()),
            card=self._card if self.name == AGENT else None,
        )

    @property
    def load(self) -> Load:
        """What it reports, which is of all that it offers."""
        tools = [each["name"] for each in self.document.tools]
        counted = tuple(ToolUse(name, 10 + len(self.id), 0.3) for name in tools)
        busy = 10 * len(self.offers)
        return Load(busy, 50, float(busy), 0.2, 0.4, 0.1, busy, 2**20 * busy, 0.5, True, counted)

    @property
    def _card(self) -> dict[str, Any]:
        signed = {} if self.is_part else {"signatures": [{"signature": self.id}]}
        return {"name": self.name, "description": f"Serves {self.name}"} | signed

    @property
    def record(self) -> Record:
        """What it registers with."""
        content: dict[str, Any] = {
            "id": self.id,
            "name": self.name,
            "tags": list(self.tags),
            "zone": self.zone,
            "version": self.version,
            "description": f"Serves {self.name}",
            "endpoint": {"url": f"http://127.0.0.1:9/{self.id}"},
            "registeredAt": "2026-01-01T00:00:00Z",
        }
        if self.name == AGENT:
            content["kind"] = "agent"
        named = [name for _, name, _ in self.offers]
        content["protocol"] = {"instructions": f"Use {' and '.join(named)}"}
        content["exampleQueries"] = [f"please {name}" for name in named[:10]]
        content["capabilities"] = self.document.names()
        return Record.parse(content)


def _fits(globs: list[str] | None, values: Iterable[str]) -> bool:
    return globs is None or any(fnmatchcase(value, glob) for value in values for glob in globs)


def _covers(grant: dict[str, Any], made: Made) -> bool:
    return (
        _fits(grant.get("names"), (made.name,))
        and _fits(grant.get("tags"), made.tags)
        and _fits(grant.get("zones"), (made.zone or "",))
        and _fits(grant.get("owners"), (made.owner or "",))
    )


def _is_partial(grant: dict[str, Any]) -> bool:
    return any(part in grant for part in PARTS)


def sees_all_of(grants: Grants, made: Made) -> bool:
    """Whether the instance is visible with all that it offers."""
    return any(_covers(each, made) and not _is_partial(each) for each in grants)


def sees_offer(grants: Grants, made: Made, offer: tuple[str, str, str]) -> bool:
    """Whether one of its tools, resources, prompts or skills is visible; each by its name, a
    resource or skill by its URI as well."""
    part, name, _ = offer
    known = (name, URIS[part][name]) if part in URIS and made.name != AGENT else (name,)
    return any(_covers(each, made) and part in each and _fits(each[part], known) for each in grants)


def shown(grants: Grants, made: Made) -> Made | None:
    """What is visible of an instance."""
    if sees_all_of(grants, made):
        return made
    offers = tuple(each for each in made.offers if sees_offer(grants, made, each))
    return replace(made, offers=offers, is_part=True) if offers else None


@dataclass(frozen=True)
class Scene:
    """The grants of a caller, and two lists of equal looks to it, before and after changes of
    which the visible ones are equal."""

    grants: Grants
    before: tuple[tuple[Made, ...], tuple[Made, ...]]
    after: tuple[tuple[Made, ...], tuple[Made, ...]]
    seed: int

    @property
    def words(self) -> list[str]:
        """Everything that may be asked for: what is there, here or there, and what is not."""
        every = [each for lists in (self.before, self.after) for made in lists for each in made]
        found = {"missing", "orders", *NAMES, *TAGS, *OFFERS, *(each.id for each in every)}
        found |= {each.document.digest for each in every}
        for each in every:
            seen = shown(self.grants, each)
            if seen is not None:
                found.add(seen.document.digest)
        return sorted(found)

    @property
    def seen_names(self) -> set[str]:
        """The names of all that is visible, before or after."""
        every = [made for lists in (*self.before, *self.after) for made in lists]
        return {made.name for made in every if shown(self.grants, made) is not None}

    @property
    def ids(self) -> list[str]:
        """The ids of all instances, here or there."""
        return sorted({made.id for lists in (*self.before, *self.after) for made in lists})


def _some(values: Sequence[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=2, unique=True)


_VERBS = st.sampled_from(
    (["read"], *(["read", each] for each in ("report", "call", "register", "admin")))
)
_WHOSE = {
    "names": _some(("pay*", "shop", "d?cs", "*-eu")),
    "tags": _some(("eu", "b*")),
    "zones": _some(("west", "e*")),
    "owners": _some(("ann", "b?b")),
}
_WHAT = {
    "tools": _some(("read_*", "write_x")),
    "resources": _some(("read_x", "docs:///write*")),
    "prompts": _some(("drop", "read_?")),
    "skills": _some(("write_?", "skill://desk/read_x/*")),
}
#: Grants for whole instances, for parts of some, and for parts of any.
_GRANT = st.one_of(
    *(st.fixed_dictionaries({"verbs": _VERBS, key: values}) for key, values in _WHOSE.items()),
    st.fixed_dictionaries({"verbs": _VERBS}, optional=_WHOSE | _WHAT),
    *(st.fixed_dictionaries({"verbs": _VERBS, key: values}) for key, values in _WHAT.items()),
    st.fixed_dictionaries({"verbs": _VERBS, **_WHAT}),
)
_OFFER = st.tuples(st.sampled_from(PARTS), st.sampled_from(OFFERS), st.sampled_from(DESCRIPTIONS))
_OFFERS = st.lists(_OFFER, max_size=5).map(tuple)


def _made(id: str) -> st.SearchStrategy[Made]:
    return st.builds(
        Made,
        st.just(id),
        st.sampled_from(NAMES),
        st.lists(st.sampled_from(TAGS), max_size=2, unique=True).map(tuple),
        st.sampled_from(ZONES),
        st.booleans(),
        _OFFERS,
        st.sampled_from((Status.HEALTHY, Status.HEALTHY, Status.DEGRADED)),
        st.sampled_from(("1.0.0", "1.1.0")),
    )


def _once(made: Made) -> Made:
    """``made`` with each name at most once in each part, and of an agent the skills alone."""
    found: dict[tuple[str, str], tuple[str, str, str]] = {}
    for each in made.offers:
        if made.name == AGENT and each[0] != "skills":
            continue
        found.setdefault(each[:2], each)
    return replace(made, offers=tuple(found.values()))


@st.composite
def _pair(draw: st.DrawFn, grants: Grants, ids: Sequence[str]) -> tuple[list[Made], list[Made]]:
    one: list[Made] = []
    other: list[Made] = []
    for id in ids:
        made = _once(draw(_made(id)))
        if sees_all_of(grants, made):
            one.append(made)
            other.append(made)
            continue
        seen = shown(grants, made)
        if seen is None:
            one += [made] if draw(st.booleans()) else []
            twin = _once(draw(_made(id)))
            if shown(grants, twin) is None and draw(st.booleans()):
                other.append(twin)
            continue
        one.append(made)
        more = [each for each in draw(_OFFERS) if not sees_offer(grants, made, each)]
        at = draw(st.integers(0, len(seen.offers)))
        other.append(_once(replace(made, offers=(*seen.offers[:at], *more, *seen.offers[at:]))))
    return one, other


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """Rights and lists of every kind."""
    grants = [
        *draw(st.lists(_GRANT, min_size=1, max_size=3)),
        {"verbs": ["read"], "names": [SENTINEL]},
    ]
    ids = [f"i-{number}" for number in range(draw(st.integers(1, 6)))]
    before = draw(_pair(grants, ids))
    after = draw(_pair(grants, ids))
    sentinel = Made(SENTINEL, SENTINEL)
    return Scene(
        grants,
        (tuple(before[0]), tuple(before[1])),
        ((*after[0], sentinel), (*after[1], sentinel)),
        draw(st.integers(0, 2**16)),
    )

"""The one table of filters: everything that selects servers or tools is made from it.

That is the query string of the facade with its OpenAPI parameters, cache keys and long polls, the
indexes of a view, ``explain``, the tools of ``/mcp``, ``POST /connections/discover``, the client's
keyword arguments and the shell's options. To add a filter, add a row to :data:`FILTERS` here and a
line to ``docs/http-api.md``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from mcp_discovery.errors import InvalidInputError
from mcp_discovery.health import Status
from mcp_discovery.query.versions import VersionRange
from mcp_discovery.record import KINDS, SERVER, Record

if TYPE_CHECKING:
    from mcp_discovery.instance import Instance

#: Gets the values of an instance that a filter compares with the wanted ones; ``None`` is no value.
Keys: TypeAlias = "Callable[[Instance], Iterable[str | None]]"
#: Whether an instance passes a filter at a moment.
Check: TypeAlias = "Callable[[Instance, datetime], bool]"

TRANSPORTS = ("streamable-http", "sse", "websocket", "stdio", "a2a")
#: The value that stands for every status.
ALL = "all"
#: A duration in a query string or a body: ``90``, ``10m``, ``2h``.
DURATION_PATTERN = r"^\d{1,9}(\.\d{1,6})?(ms|s|m|h|d)?$"
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True)
class Option:
    """The option of the shell that sets a filter.

    What is left out is made from the filter: ``--zone ZONE`` with the filter's own help.
    ``complete`` names the function of :mod:`mcp_discovery.cli.completion` that knows values;
    ``repeated`` says that the option may be given several times.
    """

    help: str = ""
    metavar: str = ""
    flags: tuple[str, ...] = ()
    variable: str | None = None
    complete: Literal["tags", "names", "tools"] | None = None
    repeated: bool = True


@dataclass(frozen=True, slots=True)
class Syntax:
    """How a value is written that stands for a set of keys; messages about bad values tell it."""

    noun: str
    noun_in_full: str
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Mode:
    """The parameter that says whether an instance needs ``any`` or ``all`` of a filter's values."""

    name: str
    help: str
    argument: str
    option: Option
    choices: tuple[str, ...] = ("any", "all")


@dataclass(frozen=True, slots=True)
class Filter:
    """One row of the table.

    ``name`` is the name of the query parameter, of the client's keyword and of the view's index;
    ``help`` is its description in OpenAPI; ``keys`` gets the values of an instance. A filter has
    ``measure`` instead of ``keys`` where it compares a number of seconds that grows with the clock:
    an instance passes when it has reached the wanted one, which is at most ``most``.

    ``index`` says how a view finds instances by their keys: over the ``kind`` where all instances
    of one version of a server have the same keys, over each ``instance`` otherwise, ``None`` for
    no index. ``cost`` orders the checks of a query, the cheap ones first.

    An instance passes when it has one of the wanted values, or with ``every`` all of them; ``mode``
    leaves the choice to the reader. ``choices`` are the only allowed values, ``default`` the wanted
    ones where a reader names none, and ``parse`` turns a value as it is written into one that keys
    are compared with; it raises :class:`ValueError` for a text that breaks ``syntax``.
    ``split`` says how a query string separates values: by ``commas`` or repetition, by ``repeats``
    alone, or ``both``: then the whole text counts as a value, too.

    ``argument`` is the description for models at ``/mcp`` (``""``: it is made from ``help``;
    ``None``: it is not offered there), ``in_find_tools`` says that the tool ``find_tools`` has it,
    too. ``noun`` names one value in messages. ``option`` is the shell's option, ``None`` for none.
    """

    name: str
    help: str
    keys: Keys | None = None
    index: Literal["kind", "instance"] | None = "instance"
    cost: int = 0
    every: bool = False
    mode: Mode | None = None
    choices: tuple[str, ...] = ()
    default: frozenset[str] = frozenset()
    parse: Callable[[str], Any] = str
    syntax: Syntax | None = None
    split: Literal["commas", "repeats", "both"] = "commas"
    measure: Callable[[Instance, datetime], float] | None = None
    most: float = 0.0
    noun: str = ""
    argument: str | None = ""
    in_find_tools: bool = False
    option: Option | None = Option()

    @property
    def allowed(self) -> tuple[str, ...]:
        """The values that may be written; empty where every value may."""
        return (*self.choices, ALL) if self.default else self.choices

    @property
    def schema(self) -> Mapping[str, Any]:
        """The JSON Schema of the query parameter."""
        if self.measure is not None:
            return {"type": "string", "pattern": DURATION_PATTERN}
        enum = {"enum": list(self.allowed)} if self.allowed else {}
        return {"type": "array", "items": {"type": "string", **enum}}

    def values(self, texts: Iterable[str]) -> frozenset[Any]:
        """The wanted values that ``texts`` write; none of them where one is :data:`ALL`.

        Raises :class:`InvalidFilterValueError` for a text that breaks the :class:`Syntax`.
        """
        found = set()
        for text in texts:
            try:
                found.add(self.parse(text))
            except ValueError as error:
                raise InvalidFilterValueError(self, text, str(error)) from error
        return frozenset() if self.default and ALL in found else frozenset(found)

    def keys_of(self, instance: Instance) -> Iterable[str]:
        """The keys of an instance; none for a filter that measures."""
        return () if self.keys is None else filter(None, self.keys(instance))

    def check(self, wanted: frozenset[Any], *, every: bool) -> Check:
        """Tells whether an instance has one of the ``wanted`` values, or ``every`` one."""
        if (measure := self.measure) is not None:
            least = max(wanted)
            return lambda instance, now: measure(instance, now) >= least
        if self.syntax is not None:
            return lambda instance, _: any(
                key in value for key in self.keys_of(instance) for value in wanted
            )
        keys = self.keys or self.keys_of
        if every:
            return lambda instance, _: wanted.issubset(keys(instance))
        return lambda instance, _: not wanted.isdisjoint(keys(instance))


def duration(text: str) -> float | None:
    """The seconds that ``90``, ``1.5s``, ``10m``, ``2h`` or ``1d`` are; ``None`` for another
    text."""
    found = re.fullmatch(DURATION_PATTERN, text, re.ASCII)
    if found is None:
        return None
    number = re.match(r"[\d.]+", text)
    assert number is not None
    return float(number[0]) * _SECONDS[text[number.end() :] or "s"]


class InvalidFilterValueError(InvalidInputError):
    """A text is no value of a filter. ``problem`` says why, ``syntax`` how values are written."""

    def __init__(self, filter: Filter, text: str, problem: str) -> None:
        self.text = text
        self.problem = problem
        self.syntax = filter.syntax or Syntax("value", "value", ())
        hint = " or ".join(self.syntax.examples[1::-1])
        super().__init__(f"{filter.name}: {problem}{f'; write for example {hint}' if hint else ''}")


def uptime(instance: Instance, now: datetime) -> float:
    """For how many seconds the instance has had its present status; 0 for one that is ``down``.

    It counts from ``since``, so a change from ``healthy`` to ``degraded`` or back starts it anew.
    """
    if instance.health.status is Status.DOWN:
        return 0.0
    return max(0.0, (now - instance.health.since).total_seconds())


def capability_names(record: Record) -> Iterable[str]:
    """The names of all tools, resources, prompts and skills of ``record``."""
    return chain.from_iterable(record.capabilities.lists())


_ROWS = (
    Filter(
        "tags",
        "Servers with these tags.",
        lambda instance: instance.record.tags,
        index="kind",
        cost=1,
        parse=str.lower,
        noun="tag",
        argument="Only servers with these tags, such as ['products']. With match 'any' (the "
        "default) one of them is enough.",
        in_find_tools=True,
        option=Option(
            "A tag; give it again for more.", "TAG", ("--tag", "-t"), "MCP_DISCOVERY_TAG", "tags"
        ),
        mode=Mode(
            "match",
            "Whether one of the tags and of the words of `q` is enough, or all have to be there.",
            "Whether any of the tags, and of the words of q, is enough, or it takes all.",
            Option(
                "any: one of the tags, and of the words, is enough; all: it takes every one.",
                "any|all",
                repeated=False,
            ),
        ),
    ),
    Filter(
        "capability",
        "That offer this tool, resource, prompt or skill; all of them where it is repeated.",
        lambda instance: capability_names(instance.record),
        index="kind",
        cost=3,
        every=True,
        split="repeats",
        noun="tool, resource, prompt or skill",
        argument="Only servers that offer all of these, each the exact name of a tool, resource, "
        "prompt or skill.",
        option=Option(
            "A tool, resource, prompt or skill by name; again for more, all of them.",
            "NAME",
            complete="tools",
        ),
    ),
    Filter(
        "tool",
        "That offer this tool; all of them where it is repeated.",
        lambda instance: instance.record.capabilities.tools,
        index="kind",
        cost=2,
        every=True,
        split="repeats",
        argument="Only servers that offer all of these tools, by their exact names.",
        option=Option(
            "A tool that it offers; again for more, all of them.", "NAME", complete="tools"
        ),
    ),
    Filter(
        "skill",
        "That have this skill; all of them where it is repeated.",
        lambda instance: instance.record.capabilities.skills,
        index="kind",
        cost=2,
        every=True,
        split="repeats",
        argument="Only servers that have all of these skills, by their exact names.",
        option=Option("A skill that it has; again for more, all of them.", "NAME"),
    ),
    Filter(
        "status",
        "One of these: healthy, degraded, draining, down, quarantined; or all.",
        lambda instance: (instance.health.status,),
        choices=tuple(each.value for each in Status),
        default=frozenset({Status.HEALTHY.value}),
        argument="Only servers in one of these states. Leave it out for the healthy ones, which "
        "are those you can use; 'all' also shows why others cannot be used.",
        in_find_tools=True,
        option=Option(
            "healthy, degraded, draining, down, quarantined, several separated by commas, or all.",
            repeated=False,
        ),
    ),
    Filter(
        "name",
        "One of these names.",
        lambda instance: (instance.record.name,),
        index="kind",
        argument="Only servers with one of these exact names, such as 'product-catalog'.",
        option=Option("A server's name; again for more, one of them.", complete="names"),
    ),
    Filter(
        "kind",
        "MCP servers (`server`), which is the default, A2A agents (`agent`), or `all`.",
        lambda instance: (instance.record.kind,),
        choices=KINDS,
        # Whoever asks for servers wants to call them by MCP: an agent is given to nobody who does
        # not ask for one.
        default=frozenset({SERVER}),
        argument="'agent' for agents that speak A2A; leave it out for the MCP servers, which are "
        "those whose tools you can call.",
        option=Option("server (default), agent or all.", repeated=False),
    ),
    Filter(
        "version",
        "In this range of semantic versions, such as `>=1.2,<2`, `^1.2` or `1.x || >=2.5`; in one "
        "of them where it is repeated.",
        lambda instance: (instance.record.version,),
        index="kind",
        cost=4,
        split="repeats",
        parse=VersionRange.parse,
        syntax=Syntax(
            "range of versions",
            "range of semantic versions",
            (">=1.2,<2", "^1.2", "1.x || >=2.5"),
        ),
        argument="Only this range of semantic versions, such as '>=1.2,<2' or '^1.2'.",
        option=Option(
            "Semantic versions, such as '>=1.2,<2' or '^1.2'; again for more, one of them.", "RANGE"
        ),
    ),
    Filter(
        "transport",
        "One of these transports.",
        lambda instance: (instance.record.endpoint.transport,),
        index="kind",
        choices=TRANSPORTS,
        argument="Only servers with one of these transports.",
        option=Option("streamable-http, sse, websocket or stdio."),
    ),
    Filter(
        "zone",
        "In one of these zones.",
        lambda instance: (instance.record.zone,),
        split="both",
        argument=None,
        option=Option("Where it runs."),
    ),
    Filter(
        "owner",
        "Of one of these owners.",
        lambda instance: (instance.record.owner,),
        index="kind",
        split="both",
        argument=None,
        option=Option("Who is responsible."),
    ),
    Filter(
        "min_uptime",
        "Steadily in its status, and not down, for this long: `90`, `10m`, `2h`.",
        index=None,
        cost=5,
        measure=uptime,
        most=3650 * 86400.0,
        argument=None,
        option=None,
    ),
)
#: The filters by name, in the order in which readers see them.
FILTERS: dict[str, Filter] = {each.name: each for each in _ROWS}

"""``limits`` in the file of ``--auth``, and ``--limit``: how much a caller may ask for.

A caller is counted by its subject, whichever credential it shows; an anonymous one by its address,
in IPv6 by its /64.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Final, Literal, TypeAlias, get_args

from limits import RateLimitItem, parse_many
from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from mcp_discovery.errors import InvalidInputError
from mcp_discovery.facade.access.caller import Caller
from mcp_discovery.facade.access.section import Section
from mcp_discovery.nearest import nearest

#: What is counted over time. ``questions`` are those to a model, ``heartbeats`` those of
#: registrations, ``refusals`` the requests of an address whose credential is not valid.
Counted: TypeAlias = Literal["reads", "writes", "calls", "questions", "heartbeats", "refusals"]
#: What says that there is no limit.
UNLIMITED: Final = "unlimited"
#: The longest window, in seconds: nobody waits for a budget of longer than a day.
_LONGEST = 86400
_MOST = 10**9


@dataclass(frozen=True, eq=False)
class Rate:
    """So many in a window: ``amount`` in ``seconds``."""

    item: RateLimitItem

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Rate) and self.item == other.item)

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        # Kept: each request that is counted is counted by its rate.
        return hash(self.item)

    @cached_property
    def amount(self) -> int:
        """How many."""
        return int(self.item.amount)

    @cached_property
    def seconds(self) -> int:
        """In how many seconds."""
        return int(self.item.get_expiry())

    @cached_property
    def block(self) -> int:
        """How many are taken from the common count at once: a hundredth, at least one."""
        return max(1, self.amount // 100)

    def __str__(self) -> str:
        return f"{self.amount} in {self.seconds} s"


def _rate(value: object) -> object:
    if value is None or isinstance(value, Rate):
        return value
    if value == UNLIMITED:
        return None
    try:
        given = parse_many(value) if isinstance(value, str) and len(value) < 100 else []
    except ValueError:
        given = []
    item = given[0] if len(given) == 1 else None
    if item is None or not (0 < item.amount <= _MOST and 0 < item.get_expiry() <= _LONGEST):
        raise ValueError(
            "is no rate; write for example 600/minute, 20/second, 100 per 5 minutes or unlimited, "
            "over a day at most"
        )
    return Rate(item)


def _number(value: object) -> object:
    return None if value == UNLIMITED else value


_AnyRate = Annotated[
    Rate | None,
    BeforeValidator(_rate),
    WithJsonSchema({"type": "string", "description": "A rate, such as 600/minute; or unlimited."}),
]
_AnyNumber = Annotated[
    Annotated[int, Field(ge=0, le=_MOST, strict=True)] | None,
    BeforeValidator(_number),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"const": UNLIMITED}]}),
]
_Seconds = Annotated[
    Annotated[float, Field(gt=0, le=366 * 86400)] | None,
    BeforeValidator(_number),
    WithJsonSchema({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"const": UNLIMITED}]}),
]


#: How many questions, if nothing is said of them.
_QUESTIONS: Final = Rate(parse_many("60/minute")[0])


class CallerLimits(Section, arbitrary_types_allowed=True):
    """How much a caller may ask for.

    ``reads``, ``writes``, ``calls`` (of tools, and requests through the gateway), ``questions`` (to
    a model, which cost money: 60 in a minute unless something is said), ``heartbeats`` and
    ``refusals`` are rates, ``streams`` how many may be open at once at one facade, ``entries`` how
    many registered instances may be the caller's; ``least_ttl`` and ``most_ttl`` bound the TTL of
    its registrations, in seconds.
    """

    reads: _AnyRate = None
    writes: _AnyRate = None
    calls: _AnyRate = None
    questions: _AnyRate = Field(default_factory=lambda: _QUESTIONS)
    heartbeats: _AnyRate = None
    refusals: _AnyRate = None
    streams: _AnyNumber = None
    entries: _AnyNumber = None
    least_ttl: _Seconds = None
    most_ttl: _Seconds = None

    @model_validator(mode="after")
    def _in_order(self) -> CallerLimits:
        if self.least_ttl and self.most_ttl and self.least_ttl > self.most_ttl:
            raise ValueError("least_ttl is more than most_ttl; exchange them")
        return self

    @cached_property
    def is_unlimited(self) -> bool:
        """Whether no request is limited by these, nor any stream."""
        limited = {*get_args(Counted), "streams"} - {"questions"}  # which are counted apart
        return all(getattr(self, each) is None for each in limited)


class LimitsSection(Section):
    """``default`` is for every caller with a credential, ``anonymous`` for those without.

    What ``roles`` say of a role takes the place of these; of several roles the most generous counts
    in each.
    """

    default: CallerLimits = CallerLimits()
    anonymous: CallerLimits = CallerLimits()
    roles: dict[str, CallerLimits] = Field({})


#: For anonymous callers, by address, unless something else is said: a guard against what runs wild,
#: far above what people and agents need.
DEFAULTS: Final = CallerLimits.model_validate(
    {
        "reads": "60000/minute",
        "writes": "6000/minute",
        "calls": "12000/minute",
        "refusals": "600/minute",
        "streams": 1000,
    }
)


class LimitRules:
    """What ``section`` says, over ``base``, which is for anonymous callers."""

    def __init__(self, section: LimitsSection, base: CallerLimits) -> None:
        self._section = section
        self._anonymous = _over(base, section.anonymous)
        self._known: dict[tuple[bool, tuple[str, ...]], CallerLimits] = {}
        #: Of every caller with a credential, where roles make no difference.
        self._of_all = None if section.roles else self._merged(False, ())

    @property
    def anonymous(self) -> CallerLimits:
        """Those of an address."""
        return self._anonymous

    def of(self, caller: Caller) -> CallerLimits:
        """Those of ``caller``."""
        if self._of_all is not None and caller.by != "anonymous":
            return self._of_all
        key = caller.is_anonymous, caller.roles
        found = self._known.get(key)
        if found is None:
            found = self._merged(*key)
            if len(self._known) < 4096:
                self._known[key] = found
        return found

    def _merged(self, anonymous: bool, roles: Iterable[str]) -> CallerLimits:
        usual = self._anonymous if anonymous else self._section.default
        own = [self._section.roles[role] for role in roles if role in self._section.roles]
        return _over(usual, _most_generous(own))


def limits_of_options(given: Iterable[str]) -> CallerLimits:
    """What ``--limit`` says (``reads=600/minute``), over the defaults; raises
    :class:`InvalidInputError`."""
    said: dict[str, object] = {}
    for text in given:
        name, _, value = text.partition("=")
        if name not in CallerLimits.model_fields:
            near = nearest(name, CallerLimits.model_fields)
            hint = f"did you mean {near}?" if near else "it is one of "
            known = "" if near else ", ".join(CallerLimits.model_fields)
            raise InvalidInputError(f"--limit {text[:100]}: {name!r} is no limit; {hint}{known}")
        said[name] = int(value) if value.isdecimal() and len(value) < 10 else value
    try:
        return _over(DEFAULTS, CallerLimits.model_validate(said))
    except ValueError as error:
        raise InvalidInputError(f"--limit: {_sentence(error)}") from error


def _sentence(error: ValueError) -> str:
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return str(error)
    fault = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, fault['loc'][:1]))} {fault['msg'].removeprefix('Value error, ')}"


def _over(base: CallerLimits, own: CallerLimits) -> CallerLimits:
    return base.model_copy(update={name: getattr(own, name) for name in own.model_fields_set})


def _most_generous(limits: Iterable[CallerLimits]) -> CallerLimits:
    found: dict[str, object] = {}
    for each in limits:
        for name in each.model_fields_set:
            value = getattr(each, name)
            if name not in found or _generosity(name, value) > _generosity(name, found[name]):
                found[name] = value
    return CallerLimits().model_copy(update=found)


def _generosity(name: str, value: object) -> float:
    match value:
        case None:
            return float("inf")
        case Rate():
            return value.amount / value.seconds
        case int() | float():
            return -value if name == "least_ttl" else value
    raise TypeError(name)

"""Spans: what is under way, for whom, and how it ended. Without a tracer they cost nothing.

The context of a trace travels as W3C Trace Context and Baggage have it: in the headers of HTTP, and
in ``params._meta`` of MCP's messages under the same names (SEP-414).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from types import TracebackType
from typing import Any, Final, Literal, NamedTuple, Protocol, Self, TypeAlias

Kind: TypeAlias = Literal["internal", "server", "client"]
Attribute: TypeAlias = "str | int | float | bool | list[str]"
#: The names of a trace's context, in headers and in ``_meta``.
CONTEXT: Final = ("traceparent", "tracestate", "baggage")
#: Headers, or ``_meta``: what has a context under ``traceparent``, ``tracestate``, ``baggage``.
Carrier: TypeAlias = Mapping[str, Any]


class TraceSpan:
    """One operation, for ``with``: an exception that leaves the block is its error.

    This one is of nothing, and the base of those that are of something.
    """

    __slots__ = ()
    #: Whether what is told of it goes anywhere.
    is_recorded = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def set(self, attributes: Mapping[str, Attribute]) -> None:
        """Adds to what is known of it."""

    def rename(self, name: str) -> None:
        """Gives it the name that is known only now."""

    def fail(self, kind: str, message: str = "") -> None:
        """Says that it failed: ``kind`` is the attribute ``error.type``, one of few values."""

    def end(self) -> None:
        """Ends it before the block does."""


#: The span of everything while there is no tracer.
NO_SPAN: Final = TraceSpan()


class Ids(NamedTuple):
    """What logs and records name a span by, in hexadecimal digits."""

    trace: str
    span: str


class Tracer(Protocol):
    """What makes spans and knows the current one."""

    def start(
        self, name: str, kind: Kind, parent: Carrier | None, *, fresh: bool, below: bool
    ) -> TraceSpan:
        """See :func:`span`."""

    def drops(self, headers: Carrier) -> bool:
        """See :func:`drops`."""

    def inject(self, carrier: MutableMapping[str, Any]) -> None:
        """See :func:`inject`."""

    def ids(self) -> Ids | None:
        """See :func:`ids`."""


class Answering(Protocol):
    """The request that a task answers: its span, and whether it is over."""

    span: TraceSpan
    over: bool


def _nothing() -> None:
    return None


_tracer: Tracer | None = None
#: Gives what the current task answers, if it answers anything.
answering: Callable[[], Answering | None] = _nothing


def use(tracer: Tracer | None) -> None:
    """Has ``tracer`` make all spans of this process from now on; ``None``: nobody."""
    global _tracer
    _tracer = tracer


def are_on() -> bool:
    """Whether there is a tracer."""
    return _tracer is not None


def span(
    name: str,
    kind: Kind = "internal",
    *,
    parent: Carrier | None = None,
    fresh: bool = False,
    below: bool = False,
) -> TraceSpan:
    """A span, which is the current one while its block runs.

    Its parent is the current span, unless ``parent`` carries the context of another trace: then
    that is its parent, and the current span is linked (the conventions for MCP want so). ``fresh``
    asks for a trace of its own where ``parent`` carries none. With ``below`` there is only one
    where the current span is recorded: of what goes on all the time nothing is told otherwise.
    """
    if _tracer is None:
        return NO_SPAN
    return _tracer.start(name, kind, parent, fresh=fresh, below=below)


def drops(headers: Carrier) -> bool:
    """Whether the trace of a request with these ``headers`` is not recorded, as those of nearly all
    are where it is sampled: it needs no span then, only an :class:`Answering` for who asks."""
    return _tracer is None or _tracer.drops(headers)


def inject(carrier: MutableMapping[str, Any]) -> None:
    """Writes the current context into ``carrier``; leaves it as it is where there is none."""
    if _tracer is not None:
        _tracer.inject(carrier)


def ids() -> Ids | None:
    """The current span's ids, if there is one."""
    return None if _tracer is None else _tracer.ids()

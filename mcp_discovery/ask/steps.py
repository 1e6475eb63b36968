"""What is told while a question is answered, step by step."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from mcp_discovery.ask.model import TokenUsage


@dataclass(frozen=True, slots=True)
class TextSaid:
    """A piece of the model's text; it belongs to what comes before it in this turn."""

    kind: ClassVar[str] = "text"
    text: str

    def json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {"text": self.text}


@dataclass(frozen=True, slots=True)
class TurnRetried:
    """The turn is asked for once more, in ``pause`` seconds: its text so far does not count."""

    kind: ClassVar[str] = "retry"
    why: str
    pause: float

    def json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {"why": self.why, "seconds": round(self.pause, 2)}


@dataclass(frozen=True, slots=True)
class ToolsFound:
    """A search for tools, of the question itself or of the model, and what it found."""

    kind: ClassVar[str] = "search"
    query: str
    found: Sequence[tuple[str, str]]  # server, tool

    def json(self) -> dict[str, Any]:
        """As a JSON object."""
        tools = [{"server": server, "tool": tool} for server, tool in self.found]
        return {"query": self.query, "tools": tools}


@dataclass(frozen=True, slots=True)
class CallBegun:
    """A tool is called; ``number`` counts the calls of this question from 1."""

    kind: ClassVar[str] = "call"
    number: int
    server: str
    tool: str
    arguments: Mapping[str, Any]

    def json(self) -> dict[str, Any]:
        """As a JSON object."""
        named = {"server": self.server, "tool": self.tool}
        return {"number": self.number, **named, "arguments": dict(self.arguments)}


@dataclass(frozen=True, slots=True)
class CallEnded:
    """The call ``number`` is over; ``text`` is the beginning of its result, or of its error."""

    kind: ClassVar[str] = "result"
    number: int
    server: str
    tool: str
    success: bool
    text: str
    seconds: float

    def json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "number": self.number,
            "server": self.server,
            "tool": self.tool,
            "success": self.success,
            "text": self.text,
            "durationMs": round(self.seconds * 1000),
        }


@dataclass(frozen=True, slots=True)
class TurnEnded:
    """A turn is over: ``usage`` is that of the question so far, ``calls`` how many follow."""

    kind: ClassVar[str] = "usage"
    turn: int
    calls: int
    usage: TokenUsage

    def json(self) -> dict[str, Any]:
        """As a JSON object."""
        used = {"inputTokens": self.usage.input, "outputTokens": self.usage.output}
        return {"turn": self.turn, "calls": self.calls, **used}


Step: TypeAlias = TextSaid | TurnRetried | ToolsFound | CallBegun | CallEnded | TurnEnded
#: Is awaited with each step.
OnStep: TypeAlias = Callable[[Step], Awaitable[None]]

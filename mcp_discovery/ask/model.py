"""What the agent wants of a model, whosever it is, and how one fails."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from mcp_discovery.errors import DiscoveryError
from mcp_discovery.secrets import without_tokens

if TYPE_CHECKING:
    from mcp_discovery.client.formats import Format

#: The longest question, in characters.
LONGEST_QUESTION = 32_000
#: Is awaited with each piece of the text that a model says.
OnText: TypeAlias = Callable[[str], Awaitable[None]]
#: Why a model stopped: it said all; it said as much as it was allowed to; its API, or it itself,
#: refuses; its API wants the same conversation once more.
Stop: TypeAlias = Literal["done", "length", "refused", "paused"]

#: Statuses of a model's API after which the same request may succeed; 529 is Anthropic's.
_PASSING = frozenset((408, 409, 429, 500, 502, 503, 504, 529))
#: The longest part of a foreign sentence that is told, in characters.
_LONGEST = 300


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """How many tokens were read and written, as the model's API counts them."""

    input: int = 0
    output: int = 0

    @property
    def total(self) -> int:
        """Both together."""
        return self.input + self.output

    def __add__(self, other: TokenUsage) -> TokenUsage:
        return TokenUsage(self.input + other.input, self.output + other.output)


@dataclass(frozen=True, slots=True)
class Turn:
    """What a model said at once: a text, and tool calls as its API's own objects.

    ``why`` is what its API says of a refusal.
    """

    text: str
    calls: Sequence[object]
    usage: TokenUsage
    stop: Stop = "done"
    why: str = ""


class Model(Protocol):
    """One conversation with a model."""

    @property
    def format(self) -> Format:
        """Which format of tools its API takes."""

    @property
    def options(self) -> Mapping[str, Any]:
        """The options of that format."""

    @property
    def defers(self) -> bool:
        """Whether tools may be loaded by a search, with ``tools(defer=True)``."""

    def ask(self, question: str) -> None:
        """Adds what the user says."""

    async def turn(
        self,
        tools: Sequence[dict[str, Any]],
        *,
        on_text: OnText,
        most_tokens: int,
        may_call: bool,
    ) -> Turn:
        """Lets the model speak, of at most ``most_tokens``, and remembers what it said; without
        ``may_call`` it answers with what it knows by now.

        Raises :class:`ModelError`; then nothing is remembered, and it may be asked again.
        """

    def answer(self, results: Sequence[dict[str, Any]]) -> None:
        """Adds the results of its calls, in the order of the calls."""


class AskError(DiscoveryError):
    """A question has no answer."""


class AskLimitError(AskError):
    """It has none within its bounds; ``limit`` says which: ``turns``, ``tokens``, ``time``."""

    def __init__(self, limit: str, sentence: str) -> None:
        super().__init__(sentence)
        self.limit = limit


class ModelRefusedError(AskError):
    """The model, or a filter of its API, does not answer this question."""

    def __init__(self, provider: str, why: str) -> None:
        said = f": {_told(why)}" if why else ""
        super().__init__(f"the model of {provider} does not answer this question{said}")
        self.provider = provider


class ModelError(AskError):
    """A model's API did not answer.

    ``status`` is that of HTTP, ``None`` where there was none; ``is_passing`` says that the same
    request may succeed later, after ``retry_after`` seconds where the API said so.
    """

    def __init__(
        self,
        provider: str,
        why: str,
        *,
        status: int | None = None,
        is_passing: bool = False,
        retry_after: float | None = None,
    ) -> None:
        hint = "; check its key" if status in (401, 403) else ""
        number = f" with {status}" if status else ""
        super().__init__(f"{provider} did not answer{number}: {_told(why)}{hint}")
        self.provider = provider
        self.status = status
        self.is_passing = is_passing
        self.retry_after = retry_after


def error_of(provider: str, error: Exception, *, kind: str | None = None) -> ModelError:
    """What an SDK raised, as :class:`ModelError`; ``kind`` is the API's own word for it."""
    status = getattr(error, "status_code", None) or getattr(error, "code", None)
    status = status if isinstance(status, int) and status >= 400 else None
    body = getattr(error, "body", None)
    said = getattr(error, "api_message", None)  # Anthropic's, where the API itself said something
    said = said or (body.get("message") if isinstance(body, Mapping) else None)
    said = said or getattr(error, "message", None) or str(error) or type(error).__name__
    # Without a status it broke on the way, or the answer ends with an error of the server's.
    passing = status in _PASSING if status is not None else kind not in _FINAL
    headers = getattr(getattr(error, "response", None), "headers", None)
    after = _retry_after(headers) if headers is not None else None
    return ModelError(*(provider, str(said)), status=status, is_passing=passing, retry_after=after)


#: What APIs call a fault that lasts, where it comes in the middle of an answer.
_FINAL = frozenset(
    (
        "authentication_error",
        "billing_error",
        "insufficient_quota",
        "invalid_prompt",
        "invalid_request_error",
        "not_found_error",
        "permission_error",
        "request_too_large",
    )
)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds of ``Retry-After`` (RFC 9110, 10.2.3), a number or a date."""
    if (text := headers.get("retry-after")) is None:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def _told(text: str) -> str:
    text = " ".join(without_tokens(text[: 4 * _LONGEST]).split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"

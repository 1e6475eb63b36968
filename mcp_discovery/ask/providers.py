"""Whose models there are, which are configured, and which one a question goes to.

``auto`` goes by how much a question asks for (:func:`complexity`): a simple one goes to the model
that answers first, a complex one to the one that plans best, among those that have a key.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from mcp_discovery.ask.model import Model
from mcp_discovery.errors import InvalidInputError, MissingExtraError

ProviderName: TypeAlias = Literal["openai", "anthropic", "gemini"]
Complexity: TypeAlias = Literal["simple", "usual", "complex"]


#: An SDK's client, open, for any number of conversations at once: begins one with the model of this
#: name, which is told these instructions first.
Client: TypeAlias = Callable[[str, str], Model]


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider: its key is in the first of ``variables`` that is set, ``model`` is asked
    unless another is named, ``package`` is that of its SDK."""

    name: ProviderName
    title: str
    variables: tuple[str, ...]
    model: str
    package: str

    def is_configured(self, environment: Mapping[str, str] = os.environ) -> bool:
        """Whether there is a key."""
        return any(environment.get(each, "").strip() for each in self.variables)

    def client(self) -> AbstractAsyncContextManager[Client]:
        """Its SDK's client, with the key and the address that the SDK takes from the environment.

        It imports the SDK, which may take a second. Raises :class:`MissingExtraError` where it is
        not installed, and :class:`InvalidInputError` for a key that no header can have.
        """
        for variable in self.variables:
            if _KEY.fullmatch(os.environ.get(variable, "")) is None:
                raise InvalidInputError(
                    f"{variable} has a blank, a line break or another character that no key has; "
                    "set it to the key alone"
                )
        try:
            module = importlib.import_module(f"mcp_discovery.ask.{self.name}")
        except ImportError as error:
            problem = f"asking {self.title} needs its package {self.package}"
            raise MissingExtraError("ask", f"{problem}, which is not installed here") from error
        opened: AbstractAsyncContextManager[Client] = module.client()
        return opened


PROVIDERS: Final[Mapping[ProviderName, Provider]] = {
    each.name: each
    for each in (
        Provider("openai", "OpenAI", ("OPENAI_API_KEY",), "gpt-6.2-sol", "openai"),
        Provider(
            "anthropic", "Anthropic", ("ANTHROPIC_API_KEY",), "claude-sonnet-5-5", "anthropic"
        ),
        Provider(
            *("gemini", "Gemini", ("GEMINI_API_KEY", "GOOGLE_API_KEY")),
            *("gemini-3.8-flash", "google-genai"),
        ),
    )
}
#: What is written for a provider, besides its name.
_ALIASES: Final[Mapping[str, ProviderName]] = {"claude": "anthropic", "google": "gemini"}
#: What may be asked for.
CHOICES: Final = ("auto", *PROVIDERS)
#: Who is asked, the first that is configured.
_ORDER: Final[Mapping[Complexity, tuple[ProviderName, ...]]] = {
    "simple": ("gemini", "openai", "anthropic"),
    "usual": ("openai", "anthropic", "gemini"),
    "complex": ("anthropic", "openai", "gemini"),
}
#: So many words are a simple question, and so many a complex one.
_FEW, _MANY = 12, 60
#: Words that ask for several steps.
_STEPS: Final = re.compile(
    r"\b(?:after(?:wards)?|analy[sz]e|compare|each|every|explain|first|plan|report|summari[sz]e|"
    r"then|versus|vs|why)\b",
    re.IGNORECASE,
)
#: What SDKs send in a header as it is; they would call anything else a broken connection.
_KEY: Final = re.compile(r"[!-~]*")
NO_KEY: Final = (
    "no model can be asked: set OPENAI_API_KEY, ANTHROPIC_API_KEY or GEMINI_API_KEY in the "
    "environment"
)


def provider_named(name: str) -> ProviderName | None:
    """The provider that ``name`` says, ``None`` for ``auto``; raises
    :class:`InvalidInputError`."""
    wanted = _ALIASES.get(name.lower(), name.lower())
    if wanted == "auto":
        return None
    for known in PROVIDERS:
        if known == wanted:
            return known
    raise InvalidInputError(
        f"{name[:40]!r} is no provider; give openai, anthropic (or claude), gemini or auto"
    )


def configured(environment: Mapping[str, str] = os.environ) -> tuple[ProviderName, ...]:
    """The providers that have a key."""
    return tuple(each.name for each in PROVIDERS.values() if each.is_configured(environment))


def complexity(question: str) -> Complexity:
    """How much ``question`` asks for: simple are up to 12 words that ask one thing, complex are 60
    words or more, or three that ask for steps (compare, then, why …) or are questions."""
    words = len(question.split())
    steps = len(_STEPS.findall(question)) + question.count("?") - 1
    if words >= _MANY or steps >= 2:
        return "complex"
    return "simple" if words <= _FEW and steps < 1 else "usual"


def choose(
    question: str, wanted: str = "auto", among: Sequence[ProviderName] | None = None
) -> ProviderName:
    """Who is asked ``question``: the one that is ``wanted``, or by its complexity.

    ``among`` are those that are configured, otherwise those of the environment. Raises
    :class:`InvalidInputError` where there is no key, or none of the one that is wanted.
    """
    known = configured() if among is None else among
    named = provider_named(wanted)
    if not known:
        raise InvalidInputError(NO_KEY)
    if named is None:
        return next(each for each in _ORDER[complexity(question)] if each in known)
    if named not in known:
        variable = PROVIDERS[named].variables[0]
        raise InvalidInputError(
            f"{named} has no key here: set {variable}, or give one of {', '.join(known)}, auto"
        )
    return named

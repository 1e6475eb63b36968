"""Which provider a question goes to."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mcp_discovery.ask.providers import (
    PROVIDERS,
    ProviderName,
    choose,
    complexity,
    configured,
    provider_named,
)
from mcp_discovery.errors import InvalidInputError

_LONG = "word " * 60
ALL: tuple[ProviderName, ...] = ("openai", "anthropic", "gemini")


@pytest.mark.parametrize(
    ("question", "found", "asked"),
    [
        ("Is a kettle in stock?", "simple", "gemini"),
        (
            "Is a kettle in stock, and which knives are cheaper than the kettle, if any are?",
            "usual",
            "openai",
        ),
        ("Compare both kettles.", "simple", "gemini"),
        ("Compare both kettles, then explain why sales fell.", "complex", "anthropic"),
        ("Is it here? Is it blue? Is it hot?", "complex", "anthropic"),
        (_LONG, "complex", "anthropic"),
    ],
)
def test_auto_goes_by_what_is_asked_for(question: str, found: str, asked: str) -> None:
    assert (complexity(question), choose(question, among=ALL)) == (found, asked)
    assert choose(question, among=("anthropic",)) == "anthropic"


def test_a_provider_is_configured_by_its_key() -> None:
    assert configured({"OPENAI_API_KEY": " "}) == ()
    assert configured({"GOOGLE_API_KEY": "x", "OPENAI_API_KEY": "y"}) == ("openai", "gemini")


def test_who_is_wanted_is_asked() -> None:
    assert provider_named("Claude") == "anthropic" and provider_named("auto") is None
    assert choose("x", "claude", ALL) == "anthropic"
    with pytest.raises(InvalidInputError, match="openai has no key here: set OPENAI_API_KEY"):
        choose("x", "openai", ("gemini",))
    with pytest.raises(InvalidInputError, match="'gpt' is no provider; give openai"):
        choose("x", "gpt", ALL)
    keys = "set OPENAI_API_KEY, ANTHROPIC_API_KEY or GEMINI_API_KEY"
    for wanted in ("auto", "openai"):
        with pytest.raises(InvalidInputError, match=keys):
            choose("x", wanted, ())


@pytest.mark.slow
def test_no_sdk_is_imported_that_is_not_used() -> None:
    code = (
        "import sys, mcp_discovery.ask, mcp_discovery.facade.app\n"
        "names = 'openai', 'anthropic', 'google.genai', 'mcp', 'mcp_types'\n"
        "print([each for each in names if each in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n"
    assert {each.package for each in PROVIDERS.values()} == {"openai", "anthropic", "google-genai"}

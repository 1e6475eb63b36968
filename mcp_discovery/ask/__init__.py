"""Answers a question with the tools of MCP servers that are alive, and a model that calls them.

To read in this order: ``model`` (what the agent wants of a model), ``providers`` (whose models
there are, and which one a question goes to), ``openai``, ``anthropic`` and ``gemini`` (each over
its own SDK, which is imported when it is used), ``toolbox`` (where tools are found and called),
``offered_tools`` (which of them the model is given), ``steps`` (what is told while it works) and
``agent`` (the loop, and its bounds).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcp_discovery.ask.agent import Answer, AskLimits, answer
    from mcp_discovery.ask.model import (
        AskError,
        AskLimitError,
        Model,
        ModelError,
        ModelRefusedError,
        TokenUsage,
        Turn,
    )
    from mcp_discovery.ask.providers import PROVIDERS, choose
    from mcp_discovery.ask.steps import Step
    from mcp_discovery.ask.toolbox import DiscoveryToolbox, Toolbox

_MODULES = {
    "agent": ("Answer", "AskLimits", "answer"),
    "model": (
        *("AskError", "AskLimitError", "Model", "ModelError", "ModelRefusedError"),
        *("TokenUsage", "Turn"),
    ),
    "providers": ("PROVIDERS", "choose"),
    "steps": ("Step",),
    "toolbox": ("DiscoveryToolbox", "Toolbox"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "PROVIDERS",
    "Answer",
    "AskError",
    "AskLimitError",
    "AskLimits",
    "DiscoveryToolbox",
    "Model",
    "ModelError",
    "ModelRefusedError",
    "Step",
    "TokenUsage",
    "Toolbox",
    "Turn",
    "answer",
    "choose",
]


def __getattr__(name: str) -> Any:
    # The agent imports the MCP SDK; a facade that is asked nothing must not pay for it.
    if name in _MODULE_OF:
        return getattr(import_module(f"mcp_discovery.ask.{_MODULE_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

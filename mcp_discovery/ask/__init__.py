"""Answers a question with the tools of MCP servers that are alive, and a model that calls them.

To read in this order: ``model`` (what the agent wants of a model), ``providers`` (whose models
there are, and which one a question goes to), ``openai``, ``anthropic`` and ``gemini`` (each over
its own SDK, which is imported when it is used), ``toolbox`` (where tools are found and called),
``offered_tools`` (which of them the model is given), ``steps`` (what is told while it works) and
``agent`` (the loop, and its bounds).
"""

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
from mcp_discovery.ask.providers import (
    NO_KEY,
    PROVIDERS,
    Provider,
    choose,
    configured,
    provider_named,
)
from mcp_discovery.ask.steps import Step
from mcp_discovery.ask.toolbox import DiscoveryToolbox, Toolbox

__all__ = [
    "NO_KEY",
    "PROVIDERS",
    "Answer",
    "AskError",
    "AskLimitError",
    "AskLimits",
    "DiscoveryToolbox",
    "Model",
    "ModelError",
    "ModelRefusedError",
    "Provider",
    "Step",
    "TokenUsage",
    "Toolbox",
    "Turn",
    "answer",
    "choose",
    "configured",
    "provider_named",
]

"""A whole agent: finds MCP servers through a facade, gives their tools to a model, makes its calls.

    python examples/agent.py --scripted "Can a kettle be shipped today?"
    python examples/agent.py --provider anthropic "Can a kettle be shipped today?"

The first needs no key: a script stands in for the model. The second needs the key of that model API
in the environment, and the extra ``ask``; it is what ``mcp-discovery ask`` does. Both need a facade
with the servers product-catalog and analytics: ``mcp-discovery demo`` starts them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from mcp_discovery import Discovery
from mcp_discovery.ask import PROVIDERS, DiscoveryToolbox, TokenUsage, Turn, answer, choose
from mcp_discovery.ask.providers import Client
from mcp_discovery.errors import DiscoveryError


async def run(question: str, *, facade: str, provider: str, scripted: bool = False) -> str:
    """The model's answer to ``question``, with tools of the servers that ``facade`` lists.

    Raises what :class:`Discovery` does when the facade is not to be had, and
    :class:`mcp_discovery.ask.AskError` when there is no answer.
    """
    name = "openai" if scripted else choose(question, provider)
    opened = scripted_client() if scripted else PROVIDERS[name].client()
    async with Discovery(facade) as discovery, opened as client:
        found = await answer(
            question, toolbox=DiscoveryToolbox(discovery), client=client, provider=name
        )
    return found.text


class ScriptedModel:
    """Stands in for a model: says :data:`SCRIPT` turn by turn, then repeats what it was told.

    A model of one's own is such a class: :class:`mcp_discovery.ask.Model`.
    """

    format: Final = "openai"
    options: Final[Mapping[str, Any]] = {}
    defers: Final = False

    def __init__(self) -> None:
        self._script = list(SCRIPT)
        self._heard: list[str] = []

    def ask(self, question: str) -> None:
        """Takes what the user says."""

    async def turn(self, tools: Sequence[dict[str, Any]], **_: Any) -> Turn:
        """The next turn."""
        if not self._script:
            return Turn("\n".join(self._heard), (), TokenUsage())
        calls = [
            {
                "id": f"call_{number}",
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(arguments)},
            }
            for number, (name, arguments) in enumerate(self._script.pop(0))
        ]
        return Turn("", calls, TokenUsage())

    def answer(self, results: Sequence[dict[str, Any]]) -> None:
        """Takes the results of its calls."""
        self._heard += [each["content"] for each in results]


@asynccontextmanager
async def scripted_client() -> AsyncIterator[Client]:
    """The client of an SDK that is none."""
    yield lambda model, instructions: ScriptedModel()


#: Turns, each of calls by name and arguments: first the search for tools.
SCRIPT: list[list[tuple[str, dict[str, Any]]]] = [
    [
        ("find_tools", {"query": "find products in the catalog"}),
        ("find_tools", {"query": "what is in stock"}),
        ("find_tools", {"query": "the pages that are read most"}),
    ],
    [("search_products", {"query": "kettle"})],
    [("check_stock", {"sku": "KET-100"}), ("top_pages", {"period": "day", "limit": 1})],
]


def main() -> int:
    """Ask and print; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = os.environ.get("MCP_DISCOVERY_FACADE", "http://127.0.0.1:4000")
    parser.add_argument("question", help="what to ask the model")
    parser.add_argument("--facade", default=default, help=f"the facade's URL ({default})")
    parser.add_argument("--provider", default="auto", help="openai, anthropic, gemini or auto")
    parser.add_argument("--scripted", action="store_true", help="a script instead of a model")
    given = parser.parse_args()
    asked = run(
        given.question, facade=given.facade, provider=given.provider, scripted=given.scripted
    )
    try:
        print(asyncio.run(asked))
    except DiscoveryError as error:
        print(f"agent: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

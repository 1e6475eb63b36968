"""Public sets of tools with questions that are asked in sentences, and the tools that answer them.

Neither is part of the repository. BFCL v4, the Berkeley Function Calling Leaderboard, comes from
the package index (``make stores``); LiveMCPBench, made one file of servers and queries,
lies beside the repository.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.harness import Unavailable

ROOT: Final = Path(__file__).parent.parent
FINDERS: Final = ROOT / ".stores/finders"
_BFCL: Final = ROOT / ".stores/bfcl/bfcl_eval/data"
_CATEGORIES: Final = (
    *("simple_python", "multiple", "parallel_multiple"),
    *("live_simple", "live_multiple"),
)
_MOST_QUESTIONS: Final = 2000
_LIVE: Final = ROOT.parent / "shared/data/tool-search/livemcpbench.json"


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool and its server."""

    server: str
    about_server: str
    definition: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Its own name."""
        return str(self.definition["name"])


@dataclass(frozen=True, slots=True)
class ToolSet:
    """Tools, and questions with the names of the tools that answer them."""

    name: str
    tools: Sequence[Tool]
    questions: Sequence[tuple[str, frozenset[str]]]

    def scores(self, found: Sequence[Sequence[str]]) -> dict[str, float]:
        """How good the names ``found`` for each question are, best first, in percent: how many of
        the first are right, and which part of the right ones is among the first 5 and 10."""
        hit = at_5 = at_10 = 0.0
        for names, (_, right) in zip(found, self.questions, strict=True):
            hit += bool(names) and names[0] in right
            at_5 += len(right & set(names[:5])) / len(right)
            at_10 += len(right & set(names[:10])) / len(right)
        every = len(self.questions) / 100
        return {"hit@1": hit / every, "recall@5": at_5 / every, "recall@10": at_10 / every}


def bfcl() -> ToolSet:
    """1,222 functions, the first of each name, and 2,000 questions. They have no servers."""
    tools: dict[str, Tool] = {}
    questions = []
    for category in _CATEGORIES:
        name = f"BFCL_v4_{category}.json"
        right = {
            each["id"]: frozenset(key for call in each["ground_truth"] for key in call)
            for each in _lines(_BFCL / "possible_answer" / name)
        }
        for each in _lines(_BFCL / name):
            for function in each["function"]:
                definition = {
                    "name": function["name"],
                    "description": function.get("description", ""),
                    "inputSchema": function.get("parameters", {}),
                }
                tools.setdefault(function["name"], Tool("functions", "", definition))
            said = [turn["content"] for turn in each["question"][0] if turn["role"] == "user"]
            questions.append((" ".join(said), right[each["id"]]))
    return ToolSet("BFCL v4", list(tools.values()), questions[:_MOST_QUESTIONS])


def livemcpbench() -> ToolSet:
    """527 tools of real MCP servers, and 94 tasks, most of which need several of them."""
    if not _LIVE.exists():
        raise Unavailable(f"LiveMCPBench is not there: {_LIVE.name} in shared/data/tool-search/")
    found = json.loads(_LIVE.read_text(encoding="utf-8"))
    tools = [
        Tool(_label(server["server"]), server.get("description") or "", tool)
        for server in found["servers"]
        for tool in server["tools"]
    ]
    questions = [(each["question"], frozenset(each["tools"])) for each in found["queries"]]
    return ToolSet("LiveMCPBench", tools, questions)


SETS: Final[Mapping[str, Callable[[], ToolSet]]] = {"bfcl": bfcl, "livemcpbench": livemcpbench}


def _lines(path: Path) -> Iterator[Any]:
    if not path.exists():
        raise Unavailable("BFCL is not there; run make stores")
    return (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())


def _label(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60] or "server"

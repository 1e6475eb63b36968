"""What tools cost of a model's window, as different tokenizers count.

    .venv/bin/python -m benchmarks.token_counts ../shared/data/tool-search/livemcpbench.json

Prints the table of docs/tool-formats.md. The other tokenizers are optional: the packages
``quicktok-v1`` (OpenAI, Llama 3, Qwen 3) and ``ctok`` (a reconstruction of Anthropic's, wants
Python 3.12) bring their vocabularies along; what is not installed is left out. The file has
``servers``, each with ``server`` and ``tools``.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson

from mcp_discovery.tokens import BYTES, token_counter

#: Name in the table → encoding of ``quicktok``.
_ENCODINGS = {
    "o200k_base": "o200k_base",
    "cl100k_base": "cl100k_base",
    "Llama 3": "llama3",
    "Qwen 3": "qwen3",
}
#: Name in the table → family of ``ctok``.
_FAMILIES = {"Claude 3 to Opus 4.6": "3.0", "Claude Opus 4.7 and later": "4.7"}


def texts(file: Path) -> dict[str, str]:
    """The tools in ``file`` as JSON, in three lengths."""
    servers = orjson.loads(file.read_bytes())["servers"]
    tools = [(each["server"], tool) for each in servers for tool in each["tools"]]
    names = [{"name": tool["name"], "server": server} for server, tool in tools]
    described = [
        name | {"description": tool.get("description", "")}
        for name, (_, tool) in zip(names, tools, strict=True)
    ]
    whole = [{"server": server, **tool} for server, tool in tools]
    lengths = {"names": names, "names and descriptions": described, "whole": whole}
    return {name: orjson.dumps(each).decode() for name, each in lengths.items()}


def counters() -> Iterator[tuple[str, Callable[[str], int]]]:
    """What counts, first what counts here."""
    here = token_counter()
    yield here.name, here.count
    if find_spec("quicktok") is not None:
        quicktok = importlib.import_module("quicktok")
        for name, encoding in _ENCODINGS.items():
            yield name, partial(_encoded, quicktok.get_encoding(encoding))
    if find_spec("ctok") is not None:
        count = importlib.import_module("ctok").token_count
        for name, family in _FAMILIES.items():
            yield name, partial(count, version=family)
    yield BYTES.name, BYTES.count


def _encoded(encoding: Any, text: str) -> int:
    return len(encoding.encode(text))


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="tools by server, as LiveMCPBench's are")
    measured = texts(parser.parse_args().file)
    lines: list[list[str]] = [["", *measured]]
    first: list[int] = []
    for name, count in counters():
        counts = [count(text) for text in measured.values()]
        first = first or counts
        pairs = zip(counts, first, strict=True)
        lines.append([name, *(f"{each:,} ({one / each - 1:+.0%})" for each, one in pairs)])
    lines.insert(1, ["---"] * len(lines[0]))
    sys.stdout.writelines(f"| {' | '.join(line)} |\n" for line in lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())

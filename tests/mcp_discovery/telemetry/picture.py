"""The pictures of traces in docs/observability.md, as trees; and received spans as such trees."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tests.mcp_discovery.telemetry.collector import ReceivedSpan

_PAGE = Path(__file__).parents[3] / "docs" / "observability.md"


class Node(NamedTuple):
    """A span in a picture: who made it, its name, and those from the root down to its parent."""

    service: str
    name: str
    above: tuple[str, ...]


def drawn(name: str) -> list[Node]:
    """The picture of that name, line by line."""
    text = _PAGE.read_text()
    found = re.search(rf"<!-- picture: {name} -->\n```text\n(.*?)```", text, re.DOTALL)
    assert found is not None, f"no picture {name!r}"
    nodes: list[Node] = []
    above: list[tuple[int, str]] = []
    for line in found[1].splitlines():
        service, indent, rest = re.fullmatch(r"(\S+)( +)(\S.*)", line).groups()  # type: ignore[union-attr]
        depth = len(service) + len(indent)
        above = [each for each in above if each[0] < depth]
        nodes.append(Node(service, rest, tuple(each for _, each in above)))
        above.append((depth, f"{service} {rest}"))
    return nodes


def seen(spans: Iterable[ReceivedSpan]) -> set[Node]:
    """The spans of one trace as nodes of a picture."""
    by_id = {each.id: each for each in spans}

    def above(span: ReceivedSpan) -> tuple[str, ...]:
        if (parent := by_id.get(span.parent)) is None:
            return ()
        return (*above(parent), f"{parent.service} {parent.name}")

    return {Node(each.service, each.name, above(each)) for each in by_id.values()}

"""What ``find_tools`` answers: as much as there is room for in a model's window.

The whole answer is counted, as the text that the model reads (:mod:`mcp_discovery.tokens`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Any, Final, Literal, Protocol, TypeAlias

import orjson

from mcp_discovery.tokens import TokenCounter, token_counter

#: How much is said of each tool; each has the members of the one before.
Detail: TypeAlias = Literal["names", "summary", "full"]
DETAILS: Final[tuple[Detail, ...]] = ("names", "summary", "full")

_SUMMARY: Final = ("title", "description")
_FULL: Final = (*_SUMMARY, "inputSchema", "outputSchema", "annotations")
#: How long a description in a summary is, in characters, and how much of it is read for that.
_SHORT, _READ = 240, 2_000
#: From so many tools on that match words, groups come first.
MANY: Final = 1_000
#: Which part of the answer the groups may take, with words and without.
_SHARE: Final = {True: 0.25, False: 0.5}
#: The most groups of one kind.
_MOST_GROUPS: Final = 200


class FoundTool(Protocol):
    """A tool that was found; ``tool`` is MCP's definition, as far as it is known, and ``why`` the
    line that says which words were found."""

    @property
    def name(self) -> str: ...

    @property
    def server(self) -> str: ...

    @property
    def tool(self) -> Mapping[str, Any]: ...

    @property
    def why(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class ModelWindow:
    """How long an answer may be, and what it says of each tool."""

    max_tokens: int
    limit: int
    detail: Detail


def tool_answer(
    found: Sequence[FoundTool],
    tags: Mapping[str, Collection[str]],
    window: ModelWindow,
    *,
    words: bool,
    more: Mapping[str, Any],
) -> dict[str, Any]:
    """The answer with the best of ``found``, and its length in ``tokens``.

    ``tags`` are those of each server, ``words`` says whether words were searched for; without, or
    with a thousand that match, ``groups`` count the tools by server and by tag. ``more`` are the
    answer's other members; what its ``note`` says comes first.
    """
    answer = _ToolAnswer(found, window, more, token_counter())
    crowded = len(found) >= MANY if words else len(found) > window.limit
    if crowded or (not words and not answer.holds_all()):
        answer.group(tags, _SHARE[words])
    return answer.fitted()


class _ToolAnswer:
    """An answer in the making: ``shown`` tools, ``groups`` where there are too many."""

    def __init__(
        self,
        found: Sequence[FoundTool],
        window: ModelWindow,
        more: Mapping[str, Any],
        counter: TokenCounter,
    ) -> None:
        self._found = found
        self._window = window
        self._more = more
        self._counter = counter
        self._items = [_item(each, window.detail) for each in found[: window.limit]]
        self._lessened: Detail | None = None
        self._groups: dict[str, dict[str, int]] = {}

    def holds_all(self) -> bool:
        """Whether no tool is left out."""
        return self._room_for(self._items) == len(self._found)

    def group(self, tags: Mapping[str, Collection[str]], share: float) -> None:
        """Adds the groups, the largest first, in a part of the room."""
        servers = Counter(each.server for each in self._found)
        by_tag: Counter[str] = Counter()
        for server, number in servers.items():
            by_tag.update(dict.fromkeys(tags.get(server, ()), number))
        room = round(self._window.max_tokens * share)
        for name, half in (("tags", 2), ("servers", 1)):
            every = by_tag if name == "tags" else servers
            ordered = sorted(every.items(), key=lambda each: (-each[1], each[0]))[:_MOST_GROUPS]
            texts = [f'"{key}":{number}' for key, number in ordered]
            fit = self._counter.most_that_fit(texts, room // half)
            room -= sum(self._counter.counts(texts[:fit])) + fit
            self._groups[name] = dict(ordered[:fit])
        self._groups = {name: self._groups[name] for name in ("servers", "tags")}

    def fitted(self) -> dict[str, Any]:
        """The answer with as many tools as fit."""
        shown = self._room_for(self._items)
        if not shown and self._found:
            self._lessen()
            shown = self._room_for(self._items)
        while True:
            body = self._body(shown)
            tokens = self._counter.count(_text(body))
            if tokens <= self._window.max_tokens or not shown:
                break
            shown -= 1
        while tokens < body["tokens"]:  # a smaller number may itself be shorter
            body["tokens"] = tokens
            tokens = self._counter.count(_text(body))
        return body

    def _lessen(self) -> None:
        """Says of the first tool as much as there is room for: it is never left out."""
        for detail in reversed(DETAILS[: DETAILS.index(self._window.detail)]):
            self._items = [_item(self._found[0], detail)]
            self._lessened = detail
            if self._room_for(self._items):
                break

    def _room_for(self, items: Sequence[Mapping[str, Any]]) -> int:
        """How many of ``items`` there is room for, or one more where the count is close."""
        rest = self._counter.count(_text(self._body(0)))
        return self._counter.most_that_fit(map(_text, items), self._window.max_tokens - rest)

    def _body(self, shown: int) -> dict[str, Any]:
        groups = {"groups": self._groups} if self._groups else {}
        left = len(self._found) - shown
        body = {
            **groups,
            "tools": self._items[:shown],
            "matched": len(self._found),
            "tokens": self._window.max_tokens,
            "countedBy": self._counter.name,
            **self._more,
        }
        if left or self._lessened is not None:
            cut = "limit" if shown == self._window.limit else "max_tokens"
            body |= {"cut": cut, "note": self._note(left, cut)}
        return body

    def _note(self, left: int, cut: str) -> str:
        said = [self._more["note"]] if "note" in self._more else []
        if self._lessened is not None:
            said.append(
                f"detail={self._window.detail} of the first tool takes more than max_tokens, so it "
                f"is told as detail={self._lessened}."
            )
        if left:
            match = "matches" if left == 1 else "match"
            how = "give server or tags, as groups has them; or " if self._groups else ""
            said.append(f"{left} more {match}; {how}add words to q, or raise {cut}.")
        return " ".join(said)


def _item(found: FoundTool, detail: Detail) -> dict[str, Any]:
    """What is said of one tool, as far as it is known."""
    item: dict[str, Any] = {"name": found.name, "server": found.server}
    tool = found.tool
    if found.why is not None and detail != "names":
        item["why"] = found.why
    if detail == "full":
        return item | {each: tool[each] for each in _FULL if each in tool}
    if detail == "summary":
        item |= {each: tool[each] for each in _SUMMARY if each in tool}
        if isinstance(text := item.get("description"), str) and len(text) > _SHORT:
            item["description"] = shorten(text[:_READ], _SHORT, placeholder=" …")
    return item


def _text(value: object) -> str:
    return orjson.dumps(value, default=dict).decode()

"""Deferred tools: the model is given a search at first, and a tool's definition when it found it.

Sources of the shapes:

- OpenAI, Responses API: https://developers.openai.com/api/docs/guides/tools-tool-search and the
  types ``ToolSearchToolParam``, ``NamespaceToolParam``, ``ResponseToolSearchCall`` and
  ``ResponseToolSearchOutputItemParamParam`` of its library. Functions with ``defer_loading`` stand
  in namespaces. Of a namespace the model sees the name and the description from the beginning. With
  ``execution: client`` the agent answers a ``tool_search_call`` by a ``tool_search_output``, which
  brings the definitions along.
- Anthropic: https://platform.claude.com/docs/en/agents-and-tools/tool-use/tool-search-tool and the
  types ``ToolParam``, ``ToolReferenceBlockParam`` and ``ToolSearchToolBm25_20251119Param``. All
  definitions are in the request, with ``defer_loading``; the model reads one when a
  ``tool_reference`` names it: of its own search, or in the ``tool_result`` of an agent's. A request
  has up to 10,000 tools, the search itself is not deferred, and every reference in the conversation
  must have its definition.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from textwrap import shorten
from types import MappingProxyType
from typing import Any, Final, Literal, get_args

import orjson

from mcp_discovery.client.formats.calls import ToolCall, search_output
from mcp_discovery.client.formats.conversion import Note
from mcp_discovery.client.formats.dialects import Format
from mcp_discovery.client.formats.export import ExportedTool, Exporter, ToolList
from mcp_discovery.client.settings import require_choice
from mcp_discovery.client.tool import Tool
from mcp_discovery.errors import InvalidInputError
from mcp_discovery.plural import counted
from mcp_discovery.tokens import token_counter

#: Who searches: the agent, by :meth:`Discovery.dispatch`, or the servers of the model's API.
Searcher = Literal["client", "server"]

#: The name of the search that the agent serves, where the API has none of its own.
SEARCH_TOOL: Final = "search_tools"
_TAKEN: Final = (SEARCH_TOOL, "tool_search", "tool_search_tool_bm25")
_HOSTED: Final[Mapping[Format, dict[str, Any]]] = {
    "openai": {"type": "tool_search"},
    "anthropic": {"type": "tool_search_tool_bm25_20251119", "name": "tool_search_tool_bm25"},
}
#: The most tools in one request of Anthropic's.
_MOST_TOOLS: Final = 10_000
#: How many tools a search finds, unless the model asks for another number, and at most.
USUAL_FOUND, MOST_FOUND = 5, 20
#: How much of a server's description stands in an overview, in characters, where all of it fits;
#: tried one after the other.
_DESCRIPTIONS: Final = (160, 80, 40, 0)

#: The JSON Schema of a search's arguments.
SEARCH_PARAMETERS: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {
        "query": {
            "type": "string",
            "description": "What the tool is to do, in a few words or a sentence.",
        },
        "limit": {
            "type": "integer",
            "minimum": 1,
            "maximum": MOST_FOUND,
            "description": f"How many tools to find at most; {USUAL_FOUND} if left out.",
        },
    },
    "required": ["query"],
    "additionalProperties": False,
}
_ABOUT: Final = (
    "Finds tools by what they do, best first, and loads them. Their definitions are not loaded "
    "yet: search before you say that something cannot be done, then call what was found."
)


class DeferredToolList(ToolList):
    """The payload for a model API whose tools are loaded by a search.

    ``names`` are all tools that the search may find, ``visible`` is the part of the payload that
    the model reads before it searches, and ``tokens`` how long that is as JSON, as ``counter``
    counts.
    """

    def __init__(
        self,
        tools: Sequence[Tool],
        format: Format,
        *,
        search: Searcher = "client",
        max_tokens: int = 2_000,
        about: Mapping[str, str] | None = None,
        found: Iterable[Tool] = (),
        loaded: Iterable[Tool] = (),
        before: DeferredToolList | None = None,
        **options: Any,
    ) -> None:
        """The payload for ``tools``.

        ``search`` says who searches. ``max_tokens`` bounds ``tokens``. ``about`` maps servers to
        their descriptions. ``loaded`` are those of ``tools`` that the model reads before it
        searches, besides ``visible``. ``found`` are the tools that the conversation has found so
        far, which stay in the payload for as long as it lasts, ``before`` is the last payload, of
        which everything that is the same is taken over.

        Raises :class:`InvalidInputError` for an API without deferred tools, and for options that
        do not fit.
        """
        if format not in _HOSTED:
            raise InvalidInputError(
                f"{format!r} has no deferred tools; give format='openai' or 'anthropic'"
            )
        require_choice("search", search, get_args(Searcher))
        if not isinstance(max_tokens, int) or isinstance(max_tokens, bool):
            raise InvalidInputError(f"max_tokens={max_tokens!r} is no whole number")
        if options.get("api") == "chat":
            raise InvalidInputError(
                "Chat Completions have no deferred tools; leave out api= or give api='responses'"
            )
        if format == "openai":
            options["api"] = "responses"
        self._exporter = Exporter(format, options)
        listed = {(each.name, each.server): each for each in (*found, *tools)}
        names = self._exporter.names([*listed.values()], taken=_TAKEN)
        self._kind = format, search, options
        same = before._that_stay(names) if before is not None and before._kind == self._kind else {}
        super().__init__((), format=format, exported=same, notes=())
        self.names: Mapping[str, Tool] = MappingProxyType(names)
        self._name_of = {(tool.name, tool.server): name for name, tool in names.items()}
        self.search: Searcher = search
        self.counter = token_counter()
        self._about = dict(about or {})
        self._loaded = {(each.name, each.server) for each in loaded}
        self._unusable: set[str] = set()
        if before is not None and same:
            stay = {each.tool.name for each in same.values()}
            kept = (each for each in before.notes if each.tool in stay and each.path != "name")
            self._exporter.notes += kept
        self._fill(max_tokens)
        self.notes = tuple(self._exporter.notes)

    def _fill(self, max_tokens: int) -> None:
        """Fills the payload; raises :class:`InvalidInputError` where the search itself is longer
        than ``max_tokens``."""
        hosted = self.search == "server"
        candidates: Iterable[list[dict[str, Any]]]
        if hosted and self.format == "openai":
            groups = self._namespaces(self.names)
            candidates = [
                [*self._described(groups, most), _HOSTED["openai"]] for most in _DESCRIPTIONS
            ]
        else:
            searches = [_HOSTED[self.format]] if hosted else self._overviews()
            candidates = ([search] for search in searches)
        for self.visible in candidates:
            text = orjson.dumps(self.visible).decode()
            if self.counter.fits(text, max_tokens):
                break
        self.tokens = self.counter.count(text)
        if hosted and self.format == "openai":
            tools = {each["name"]: each["tools"] for each in groups}
            self += [each | {"tools": tools[each["name"]]} for each in self.visible[:-1]]
            self.append(_HOSTED["openai"])
            if self.tokens > max_tokens:
                said = f"before it searches the model reads {self.tokens:,} tokens; choose by tags"
                self._exporter.notes.append(Note("", "tools", f"{said}, or let the agent search"))
            return
        if self.tokens > max_tokens:
            raise InvalidInputError(
                f"max_tokens={max_tokens} is less than the search alone takes, {self.tokens}"
            )
        self += self.visible
        if self.format == "openai":
            early = (name for name, each in self.names.items() if self._is_loaded(each))
            self += filter(None, map(self._entry, early))
        if self.format == "anthropic":
            self += filter(None, map(self._entry, list(self.names)[: _MOST_TOOLS - 1]))
            if (left := len(self.names) - _MOST_TOOLS + 1) > 0:
                said = f"a request takes {_MOST_TOOLS:,} tools, and {left:,} more are left out"
                what = "choose by tags" if hosted else "those that are found are in the next one"
                self._exporter.notes.append(Note("", "tools", f"{said}; {what}"))

    def _that_stay(self, names: Mapping[str, Tool]) -> dict[str, ExportedTool]:
        """What was exported, of the tools that are the very same in ``names``."""
        return {
            name: each
            for name, each in self._exported.items()
            if (now := names.get(name)) is not None
            and now.definition is each.tool.definition
            and (now.name, now.server) == (each.tool.name, each.tool.server)
        }

    def _entry(self, name: str) -> dict[str, Any] | None:
        """The definition of a tool; ``None`` where the API cannot be given it."""
        if name in self.names and name not in self._exported and name not in self._unusable:
            exported = self._exporter.exported(name, self.names[name])
            if exported is None:
                self._unusable.add(name)
            else:
                self._exported[name] = exported
        found = self._exported.get(name)
        if found is None or self._is_loaded(found.tool):
            return None if found is None else found.entry
        return found.entry | {"defer_loading": True}

    def _is_loaded(self, tool: Tool) -> bool:
        return (tool.name, tool.server) in self._loaded

    def restore(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """As :meth:`ToolList.restore`."""
        self.tool(name)
        return dict(arguments) if self._entry(name) is None else super().restore(name, arguments)

    def answer(self, call: ToolCall, found: Iterable[Tool]) -> dict[str, Any]:
        """The message that answers the search ``call``: it loads those of ``found`` that are in
        this payload."""
        names = [self._name_of.get((tool.name, tool.server), "") for tool in found]
        if self.format == "openai":
            groups = self._namespaces(names)
            return search_output(call, self._described(groups, _DESCRIPTIONS[0], tools=True))
        usable = [name for name in names if self._entry(name) is not None]
        content = [{"type": "tool_reference", "tool_name": name} for name in usable]
        nothing = [{"type": "text", "text": "No tool matches; search with other words."}]
        return {"type": "tool_result", "tool_use_id": call.id, "content": content or nothing}

    def _namespaces(self, names: Iterable[str]) -> list[dict[str, Any]]:
        """The tools of these names by server, in the order in which the servers first occur."""
        by_server: dict[str, list[dict[str, Any]]] = {}
        for name in names:
            if (entry := self._entry(name)) is not None:
                deferred = entry | {"defer_loading": True}
                by_server.setdefault(self.names[name].server, []).append(deferred)
        return [{"name": server, "tools": tools} for server, tools in by_server.items()]

    def _described(
        self, groups: Iterable[Mapping[str, Any]], most: int, *, tools: bool = False
    ) -> list[dict[str, Any]]:
        return [
            {
                "type": "namespace",
                "name": each["name"],
                "description": _shortened(self._about.get(each["name"], ""), most)
                or counted(len(each["tools"]), "tool"),
                **({"tools": each["tools"]} if tools else {}),
            }
            for each in groups
        ]

    def _overviews(self) -> Iterable[dict[str, Any]]:
        """The search, with an overview of the servers: one after the other shorter."""
        servers = {tool.server: "" for tool in self.names.values()} | self._about
        return map(self._search, search_descriptions(servers))

    def _search(self, about: str) -> dict[str, Any]:
        if self.format == "anthropic":
            return {"name": SEARCH_TOOL, "description": about, "input_schema": SEARCH_PARAMETERS}
        return {
            "type": "tool_search",
            "execution": "client",
            "description": about,
            "parameters": SEARCH_PARAMETERS,
        }


def search_descriptions(about: Mapping[str, str]) -> Iterator[str]:
    """What a model is told of the search, with an overview of the servers in ``about``, which maps
    them to their descriptions: one after the other shorter, down to none."""
    servers = sorted(about)
    for most in _DESCRIPTIONS:
        texts = ((name, _shortened(about[name], most)) for name in servers)
        yield _overview("".join(f"\n{name}: {text}".removesuffix(": ") for name, text in texts))
    shown = len(servers)
    while shown := shown // 2:
        more = f"\n… and {len(servers) - shown} more"
        yield _overview("".join(f"\n{name}" for name in servers[:shown]) + more)
    yield _ABOUT


def _overview(servers: str) -> str:
    return f"{_ABOUT} They are of these servers:{servers}" if servers else _ABOUT


def _shortened(text: str, most: int) -> str:
    """``text`` in one line, of at most so many characters."""
    return shorten(text, most, placeholder=" …") if most else ""


def question_of(call: ToolCall) -> tuple[str, int]:
    """What a search of the model asks for, and how many tools it wants.

    Raises :class:`InvalidInputError`, which is for the model to read.
    """
    query, limit = call.arguments.get("query"), call.arguments.get("limit")
    if not isinstance(query, str) or not query.strip():
        raise InvalidInputError("query is missing; write what the tool is to do")
    wanted = limit if isinstance(limit, int) and not isinstance(limit, bool) else USUAL_FOUND
    return query, min(max(wanted, 1), MOST_FOUND)

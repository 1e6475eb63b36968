"""What is searched of a tool and of a server: the tables of fields, and the weights of their words.

A new text that is to be found is a row here; every search has it then. What a word weighs in a
text is the sum over the fields of ``weight * n / (1 - B + B * length / usual)``, where ``n`` is how
often the field has it, :data:`MOST_OF_ONE` at most, and ``length`` how many words the field has. So
a field that repeats itself, or holds a dictionary, has less to say of each of its words.

That is BM25F (Robertson, Zaragoza and Taylor, "Simple BM25 Extension to Multiple Weighted Fields",
2004) with one change: ``usual`` is a constant of the field, not the mean of a collection, so that
what others write of themselves changes nothing in the weights of a text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, Generic, NamedTuple, TypeVar

from mcp_discovery.document import text_of
from mcp_discovery.query.words import stem, words
from mcp_discovery.record import Record

#: How much the length of a field counts, from 0 to 1.
B: Final = 0.6
#: How often a word counts in one field.
MOST_OF_ONE: Final = 2
#: From so many times its usual length on what should be short is a list of words: these weigh less
#: with the square of what it is too long.
TOO_LONG: Final = 2
#: How many different words of one text are indexed: those with the greatest weight.
MOST_WORDS: Final = 400
#: How many parameters of a tool are read, nested ones included, and how deep.
_PARAMETERS, _DEPTH = 100, 4

T = TypeVar("T")


class Field(NamedTuple, Generic[T]):
    """One searched text. ``usual`` is its usual length in words, ``most`` how many characters of it
    are read. ``is_short``: it should be short. ``is_name``: results say of its words that they are
    in the name."""

    name: str
    weight: float
    usual: float
    texts: Callable[[T], Iterable[str]]
    most: int = 4000
    is_short: bool = False
    is_name: bool = False


class Weights(NamedTuple):
    """The weight of each word of a text, and which of them are in its name."""

    of: Mapping[str, float]
    names: frozenset[str]


def weights(fields: Sequence[Field[T]], of: T) -> Weights:
    """The weights of the words in ``fields`` of a tool or a server."""
    found: dict[str, float] = {}
    names: set[str] = set()
    for field in fields:
        terms: Counter[str] = Counter()
        length = 0
        for word, again in _read(field.texts(of), field.most):
            length += not again
            terms[stem(word)] += 1
        share = field.weight / (1 - B + B * length / field.usual)
        if field.is_short:
            share *= min(1.0, TOO_LONG * field.usual / max(length, 1)) ** 2
        for term, number in terms.items():
            found[term] = found.get(term, 0.0) + share * min(number, MOST_OF_ONE)
        if field.is_name:
            names.update(terms)
    if len(found) > MOST_WORDS:
        found = dict(sorted(found.items(), key=lambda each: -each[1])[:MOST_WORDS])
    return Weights(found, frozenset(names & found.keys()))


def _read(texts: Iterable[str], most: int) -> Iterator[tuple[str, bool]]:
    for text in texts:
        if most <= 0:
            return
        yield from words(text[:most])
        most -= len(text)


def _texts(*values: object) -> Iterator[str]:
    return (each for each in values if isinstance(each, str))


def _parameters(schema: object, depth: int = 0) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The names and schemas of the parameters in an input schema, nested ones included."""
    if not isinstance(schema, Mapping) or depth > _DEPTH:
        return
    properties = schema.get("properties")
    if isinstance(properties, Mapping):
        for name, value in properties.items():
            if isinstance(value, Mapping):
                yield str(name), value
                yield from _parameters(value, depth + 1)
    yield from _parameters(schema.get("items"), depth + 1)


def _named(tool: Mapping[str, Any]) -> Iterator[str]:
    return (name for name, _ in islice(_parameters(tool.get("inputSchema")), _PARAMETERS))


def _described(tool: Mapping[str, Any]) -> Iterator[str]:
    for _, schema in islice(_parameters(tool.get("inputSchema")), _PARAMETERS):
        yield from _texts(schema.get("description"), schema.get("title"))
        yield from _items(schema.get("enum"))


def _items(values: object) -> Iterator[str]:
    return _texts(*values[:_PARAMETERS]) if isinstance(values, list) else iter(())


#: A tool's own fields, and those of a skill: one of MCP has no parameters, one of an A2A agent has
#: tags and examples of what to ask instead.
TOOL_FIELDS: tuple[Field[Mapping[str, Any]], ...] = (
    Field("name", 3, 3, lambda tool: _texts(text_of(tool, "name")), 256, True, True),
    Field("title", 2, 3, lambda tool: _texts(tool.get("title")), 256, True, True),
    Field("description", 2, 15, lambda tool: _texts(text_of(tool, "description"))),
    Field("parameters", 1, 4, _named),
    Field("parameter texts", 0.5, 30, _described),
    Field("tags", 0.75, 3, lambda skill: _items(skill.get("tags"))),
    Field("examples", 1, 15, lambda skill: _items(skill.get("examples"))),
)
#: What a server's fields add to each of its tools.
SERVER_FIELDS_OF_TOOLS: tuple[Field[Record], ...] = (
    Field("name", 1.5, 2, lambda record: (record.name,), 256, True, True),
    Field("title", 0.75, 3, lambda record: _texts(record.title), 256, True, True),
    Field("tags", 0.75, 3, lambda record: record.tags, 1000, True),
    Field("description", 0.5, 20, lambda record: (record.description,)),
)
#: A server's own fields.
SERVER_FIELDS: tuple[Field[Record], ...] = (
    Field("name", 4, 2, lambda record: (record.name,), 256, True, True),
    Field("title", 3, 3, lambda record: _texts(record.title), 256, True, True),
    Field("tags", 2, 3, lambda record: record.tags, 1000, True),
    Field("description", 2, 20, lambda record: (record.description,)),
    Field("example queries", 2, 20, lambda record: record.example_queries),
)

"""Servers with very many tools that differ, as a model would have to choose from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice, product
from typing import Any

VERBS = (
    "search",
    "get",
    "list",
    "create",
    "update",
    "delete",
    "send",
    "convert",
    "export",
    "check",
)
NOUNS = (
    *("invoice", "weather forecast", "calendar event", "email", "customer", "flight", "hotel"),
    *("recipe", "playlist", "pull request", "spreadsheet", "photo", "contract", "parcel", "patent"),
    *("exchange rate", "podcast", "lecture", "train", "map", "vaccine", "budget", "poem", "stock"),
)
SERVICES = (
    "cloud",
    "office",
    "home",
    "lab",
    "city",
    "bank",
    "school",
    "studio",
    "market",
    "clinic",
)

#: The parameters of tools, in turn.
PARAMETERS: tuple[Mapping[str, Any], ...] = (
    {"id": {"type": "integer", "minimum": 1, "description": "Which one."}},
    {"query": {"type": "string", "minLength": 1}, "limit": {"type": ["integer", "null"]}},
    {
        "when": {"type": "string", "format": "date", "description": "The day."},
        "unit": {"enum": ["hour", "day"], "description": "How it is divided."},
    },
    {
        "where": {
            "type": "object",
            "properties": {"lat": {"type": "number"}, "lon": {"type": "number"}},
            "required": ["lat", "lon"],
            "additionalProperties": False,
        },
        "labels": {"type": "array", "items": {"type": "string"}, "minItems": 1},
    },
)


def tools(number: int) -> Iterator[dict[str, Any]]:
    """So many tools, each with a name of its own."""
    every = product(range(number), SERVICES, NOUNS, VERBS)
    for at, (turn, service, noun, verb) in enumerate(islice(every, number)):
        properties = PARAMETERS[at % len(PARAMETERS)]
        name = f"{verb}_{noun}_{service}{turn or ''}".replace(" ", "_")
        yield {
            "name": name,
            "description": f"{verb.capitalize()}s a {noun} of the {service}. What it answers has "
            "the fields that are usual for it, and an error says which argument does not fit.",
            "inputSchema": {
                "type": "object",
                "properties": properties,
                "required": list(properties)[:1],
                "additionalProperties": False,
            },
        }


def by_server(number: int, each: int) -> dict[str, list[dict[str, Any]]]:
    """So many tools, ``each`` of them at one server: by the server's name."""
    every = tools(number)
    names = (f"server-{number}" for number in range(number))
    found = {}
    while some := list(islice(every, each)):
        found[next(names)] = some
    return found


def example(schema: Mapping[str, Any]) -> Any:
    """A value that ``schema`` asks for, made of nothing else."""
    if "enum" in schema:
        return schema["enum"][-1]
    if "anyOf" in schema:
        return example(schema["anyOf"][0])
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    match kind:
        case "object":
            properties = schema.get("properties", {})
            return {name: example(each) for name, each in properties.items()}
        case "array":
            return [example(schema.get("items", {"type": "string"}))]
        case "string":
            return "2026-12-01" if schema.get("format") == "date" else "a text"
        case "integer" | "number":
            return schema.get("minimum", 7)
        case _:
            return None

"""What each model API accepts: names, schemas and counts, with the source of every rule."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Container, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from mcp_discovery.client.formats.schema import ANNOTATIONS, CONSTRAINTS, NAMED, SEVERAL, SINGLE
from mcp_discovery.client.tool import Tool

Format = Literal["openai", "anthropic", "gemini"]

#: OpenAI: letters, digits, ``_`` and ``-``, at most 64 (``FunctionDefinition.name`` of its API
#: reference). Anthropic: its documentation says ``^[a-zA-Z0-9_-]{1,64}$``; the API itself accepts
#: 128, others that serve its models 64. Gemini: begins with a letter or ``_``, at most 64
#: (``FunctionDeclaration.name``); it takes dots as well, which models read as Python's.
NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_-]*")
NAME_ANY_START = re.compile(r"[a-zA-Z0-9_-]+")
NAME_LIMIT = 64

#: "Invalid 'tools': array too long. Expected an array with maximum length 128" (OpenAI); "the
#: maximum number of function declarations … is 128" (Google's function calling reference).
#: Anthropic documents none.
COUNT_LIMITS: Mapping[Format, int] = MappingProxyType({"openai": 128, "gemini": 128})

#: OpenAI refuses a request that has any other ("'uri' is not a valid format").
OPENAI_FORMATS = frozenset(
    ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid")
)

_WITH_SCHEMAS = SINGLE | SEVERAL | NAMED


@dataclass(frozen=True)
class Dialect:
    """The part of JSON Schema that an API takes.

    ``keywords`` are those it knows. ``plain`` says that it wants plain types instead of JSON
    Schema's conjunctions: one type for each part, unions as ``anyOf`` alone, no ``{}``; ``strict``
    that all members are required, and ``capitals`` that types are written in capitals. ``formats``
    are the values of ``format`` that it takes, ``None`` for all, and ``formats_by_type`` those
    that it takes for one type. ``refs`` says whether a schema may refer to itself. ``members`` is
    the form of a member's name, with ``every_level`` at every level, otherwise at the top;
    ``depth`` is how deep schemas may be nested.
    """

    keywords: frozenset[str]
    plain: bool = False
    strict: bool = False
    formats: frozenset[str] | None = None
    refs: bool = True
    members: re.Pattern[str] | None = None
    every_level: bool = False
    depth: int = 32
    capitals: bool = False
    formats_by_type: Mapping[str, frozenset[str]] = field(default_factory=dict)


#: Functions that are not strict take JSON Schema, but "schema must have type 'object' and not have
#: 'oneOf'/'anyOf'/'allOf'/'enum'/'const'/'not' at the top level".
OPENAI = Dialect(ANNOTATIONS | CONSTRAINTS | _WITH_SCHEMAS, formats=OPENAI_FORMATS)

#: https://developers.openai.com/api/docs/guides/structured-outputs#supported-schemas: objects are
#: closed and all their members required, a union with null says optional; no ``allOf``, ``not``,
#: ``dependentRequired``, ``dependentSchemas``, ``if``; ten levels.
OPENAI_STRICT = Dialect(
    frozenset(
        (
            *("title", "description", "type", "enum", "const", "anyOf", "items", "properties"),
            *("required", "additionalProperties", "pattern", "format", "multipleOf", "minimum"),
            *("maximum", "exclusiveMinimum", "exclusiveMaximum", "minItems", "maxItems"),
        )
    ),
    plain=True,
    strict=True,
    formats=OPENAI_FORMATS,
    depth=10,
)
STRICT_LIMITS = {
    "members": 5_000,
    "values in enums": 1_000,
    "characters in names and values": 120_000,
}

#: ``input_schema`` is JSON Schema 2020-12 with ``type: object`` (``ToolParam`` of its API);
#: "input_schema does not support oneOf, allOf, or anyOf at the top level"; "Property keys should
#: match pattern '^[a-zA-Z0-9_.-]{1,64}$'", which is asked of the top level.
ANTHROPIC = Dialect(
    ANNOTATIONS | CONSTRAINTS | _WITH_SCHEMAS, members=re.compile(r"[a-zA-Z0-9_.-]+")
)

#: ``parameters``: https://ai.google.dev/api/caching#Schema, a part of OpenAPI 3.0; unknown fields
#: are refused. Formats: "only 'enum' and 'date-time' are supported for STRING type". Members begin
#: with a letter or ``_`` and have no other signs (``FunctionDeclaration.parameters`` of Vertex AI),
#: where also "when using any_of, it must be the only field set". ``default`` is accepted and
#: ignored, ``title`` was long refused by Google's own SDK: both are said in words.
GEMINI = Dialect(
    frozenset(
        (
            *("description", "type", "enum", "anyOf", "items", "properties", "required"),
            *("pattern", "format", "minimum", "maximum", "minLength", "maxLength", "minItems"),
            *("maxItems", "minProperties", "maxProperties"),
        )
    ),
    plain=True,
    formats=frozenset(),
    formats_by_type=MappingProxyType(
        {
            "string": frozenset(("date-time",)),
            "number": frozenset(("float", "double")),
            "integer": frozenset(("int32", "int64")),
        }
    ),
    refs=False,
    members=re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*"),
    every_level=True,
    capitals=True,
)

#: ``parametersJsonSchema``: JSON Schema, of which these keywords count
#: (https://ai.google.dev/gemini-api/docs/structured-output#json-schema-support).
GEMINI_JSON = Dialect(
    frozenset(
        (
            *("title", "description", "default", "type", "enum", "format", "items", "prefixItems"),
            *("anyOf", "oneOf", "properties", "required", "additionalProperties", "minItems"),
            *("maxItems", "minimum", "maximum"),
        )
    ),
)


_HASH_DIGITS = 8


def tool_names(
    tools: Sequence[Tool], allowed: re.Pattern[str], taken: Collection[str] = ()
) -> dict[str, Tool]:
    """A name of ``allowed`` form and at most 64 characters for each tool, in their order.

    A name that is accepted as it is stays. In others, what is not accepted becomes ``_`` (and a dot
    ``__``); a short hash of the tool's own name and server is put at the end of those that are too
    long, or that would meet another. The answer does not depend on the order of ``tools``. Of tools
    that agree in name, server and digest only the first is named. No tool gets one of the names
    that are ``taken``.
    """
    chosen: dict[str, Tool] = {}
    wishes: dict[str, list[Tool]] = {}
    distinct = {_identity(tool): tool for tool in reversed(tools)}
    for _, tool in sorted(distinct.items()):
        fits = _fits(tool.name, allowed)
        if fits and tool.name not in chosen and tool.name not in taken:
            chosen[tool.name] = tool
        else:
            wish = _accepted(tool.name.replace(".", "__") if not fits else tool.name, allowed)
            wishes.setdefault(wish, []).append(tool)
    for wish, rivals in sorted(wishes.items()):
        free = wish not in chosen and wish not in taken
        alone = len(rivals) == 1 and free and len(wish) <= NAME_LIMIT
        for tool in rivals:
            seed = "\0".join(_identity(tool))
            chosen[wish if alone else _hashed(wish, seed, chosen)] = tool
    names = {_identity(tool): name for name, tool in chosen.items()}
    return {names[each]: distinct[each] for each in dict.fromkeys(map(_identity, tools))}


def member_names(names: Sequence[str], allowed: re.Pattern[str]) -> dict[str, str]:
    """The same for the members of one object: the server's name → the model's, if they differ."""
    taken = {name for name in names if _fits(name, allowed)}
    changed: dict[str, str] = {}
    for name in sorted(set(names) - taken):
        wish = _accepted(name, allowed)
        if wish in taken or len(wish) > NAME_LIMIT:
            wish = _hashed(wish, name, taken)
        taken.add(wish)
        changed[name] = wish
    return changed


def _identity(tool: Tool) -> tuple[str, str, str]:
    return (tool.name, tool.server, tool.digest)


def _fits(name: str, allowed: re.Pattern[str]) -> bool:
    return len(name) <= NAME_LIMIT and allowed.fullmatch(name) is not None


def _accepted(name: str, allowed: re.Pattern[str]) -> str:
    wish = "".join(each if allowed.fullmatch(f"a{each}") else "_" for each in name[:256]) or "_"
    return wish if allowed.fullmatch(wish) else f"_{wish}"


def _hashed(wish: str, seed: str, taken: Container[str]) -> str:
    digest = hashlib.blake2b(seed.encode(errors="surrogatepass"), digest_size=24).hexdigest()
    digits = _HASH_DIGITS
    while (name := f"{wish[: NAME_LIMIT - digits - 1]}_{digest[:digits]}") in taken:
        digits += 1
    return name

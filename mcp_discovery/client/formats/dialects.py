"""What each model API accepts: names, schemas and counts, with the source of every rule."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

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
ANNOTATIONS = frozenset(
    ("title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly")
)
#: Every keyword of JSON Schema 2020-12 that constrains a value and holds no schema.
CONSTRAINTS = frozenset(
    (
        *("type", "enum", "const", "multipleOf", "minimum", "maximum"),
        *("exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "pattern", "format"),
        *("minItems", "maxItems", "uniqueItems", "minContains", "maxContains"),
        *("minProperties", "maxProperties", "required", "dependentRequired"),
        *("contentEncoding", "contentMediaType"),
    )
)
#: … those that hold one schema, several, or several by name.
SINGLE = frozenset(
    (
        *("items", "additionalProperties", "unevaluatedItems", "unevaluatedProperties"),
        *("propertyNames", "contains", "not", "if", "then", "else"),
    )
)
SEVERAL = frozenset(("prefixItems", "anyOf", "oneOf", "allOf"))
NAMED = frozenset(("properties", "patternProperties", "dependentSchemas"))
APPLICATORS = SINGLE | SEVERAL | NAMED


@dataclass(frozen=True)
class Dialect:
    """The part of JSON Schema that an API takes.

    ``keywords`` are those it knows; ``subset`` says that it wants plain types instead of JSON
    Schema's conjunctions: one type for each part, unions as ``anyOf`` alone, no ``{}``. ``formats``
    are the values of ``format`` that it takes, ``None`` for all; ``refs`` whether a schema may
    refer to itself. ``members`` is the form of a member's name, with ``every_level`` at every
    level, otherwise at the top; ``depth`` how deep schemas may be nested.
    """

    keywords: frozenset[str]
    subset: bool = False
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
OPENAI = Dialect(ANNOTATIONS | CONSTRAINTS | APPLICATORS, formats=OPENAI_FORMATS)

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
    subset=True,
    strict=True,
    formats=OPENAI_FORMATS,
    depth=10,
)
#: … 5,000 members, 1,000 values in enums, 120,000 characters in names and values.
STRICT_MEMBERS, STRICT_VALUES, STRICT_CHARACTERS = 5_000, 1_000, 120_000

#: ``input_schema`` is JSON Schema 2020-12 with ``type: object`` (``ToolParam`` of its API);
#: "input_schema does not support oneOf, allOf, or anyOf at the top level"; "Property keys should
#: match pattern '^[a-zA-Z0-9_.-]{1,64}$'", which is asked of the top level.
ANTHROPIC = Dialect(ANNOTATIONS | CONSTRAINTS | APPLICATORS, members=re.compile(r"[a-zA-Z0-9_.-]+"))

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
    subset=True,
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
            *(
                "anyOf",
                "oneOf",
                "properties",
                "required",
                "additionalProperties",
                "minItems",
                "maxItems",
            ),
            *("minimum", "maximum"),
        )
    ),
)

"""The form of ARD v0.91 as JSON Schema: of an entry, a manifest, and the answers of a registry.

Of https://github.com/ards-project/ard-spec, spec/ard.md of 2026-08-26: sections 4.2, 5.1 and 5.3.
"""

from __future__ import annotations

from typing import Any

from jsonschema import Draft202012Validator, FormatChecker  # type: ignore[import-untyped]

_TEXT = {"type": "string", "minLength": 1}
_TEXTS = {"type": "array", "items": _TEXT}
_TERMS = {
    "@context": {"type": ["string", "object", "array"]},
    "identifier": {"type": "string", "pattern": "^urn:air:[a-zA-Z0-9.-]+(:[a-zA-Z0-9._-]+)+$"},
    "displayName": _TEXT,
    "type": {"type": "string", "pattern": "^[a-z]+/[a-z0-9.+-]+$"},
    "url": {"type": "string", "format": "uri", "pattern": "^https?://"},
    "data": {"type": "object"},
    "representativeQueries": {**_TEXTS, "minItems": 2, "maxItems": 5},
    "capabilities": _TEXTS,
    "description": _TEXT,
    "tags": _TEXTS,
    "version": _TEXT,
    "updatedAt": {"type": "string", "format": "date-time"},
    "metadata": {
        "type": "object",
        "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
    },
    "trustManifest": {"type": "object", "required": ["identity"]},
}
_ENTRY = {
    "type": "object",
    "properties": _TERMS,
    "required": ["identifier", "displayName", "type", "representativeQueries"],
    "oneOf": [{"required": ["url"]}, {"required": ["data"]}],
    "not": {"anyOf": [{"required": ["score"]}, {"required": ["source"]}]},
}
_SCORE = {"type": "integer", "minimum": 0, "maximum": 100}
_RESULT = {
    "type": "object",
    "properties": {**_TERMS, "score": _SCORE, "source": _TERMS["url"]},
    "required": ["identifier", "score", "source"],
}


def _validator(schema: dict[str, Any]) -> Any:
    return Draft202012Validator(schema, format_checker=FormatChecker())


def _exactly(required: list[str], **properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


ENTRY = _validator(_ENTRY)
MANIFEST = _validator(
    {
        "type": "object",
        "properties": {"entries": {"type": "array", "items": _ENTRY}},
        "required": ["entries"],
    }
)
RESULTS = _validator(
    _exactly(
        ["results"],
        results={"type": "array", "items": _RESULT, "maxItems": 100},
        referrals={"type": "array"},
        pageToken=_TEXT,
    )
)
LIST = _validator(
    _exactly(
        ["items", "total"],
        items={"type": "array", "items": _ENTRY, "maxItems": 100},
        total={"type": "integer", "minimum": 0},
        pageToken=_TEXT,
    )
)
_COUNT = {"type": "integer", "minimum": 0}
_BUCKETS = _exactly(
    ["buckets"],
    buckets={
        "type": "array",
        "items": _exactly(["value", "count"], value={"type": "string"}, count=_COUNT),
    },
    otherCount=_COUNT,
)
FACETS = _validator(
    _exactly(
        ["resultType", "facets"],
        resultType={"const": "facets"},
        facets={"type": "object", "additionalProperties": _BUCKETS},
    )
)
ERROR = _validator(_exactly(["errorCode", "message"], errorCode=_TEXT, message=_TEXT))

"""Whether an object fits the schema of its kind, unknown fields included."""

from __future__ import annotations

import json
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import jsonschema_rs

#: It has no types.
_kubernetes: Any = import_module("kubernetes_validate")

_SCHEMAS = Path(__file__).parent / "schemas"
#: From the first that has native sidecars and the sleep action switched on.
VERSIONS = ("1.30", "1.32", "1.34", "1.37")


class DoesNotFit(Exception):
    """An object does not fit; the text says what and where."""


def check(document: dict[str, Any], version: str) -> None:
    """Raises :class:`DoesNotFit` when ``document`` is none for Kubernetes ``version``."""
    path = _SCHEMAS / f"{document['kind']}.json"
    if not path.exists():
        try:
            assert _kubernetes.validate(document, version, strict=True) == version
        except _kubernetes.ValidationError as error:
            place = "/".join(map(str, error.absolute_path))
            raise DoesNotFit(f"{document['kind']} {place}: {error.message}") from error
        return
    kept = _custom(path)
    assert document["apiVersion"] == f"{kept['group']}/{kept['version']}"
    body = {key: value for key, value in document.items() if key in kept["strict"]["properties"]}
    assert set(document) - set(body) <= {"apiVersion", "kind", "metadata"}
    try:
        jsonschema_rs.validate(kept["strict"], body)
    except jsonschema_rs.ValidationError as error:
        place = "/".join(map(str, error.instance_path))
        raise DoesNotFit(f"{document['kind']} {place}: {error.message}") from error


@cache
def _custom(path: Path) -> dict[str, Any]:
    kept: dict[str, Any] = json.loads(path.read_text())
    return kept | {"strict": strict(kept["schema"])}


def strict(schema: Any) -> Any:
    """An OpenAPI schema as JSON Schema that refuses unknown fields, which an API server drops."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items() if key != "properties"}
    if "properties" in schema:
        made["properties"] = {name: strict(each) for name, each in schema["properties"].items()}
        # Only where a type is named: parts of oneOf and the like list some fields of many.
        if "type" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            made.setdefault("additionalProperties", False)
    if made.pop("nullable", False) and isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
    if made.pop("x-kubernetes-int-or-string", False):
        made.pop("type", None)
    return made

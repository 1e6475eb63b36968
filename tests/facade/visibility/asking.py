"""How each operation, and each tool and resource of ``/mcp``, is asked: what is declared says it.

A new operation is asked by itself: with every parameter that it declares, and for everything that
is there, seen or not. One that has a body of its own needs a line in :data:`BODIES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from random import Random
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from mcp_discovery.facade.app import OPERATIONS
from mcp_discovery.facade.gateway.handlers import PATH as GATEWAY
from mcp_discovery.facade.http.operation import Operation, Parameter
from tests.facade.visibility.scenes import Scene

#: Requests that are followed by a stream, which the test reads itself.
STREAMS = {"/events", "/registry/stream"}
#: What becomes a WebSocket where it is asked for with this.
HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Protocol": "mcp",
}
#: So many values of a path's parameters are tried, and so many query strings.
_VALUES, _QUERIES = 4, 2
#: Parameters that say how long to wait, or where a reader is: the streams' part of the test.
_LEFT_OUT = {"wait", "index", "cursor", "If-None-Match", "holder"}


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    path: str
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


#: What is posted to operations that change nothing of the list, by the end of their path.
BODIES: Mapping[str, Callable[[Scene, Random], Any]] = {
    "/connections/discover": lambda scene, chance: {
        "capabilities": [chance.choice(scene.words)] if chance.random() < 0.5 else [],
        "filters": {"status": chance.choice(("active", "error", "disconnected"))},
    },
    "/api/ard/search": lambda scene, chance: {"query": _ard_query(scene, chance)},
    "/api/ard/explore": lambda scene, chance: {
        "query": _ard_query(scene, chance),
        "resultType": {
            "facets": [{"field": each} for each in ("type", "tags", "capabilities", "health")]
        },
    },
    "/tokens": lambda scene, chance: {"texts": [chance.choice(scene.words)]},
    "/connections/{id}/outcome": lambda scene, chance: _outcome(scene, chance),
    "/servers/{id}/outcome": lambda scene, chance: _outcome(scene, chance),
    "/outcomes": lambda scene, chance: {
        "outcomes": [{"id": id, **_outcome(scene, chance)} for id in [*scene.ids, "missing"]]
    },
    "/connections/{id}/health-check": lambda scene, chance: None,
    "/connections/health-check/batch": lambda scene, chance: None,
    "/ui/login": lambda scene, chance: None,
    "/ui/logout": lambda scene, chance: None,
}


def _ard_query(scene: Scene, chance: Random) -> dict[str, Any]:
    terms = {"health": ["all"]} if chance.random() < 0.5 else {"tags": [chance.choice(scene.words)]}
    return {"text": chance.choice(scene.words), "filter": terms}


def _outcome(scene: Scene, chance: Random) -> dict[str, Any]:
    return {"success": True, "capability": chance.choice(scene.words)}


def requests(scene: Scene, chance: Random) -> Iterator[Asked]:
    """A few requests for every operation that does not change the list."""
    for each in OPERATIONS:
        if each.path in STREAMS:
            continue
        paths = list(_paths(scene, each, chance))
        if each.method == "GET" or each.needs in ("register", "admin", "call"):
            # Whoever may not change or call anything is refused alike, whatever it is about.
            for path in paths:
                yield Asked(each.method, path)
                if each.method == "GET" and each.path == GATEWAY:
                    yield Asked("GET", path, headers=HANDSHAKE)
            if each.method == "GET":
                for _ in range(_QUERIES):
                    yield Asked("GET", chance.choice(paths) + _query(scene, each, chance))
            continue
        body = next((make for end, make in BODIES.items() if each.path.endswith(end)), None)
        if each.method != "POST" or body is None:
            pytest.fail(f"say in BODIES what is sent to {each.method} {each.path}")
        for path in paths:
            yield Asked("POST", path, body(scene, chance))


def _paths(scene: Scene, operation: Operation, chance: Random) -> Iterator[str]:
    names = [each for each in operation.all_parameters if each.where == "path"]
    every = scene.words
    if operation.needs == "call":  # which of several replicas is called is left to chance
        every = [each for each in every if each not in scene.seen_names]
    values = {
        each.name: every if len(every) <= _VALUES else chance.sample(every, _VALUES)
        for each in names
    }
    if "id" in values:
        values["id"] = [*scene.ids, "missing"]
    if "digest" in values:
        values["digest"] = [each for each in every if len(each) == 64] + ["0" * 64]
    combinations = list(product(*values.values()))
    for given in combinations[:8]:
        path = operation.path
        for name, value in zip(values, given, strict=True):
            path = path.replace(f"{{{name}}}", quote(value, safe=""))
        yield path.replace("{namespace}", "local").replace("{serverName}", "pay")


def _query(scene: Scene, operation: Operation, chance: Random) -> str:
    given: dict[str, str] = {}
    for each in operation.all_parameters:
        if each.where == "query" and each.name not in _LEFT_OUT and chance.random() < 0.3:
            given[each.name] = _value(scene, each, chance)
    return f"?{urlencode(given)}" if given else ""


def _value(scene: Scene, parameter: Parameter, chance: Random) -> str:
    schema = parameter.schema
    if schema.get("type") == "array":
        schema = schema["items"]
    if "enum" in schema:
        return str(chance.choice(schema["enum"]))
    match schema.get("type"):
        case "integer":
            return str(chance.randint(1, 3))
        case "boolean":
            return chance.choice(("true", "false"))
    return chance.choice(scene.words)


def arguments(scene: Scene, schema: Mapping[str, Any], chance: Random) -> dict[str, Any]:
    """Arguments of a tool of ``/mcp``, as its schema wants them."""
    required = schema.get("required", ())
    return {
        name: _argument(scene, each, chance)
        for name, each in schema["properties"].items()
        if name in required or chance.random() < 0.3
    }


def _argument(scene: Scene, schema: Mapping[str, Any], chance: Random) -> Any:
    if "enum" in schema:
        return chance.choice(schema["enum"])
    kind = schema.get("type")
    match kind if isinstance(kind, str) else "string":
        case "array":
            return [_argument(scene, schema["items"], chance)]
        case "integer" | "number":
            return max(3, schema.get("minimum", 0))
        case "boolean":
            return True
    return chance.choice(scene.words)

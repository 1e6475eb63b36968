"""The OpenAPI document and the page that shows it."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any

from pydantic import BaseModel

from mcp_discovery.facade.app import OPERATIONS
from mcp_discovery.facade.http.openapi import document
from mcp_discovery.facade.http.operation import Operation, Parameter
from tests.facade.harness import Client


async def nothing(_: Any) -> Any:
    """Does ``nothing``, as :class:`mcp_discovery.facade.http.operation.Operation` says.

    More of it
    in two lines.
    """


async def test_it_is_served_and_covers_every_operation(ask: Client) -> None:
    told = (await ask("GET", "/openapi.json")).json
    assert told["openapi"] == "3.1.0"
    described = {
        (method.upper(), path) for path, methods in told["paths"].items() for method in methods
    }
    assert described == {(each.method, each.path) for each in OPERATIONS}


def test_every_reference_leads_somewhere_and_ids_are_unique() -> None:
    told = document(OPERATIONS)
    references: set[str] = set()

    def collect(node: Any) -> None:
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                references.add(node["$ref"])
            for each in node.values():
                collect(each)
        elif isinstance(node, list):
            for each in node:
                collect(each)

    collect(told)
    assert references
    for each in references:
        at: Any = told
        for part in each.removeprefix("#/").split("/"):
            at = at[part]
    # Two models of one name would be told apart by their modules: no name for a reader.
    assert [name for name in told["components"]["schemas"] if "__" in name] == []
    ids = [
        operation["operationId"]
        for methods in told["paths"].values()
        for operation in methods.values()
    ]
    assert len(set(ids)) == len(ids)
    assert {tag["name"] for tag in told["tags"]} >= {each.group for each in OPERATIONS}
    undescribed = [tag["name"] for tag in told["tags"] if tag["description"] == tag["name"]]
    assert undescribed == []


def test_every_operation_says_what_it_does_and_how_it_fails() -> None:
    for path, methods in document(OPERATIONS)["paths"].items():
        for method, operation in methods.items():
            where = f"{method} {path}"
            assert operation["summary"], where
            assert ":class:" not in str(operation), where
            assert {"400", "503"} <= operation["responses"].keys(), where
            named = set(re.findall(r"{(\w+)}", path))
            given = {
                each["name"] for each in operation.get("parameters", []) if each["in"] == "path"
            }
            assert given == named, where


def test_an_operation_is_described_from_its_declaration() -> None:
    operation = Operation(
        "PUT",
        "/things/{id}",
        nothing,
        "things",
        needs="register",
        answers={204: None},
        parameters=(Parameter("many", "Several.", {"type": "array", "items": {"type": "string"}}),),
        body={"type": "object"},
        errors=(404,),
    )
    told = document([operation])["paths"]["/things/{id}"]["put"]
    assert told["operationId"] == "putThingsById"
    assert told["summary"] == "Does `nothing`, as `Operation` says"
    assert told["description"] == "More of it in two lines."
    assert [each["name"] for each in told["parameters"]] == ["id", "many"]
    assert told["requestBody"]["required"] is True
    assert list(told["responses"]) == [
        "204",
        "400",
        "401",
        "403",
        "404",
        "408",
        "413",
        "415",
        "421",
        "502",
        "503",
        "508",
    ]
    assert "content" not in told["responses"]["204"]


async def test_streams_answer_as_they_are_declared(ask: Client) -> None:
    told = (await ask("GET", "/openapi.json")).json
    for each in OPERATIONS:
        if each.group != "streams":
            continue
        declared = told["paths"][each.path]["get"]["responses"]
        for query, methods in (("", ("HEAD",)), ("?nonsense=1", ("GET", "HEAD"))):
            for method in methods:
                reply = await ask(method, each.path + query)
                assert str(reply.status) in declared, (method, each.path, query)
                assert reply.headers["X-Request-Id"]
    content = told["paths"]["/events"]["get"]["responses"]["200"]["content"]
    assert list(content) == ["text/event-stream"]
    async with ask.session.ws_connect(f"{ask.url}/registry/stream") as socket:
        assert "101" in told["paths"]["/registry/stream"]["get"]["responses"]
        assert socket.get_extra_info("peername")


async def test_the_page_needs_nothing_from_elsewhere(ask: Client) -> None:
    reply = await ask("GET", "/docs")
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "text/html; charset=utf-8"
    text = reply.body.decode()
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", text)
    assert "@import" not in text
    assert "/*script*/" not in text
    assert "/*style*/" not in text
    narrow = text.partition("@media (max-width: 52rem)")[2].partition("</style>")[0]
    assert "#index { display: none; }" in narrow  # a phone has the filter, without the long list
    assert not re.search(r"nav \{[^}]*display: none", narrow)
    policy = reply.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    for tag in ("script", "style"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    tag = reply.headers["ETag"]
    again = await ask("GET", "/docs", headers={"If-None-Match": tag})
    assert (again.status, again.body) == (304, b"")


def test_a_component_is_named_after_its_class_without_a_trailing_model() -> None:
    class HarborModel(BaseModel):
        """Where ships lie."""

        piers: int

    told = document(
        [
            Operation(
                "GET", "/harbor", nothing, "discovery", answers={200: HarborModel}, needs="read"
            )
        ]
    )
    assert told["components"]["schemas"]["Harbor"] == {
        "description": "Where ships lie.",
        "properties": {"piers": {"type": "integer"}},
        "required": ["piers"],
        "title": "Harbor",
        "type": "object",
    }
    content = told["paths"]["/harbor"]["get"]["responses"]["200"]["content"]
    assert content["application/json"]["schema"] == {"$ref": "#/components/schemas/Harbor"}

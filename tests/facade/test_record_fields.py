"""Every field of the record is posted, listed, described, exported, imported and compared.

A field that is added in record.py is covered, and has to pass, without a change here.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import TypeAdapter

from mcp_discovery.cli import descriptions
from mcp_discovery.cli.export import registration_body
from mcp_discovery.cli.register_plan import compare, read_list
from mcp_discovery.cli.server_files import export_of, require_known
from mcp_discovery.facade.app import OPERATIONS
from mcp_discovery.facade.http.openapi import document
from mcp_discovery.instance import decode_registration, encode_registration, instance_from_dict
from mcp_discovery.record import Record
from mcp_discovery.record_fields import GIVEN, OBSERVED, SHARED
from tests.facade.harness import Client, leased, served

FIELDS = {field.alias or name: field for name, field in Record.model_fields.items()}
NOWHERE = "http://127.0.0.1:9"
#: Values other than the default, where the type of the field alone does not give one.
VALUES: dict[str, Any] = {
    "id": "catalog-7",
    "name": "catalog",
    "endpoint": {"transport": "sse", "url": f"{NOWHERE}/sse", "args": []},
    "metadata": {"team": "shop"},
    "healthUrl": f"{NOWHERE}/health",
    "registeredAt": "2026-01-31T12:00:00.000Z",
    "startedAt": "2026-01-31T11:00:00.000Z",
    "kind": "agent",
    "registryName": "com.example/catalog",
    "version": "1.4.0",
    "websiteUrl": "https://example.com/",
    "icons": [{"src": "https://example.com/icon.png"}],
    "tags": ["products"],
    "exampleQueries": ["is it in stock", "which is cheaper"],
    "capabilities": {"tools": ["find"], "resources": [], "prompts": []},
    "protocol": {"versions": ["2025-06-18"], "era": "legacy"},
    "auth": {"type": "bearer", "scopes": ["read"]},
    "weight": 7,
}
each_field = pytest.mark.parametrize("name", FIELDS)
each_given = pytest.mark.parametrize("name", GIVEN)


def value_of(name: str) -> Any:
    """A value of the field, other than its default."""
    if name in VALUES:
        return VALUES[name]
    kind: Any = FIELDS[name].annotation
    return TypeAdapter(kind).validate_python("a text")


def body_with(name: str) -> dict[str, Any]:
    body = leased("catalog-1")
    if name == "endpoint":
        del body["url"]
    return body | {name: value_of(name)}


async def listed(ask: Client) -> dict[str, Any]:
    [entry] = (await ask("GET", "/servers?status=all&kind=all")).json["servers"]
    assert isinstance(entry, dict)
    return entry


@each_field
async def test_it_is_posted_and_listed(ask: Client, name: str) -> None:
    assert (await ask("POST", "/servers", body_with(name))).status == 201
    entry = await listed(ask)
    found, wanted = entry[name], value_of(name)
    assert (
        {key: found[key] for key in wanted} == wanted if type(wanted) is dict else found == wanted
    )
    answer = await ask("GET", f"/servers?status=all&kind=all&fields={name}")
    assert (answer.status, answer.json["servers"]) == (200, [{"id": entry["id"], name: found}])
    # A store and another process read the same.
    instance = instance_from_dict(entry)
    assert instance.record.to_dict()[name] == found
    written = encode_registration(instance.record, instance.lease)
    assert decode_registration(written) == (instance.record, instance.lease)


@each_field
def test_openapi_has_it(name: str) -> None:
    described = document(OPERATIONS)
    schemas = described["components"]["schemas"]
    parameters = described["paths"]["/servers"]["get"]["parameters"]
    [fields] = [each["schema"]["items"]["enum"] for each in parameters if each["name"] == "fields"]
    assert name in fields
    assert name in schemas["Server"]["properties"]
    if name in GIVEN:
        assert name in schemas["ServerPosting"]["properties"]
        assert name in schemas["NewConnection"]["properties"]
    else:
        assert name in OBSERVED


@each_given
async def test_exports_keep_it(ask: Client, name: str) -> None:
    assert (await ask("POST", "/servers", body_with(name))).status == 201
    entry = await listed(ask)
    export = (await ask("GET", "/registry/export")).json
    for content in (
        export,
        export_of([registration_body(entry)], "a file"),
        export_of([entry], "a file"),
    ):
        async with served() as other:
            answer = await other("POST", "/registry/import", content)
            assert answer.status == 200, answer.body
            assert (await listed(other))[name] == entry[name]
            again = await other("POST", "/registry/import", content)
            assert again.json["unchanged"] == [entry["id"]]


@each_given
async def test_a_file_of_servers_has_it(ask: Client, tmp_path: Path, name: str) -> None:
    assert (await ask("POST", "/servers", body_with(name))).status == 201
    entry = await listed(ask)
    file = tmp_path / "servers.json"
    file.write_bytes(orjson.dumps({"servers": [registration_body(entry)]}))
    wanted = read_list(str(file))
    for server in wanted.servers:
        require_known(server.body, server.name)
    assert len(compare(wanted, [entry], prune=False).unchanged) == 1
    if name == "id":
        return
    [(_, differences)] = compare(wanted, [entry | {name: "another"}], prune=False).changed
    assert [each[0] for each in differences] == [name]


def test_a_new_field_is_shown_to_people(capsys: pytest.CaptureFixture[str]) -> None:
    entry = {
        **Record(id="a-1", name="a", endpoint={"url": NOWHERE}).to_dict(),
        **{name: value_of(name) for name in GIVEN},
        "status": "healthy",
        "reason": "",
        "since": "",
        "transport": "sse",
    }
    descriptions.server([entry], {}, schema=False)
    printed = capsys.readouterr().out
    for name in {*SHARED, *GIVEN} - VALUES.keys():
        if name in GIVEN:
            assert f"{name.capitalize()}:" in printed
            assert value_of(name) in printed


@pytest.mark.skipif("tests.facade.one_more_field" in sys.modules, reason="runs in itself")
async def test_a_line_in_the_record_adds_a_field() -> None:
    # This file again, in a process in which record.py has one more line.
    program = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist")
    process = await asyncio.create_subprocess_exec(
        *(*program, "-p", "tests.facade.one_more_field", "-k", "region or new_field", __file__),
        cwd=Path(__file__).parents[2],
        env={key: each for key, each in os.environ.items() if not key.startswith("PYTEST_")},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output
    assert "5 passed" in output

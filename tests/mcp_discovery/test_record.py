"""The record's rules, and what is said when one is broken."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_discovery.errors import InvalidRecordError, RecordTooLargeError, SecretInRecordError
from mcp_discovery.record import MAX_NAME, Record, default_id, is_label, loses, to_label, to_semver
from tests.records import record


def spec(**fields: Any) -> dict[str, Any]:
    return {"name": "catalog", "endpoint": {"url": "http://10.0.0.5:8000/mcp"}} | fields


def test_what_is_not_given_is_filled_in() -> None:
    made = Record.parse(spec())
    assert made.id == default_id("catalog", {"url": "http://10.0.0.5:8000/other"})
    assert made.id.startswith("catalog-")
    assert len(made.id) == len("catalog-") + 8
    assert made.registry_name == "local/catalog"
    assert made.endpoint.transport == "streamable-http"
    assert Record.parse(spec(endpoint={"url": "http://10.0.0.6:8000/mcp"})).id != made.id


def test_it_round_trips_through_json_and_keeps_what_it_does_not_know() -> None:
    made = record(newField={"a": [1]}, metadata={"n": 3, "flag": True})
    again = Record.from_json(orjson.dumps(made.to_dict()))
    assert again == made
    assert again.to_dict()["newField"] == {"a": [1]}
    assert again.metadata == {"n": "3", "flag": "true"}


@pytest.mark.parametrize(
    ("fields", "field", "says"),
    [
        ({"name": "Product Catalog"}, "name", "use 'product-catalog'"),
        ({"name": ""}, "name", "not a DNS label"),
        ({"name": "a" * 64}, "name", "1 to 63"),
        ({"name": 7}, "name", "is no text"),
        ({"id": "-x"}, "id", "not a DNS label"),
        ({"tags": ["Foo"]}, "tags.0", "use 'foo'"),
        ({"tags": [f"t{n}" for n in range(65)]}, "tags", "64"),
        ({"exampleQueries": ["fine", " "]}, "exampleQueries.1", "not one line of text"),
        ({"exampleQueries": [f"ask {n}" for n in range(11)]}, "exampleQueries", "10"),
        ({"version": "1.2"}, "version", "MAJOR.MINOR.PATCH"),
        ({"endpoint": {"url": "10.0.0.5:8000"}}, "endpoint", "absolute URL"),
        ({"endpoint": {"url": "http:///mcp"}}, "endpoint", "with a host"),
        ({"endpoint": {"url": "http://h:99999/"}}, "endpoint", "out of range"),
        ({"endpoint": {"url": "http://a b/"}}, "endpoint", "with a host"),
        ({"endpoint": {"url": "http://a\u2003b/"}}, "endpoint", "with a host"),
        ({"endpoint": {"url": "http://\u00a8.example/"}}, "endpoint", "with a host"),
        ({"endpoint": {}}, "endpoint", "has a url"),
        ({"endpoint": {"transport": "stdio"}}, "endpoint", "has a command"),
        ({"endpoint": {"transport": "carrier-pigeon"}}, "endpoint.transport", "stdio"),
        ({"registryName": "no slash"}, "registryName", "<publisher>/<name>"),
        ({"auth": {"type": "oauth2"}}, "auth", "tokenEndpoint"),
        ({"weight": -1}, "weight", "has to be 0 or more"),
        ({"healthUrl": "file:///etc/passwd"}, "healthUrl", "http"),
        ({"metadata": {"a": ["list"]}}, "metadata.a", "is no text"),
        ({"registeredAt": "2026-01-01T00:00:00"}, "registeredAt", "timezone"),
    ],
)
def test_a_broken_rule_is_one_clear_sentence(fields: dict[str, Any], field: str, says: str) -> None:
    with pytest.raises(InvalidRecordError) as caught:
        Record.parse(spec(**fields))
    assert caught.value.field == field
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b'"x"', b"\xff", b"[" * 100_000, b'{"name": "\\ud800"}', b"null"]
)
def test_what_is_no_record_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(InvalidRecordError):
        Record.from_json(data)


def test_a_record_over_the_limit() -> None:
    with pytest.raises(RecordTooLargeError, match="over the limit of 262,144"):
        Record.parse(spec(capabilities={"tools": [f"{n}-{'x' * 250}" for n in range(1100)]}))
    with pytest.raises(RecordTooLargeError):
        Record.from_json(b" " * 600_000)


SECRETS: list[dict[str, Any]] = [
    {"endpoint": {"transport": "stdio", "command": "npx", "args": ["--token", "abc"]}},
    {"endpoint": {"transport": "stdio", "command": "npx", "args": ["--api-key=abc"]}},
    {"endpoint": {"transport": "stdio", "command": "npx", "args": ["ghp_" + "a1B2" * 9]}},
    {"endpoint": {"transport": "stdio", "command": "env", "args": ["GITLAB_TOKEN=abc", "npx"]}},
    {"endpoint": {"transport": "stdio", "command": "x", "args": ["-p", "${A}", "--secret", "b"]}},
    {"endpoint": {"url": "http://user:pass@host/mcp"}},
    {"endpoint": {"url": "http://host/mcp?api_key=abc"}},
    {"healthUrl": "http://token@host/health"},
    {"metadata": {"password": "hunter2"}},
    {"metadata": {"note": "Bearer abcdefgh12345678"}},
    {"metadata": {"note": "sk-abcdefghijklmnop1234"}},
    {"metadata": {"clientSecret": "abc"}},
    {"endpoint": {"transport": "stdio", "command": "server --password hunter2"}},
    {"endpoint": {"transport": "stdio", "command": "sh", "args": ["-c", "x && A_TOKEN=abc y"]}},
    {"endpoint": {"transport": "stdio", "command": "sh", "args": ["-c", "x --token 'a b' \"y"]}},
    {"endpoint": {"url": "http://host/mcp", "headers": {"Authorization": "abc"}}},
    {"description": "call it with ghp_" + "a1B2" * 9},
    {"description": "call it with mcpd_ci-1_" + "a1B2" * 11},
    {"auth": {"type": "bearer", "token": "abc"}},
    {"futureField": [{"apiKey": "abc"}]},
]


@pytest.mark.parametrize("fields", SECRETS, ids=str)
def test_a_secret_is_refused_and_not_repeated(fields: dict[str, Any]) -> None:
    with pytest.raises(SecretInRecordError) as caught:
        Record.parse(spec(**fields))
    said = str(caught.value)
    for value in ("hunter2", "abcdefgh", "ghp_a1", "user:pass"):
        assert value not in said
    assert "${NAME}" in said or "keep credentials out" in said or "keep it out" in said


@pytest.mark.parametrize(
    "endpoint",
    [
        {"command": "npx", "args": ["-y", "@mcp/server-gitlab", "--token", "${GITLAB_TOKEN}"]},
        {"command": "npx", "args": ["-y", "@modelcontextprotocol/server-filesystem", "/tmp"]},
        {"command": "docker", "args": ["run", "img@sha256:" + "a1" * 32, "-e", "API_KEY=${KEY}"]},
        {"command": "uvx", "args": ["--from", "git+https://example.org/a/b.git@main", "server"]},
        {"command": "server", "args": ["--token-file", "/run/secrets/token", "--verbose"]},
        {"command": "sh", "args": ["-c", "cd /srv && TOKEN=${TOKEN} server --token ${TOKEN}"]},
        {"command": "a-rather-long-but-quite-harmless-command-name-2026"},
    ],
    ids=str,
)
def test_references_and_plain_arguments_are_no_secrets(endpoint: dict[str, Any]) -> None:
    made = Record.parse(spec(endpoint={"transport": "stdio"} | endpoint))
    assert made.endpoint.command == endpoint["command"]


def test_prose_about_secrets_and_fields_of_a_newer_schema_are_no_secrets() -> None:
    fields = {
        "name": "sk-learn-model-inference-server2",
        "description": "needs Authorization: Bearer YOUR_API_KEY; wraps sk-learn-contrib-packages",
        "auth": {"type": "oauth2", "tokenEndpoint": "https://host/token"},
        "futureField": {"maxTokens": 5, "tokenUrl": "https://host/token"},
    }
    assert Record.parse(spec(**fields)).name == fields["name"]


@given(st.text(max_size=100))
def test_labels_and_versions_from_any_text(text: str) -> None:
    assert to_label(text) == "" or is_label(to_label(text))
    Record.parse(spec(version=to_semver(text)))


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Product Catalog", "product-catalog"),
        ("product_catalog", "product-catalog"),
        ("Node.js", "node-js"),
        ("com.example/Weather", "com-example-weather"),
        ("@scope/server-files", "scope-server-files"),
        ("n" * 62, "n" * 62),
        ("", ""),
        (" - ", ""),
    ],
)
def test_a_label_that_says_all_is_the_text_with_hyphens(text: str, label: str) -> None:
    assert to_label(text) == label
    assert not label or not loses(text)


@pytest.mark.parametrize(
    ("texts", "begins"),
    [
        (("C++ Docs", "C# Docs", "C* Docs", "C Docs\u200b"), "c-docs-"),
        (("n" * 63 + "1", "n" * 63 + "2", "n" * 63), "n" * 53 + "-"),
        (("Caf\u00e9", "Caf\u00ea", "Caf\uff45"), "cafe-"),
        (("\u65e5\u672c", "\u65e5\u672c\u8a9e", "+", "#"), "server-"),
    ],
    ids=str,
)
def test_texts_whose_labels_lose_something_have_labels_of_their_own(
    texts: tuple[str, ...], begins: str
) -> None:
    labels = [to_label(text) for text in texts]
    assert all(map(loses, texts))
    assert len({*labels, begins.strip("-")}) == len(texts) + 1
    assert all(is_label(each) and len(each) <= MAX_NAME for each in labels)
    assert all(each.startswith(begins) for each in labels)


def test_a_derived_label_is_the_same_for_ever() -> None:
    assert to_label("C++ Docs") == to_label("c++_docs") == "c-docs-221a033a"
    assert to_label("Cafe\u0301") == to_label("Caf\u00e9")


def test_ids_of_names_that_share_their_beginning_differ() -> None:
    endpoint = {"url": "http://10.0.0.5:8000/mcp"}
    assert default_id("n" * 54 + "-one", endpoint) != default_id("n" * 54 + "-two", endpoint)


def test_a_name_or_tag_that_dns_has_no_room_for_is_read_and_not_made() -> None:
    Record.parse(spec(name="n" * 62, tags=["t" * 62])).check_names()
    for fields, field in (({"name": "n" * 63}, "name"), ({"tags": ["a", "t" * 63]}, "tags.1")):
        stored = Record.parse(spec(**fields))
        with pytest.raises(InvalidRecordError, match=r"has 63 letters.*room for 62") as caught:
            stored.check_names()
        assert caught.value.field == field


@pytest.mark.parametrize(
    ("said", "version"),
    [("1.2.3", "1.2.3"), ("v2.3", "2.3.0"), ("1", "1.0.0"), ("latest", "0.0.0"), ("", "0.0.0")],
)
def test_versions_that_servers_give(said: str, version: str) -> None:
    assert to_semver(said) == version

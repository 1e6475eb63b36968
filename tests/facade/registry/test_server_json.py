"""Whatever a record says, its ``server.json`` is valid against the official schema."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mcp_discovery.errors import InvalidRecordError
from mcp_discovery.facade.registry.cards import card
from mcp_discovery.facade.registry.entries import LIVE, OFFICIAL
from mcp_discovery.facade.registry.server_json import (
    ENDPOINT,
    MAX_PUBLISHER,
    MAX_TEXT,
    PUBLISHER,
    shortened,
)
from mcp_discovery.instance import Instance
from tests.facade.registry.fleet import SERVER_CARD, SERVER_JSON, Fleet, instance, shown

MODES = (("instance", ""), ("facade", "https://f.example"), ("https://{name}.vip.example/mcp", ""))


def entry_of(one: Instance, mode: tuple[str, str] = MODES[0]) -> Any:
    """The entry of one instance, its parts checked against their schemas."""
    (listed,) = Fleet(one, address=mode[0], base=mode[1]).everything()
    found = shown(listed)
    SERVER_JSON.validate(found["server"])
    SERVER_CARD.validate(orjson.loads(orjson.dumps(card(listed))))
    official = found["_meta"].pop(OFFICIAL)
    assert list(official) == ["status", "statusChangedAt", "publishedAt", "updatedAt", "isLatest"]
    assert list(found["_meta"]) == [LIVE]
    for remote in found["server"].get("remotes", []):
        assert remote["url"].isascii()
        assert not set(remote["url"]) & set("{} ")  # else a host would ask for variables
    said = found["server"].get("_meta", {}).get(PUBLISHER, {})
    assert len(orjson.dumps(said)) <= MAX_PUBLISHER
    return found


def server_of(mode: tuple[str, str] = MODES[0], **fields: Any) -> Any:
    return entry_of(instance(**fields), mode)["server"]


def test_all_that_a_record_says_is_there() -> None:
    server = server_of(
        title="Weather",
        description="Tells the weather",
        version="1.4.0",
        websiteUrl="https://example.com/größe",
        icons=[{"src": "https://example.com/i.png", "mimeType": "image/png", "sizes": ["48x48"]}],
        endpoint={"url": "https://w.example:8443/mcp?a=b"},
        tags=["eu"],
        owner="shop",
        capabilities={"tools": ["forecast"]},
        protocol={"versions": ["2025-11-25"]},
        metadata={"team": "a"},
    )
    assert server == {
        "$schema": "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json",
        "name": "com.example/weather",
        "title": "Weather",
        "description": "Tells the weather",
        "version": "1.4.0",
        "websiteUrl": "https://example.com/gr%C3%B6%C3%9Fe",
        "icons": [
            {"src": "https://example.com/i.png", "mimeType": "image/png", "sizes": ["48x48"]}
        ],
        "remotes": [{"type": "streamable-http", "url": "https://w.example:8443/mcp?a=b"}],
        "_meta": {
            PUBLISHER: {
                "owner": "shop",
                "tags": ["eu"],
                "protocolVersions": ["2025-11-25"],
                "metadata": {"team": "a"},
                "tools": ["forecast"],
            }
        },
    }


def test_how_the_server_is_stands_under_a_key_of_our_own() -> None:
    live = entry_of(instance(tags=["b", "a"], zone="eu"))["_meta"][LIVE]
    assert live == {
        "status": "healthy",
        "reason": "is healthy",
        "since": "2026-08-01T12:00:00.000Z",
        "instances": {"healthy": 1, "degraded": 0, "draining": 0, "down": 0, "quarantined": 0},
        "tags": ["a", "b"],
        "zones": ["eu"],
        "lastSeen": "2026-08-01T12:00:00.000Z",
    }


@pytest.mark.parametrize(
    ("description", "said"),
    [
        ("Tells the weather", "Tells the weather"),
        ("  Tells\n\tthe   weather ", "Tells the weather"),
        ("x" * 100, "x" * 100),
        ("x" * 101, "x" * 99 + "…"),
        ("word " * 30, "word " * 19 + "word…"),
        ("", "The weather"),
        (" \n ", "The weather"),
    ],
)
def test_a_description_is_never_empty_nor_too_long(description: str, said: str) -> None:
    assert server_of(description=description, title="The weather")["description"] == said
    if not description.strip():
        assert server_of(description=description)["description"] == "The MCP server weather"


@given(st.text(max_size=300), st.integers(2, 120))
def test_shortening(text: str, most: int) -> None:
    found = shortened(text, most)
    assert len(found) <= most
    assert bool(found) == bool(text.split())
    if len(" ".join(text.split())) <= most:
        assert found == " ".join(text.split())


@pytest.mark.parametrize(
    ("auth", "description"),
    [
        ({"type": "bearer"}, "Bearer, followed by a token"),
        (
            {"type": "oauth2", "tokenEndpoint": "https://a.example/token"},
            "Bearer, followed by an access token",
        ),
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_a_server_that_asks_for_a_token_says_so(
    auth: Any, description: str, mode: tuple[str, str]
) -> None:
    server = server_of(mode, auth=auth)
    (remote,) = server["remotes"]
    assert remote["headers"] == [
        {
            "name": "Authorization",
            "description": description,
            "isRequired": True,
            "isSecret": True,
        }
    ]
    assert server["_meta"][PUBLISHER]["auth"] == auth


@pytest.mark.parametrize(
    "endpoint",
    [
        {"transport": "stdio", "command": "npx", "args": ["-y", "server"]},
        {"transport": "stdio", "command": "serve"},
        {"transport": "websocket", "url": "wss://w.example/ws"},
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_what_remotes_cannot_name_stands_under_a_key_of_our_own(
    endpoint: Any, mode: tuple[str, str]
) -> None:
    server = server_of(mode, endpoint=endpoint)
    assert "remotes" not in server
    assert "packages" not in server
    assert server["_meta"][ENDPOINT] == endpoint


def test_only_what_is_an_icon_is_one() -> None:
    good = {"src": "https://e.example/a.svg", "theme": "dark", "sizes": ["any", "5 x 5"]}
    bad = [
        {},
        {"src": "http://e.example/a.png"},
        {"src": "data:image/png;base64,AAAA"},
        {"src": "https://e.example/" + "a" * 300},
        {"src": 7},
    ]
    server = server_of(icons=[*bad, good | {"mimeType": "image/gif", "more": {}}])
    assert server["icons"] == [good | {"sizes": ["any"]}]
    assert "icons" not in server_of(icons=bad)


def test_what_a_publisher_says_has_its_limit() -> None:
    tools = [f"tool_{n:04d}" for n in range(600)]
    server = server_of(capabilities={"tools": tools, "prompts": ["explain"]}, owner="shop")
    said = server["_meta"][PUBLISHER]
    assert said["prompts"] == ["explain"]
    assert said["owner"] == "shop"
    assert "tools" not in said


def test_a_version_that_no_server_json_holds_is_not_listed() -> None:
    long = instance("b", version="1.0.0-" + "x" * 300)
    fleet = Fleet(instance("a", version="1.0.0"), long)
    assert [each.key[1] for each in fleet.everything()] == ["1.0.0"]
    fleet.put(instance("a", version=long.record.version))
    assert fleet.told("1.0.0", deleted=True)["status"] == "deleted"
    assert len(fleet.everything()) == 1


# -- records of every kind --------------------------------------------------------------------

_TEXT = st.text(max_size=120)
_URL = st.one_of(
    st.builds("http://10.0.0.1:8000/{}".format, _TEXT),
    st.builds("HTTPS://{}.example/mcp".format, st.text(min_size=1, max_size=20)),
    st.sampled_from(("http://[::1]:80/{a}", "http://h", "http://h/?q={x}#f", "http://ü.example/")),
)
_ENDPOINT = st.one_of(
    st.builds(
        lambda url, transport: {"url": url, "transport": transport},
        _URL,
        st.sampled_from(("streamable-http", "sse")),
    ),
    st.builds(
        lambda command, args: {"transport": "stdio", "command": command, "args": args},
        st.text(min_size=1, max_size=20),
        st.lists(_TEXT, max_size=3),
    ),
    st.just({"transport": "websocket", "url": "ws://h/ws"}),
)
_VERSION = st.builds(
    "{}.{}.{}{}".format,
    *(st.integers(0, 10**6),) * 3,
    st.sampled_from(("", "-rc.1", "+build.7", "-a.b+c", "-" + "9a" * 140)),
)
_RECORD = st.fixed_dictionaries(
    {"endpoint": _ENDPOINT},
    optional={
        "title": _TEXT,
        "description": st.text(max_size=400),
        "version": _VERSION,
        "registryName": st.from_regex(r"\A[a-zA-Z0-9.-]{1,20}/[a-zA-Z0-9._-]{1,20}\Z"),
        "websiteUrl": _URL,
        "icons": st.lists(
            st.dictionaries(
                st.sampled_from(("src", "mimeType", "sizes", "theme", "x")),
                st.one_of(_URL, _TEXT, st.lists(_TEXT, max_size=2), st.none(), st.integers()),
                max_size=5,
            ),
            max_size=3,
        ),
        "tags": st.lists(st.from_regex(r"\A[a-z0-9]{1,10}\Z"), max_size=5),
        "capabilities": st.fixed_dictionaries(
            {"tools": st.lists(st.text(min_size=1, max_size=200), max_size=30)}
        ),
        "protocol": st.fixed_dictionaries({"versions": st.lists(_TEXT, max_size=3)}),
        "auth": st.sampled_from(({"type": "none"}, {"type": "bearer", "scopes": ["a"]})),
        "owner": st.text(min_size=1, max_size=50),
        "zone": st.text(min_size=1, max_size=50),
        "metadata": st.dictionaries(st.text(min_size=1, max_size=20), _TEXT, max_size=5),
    },
)


@given(_RECORD, st.sampled_from(MODES), st.sampled_from(("sidecar", "facade")))
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_records_of_every_kind(fields: Any, mode: tuple[str, str], by: Any) -> None:
    try:
        one = instance(by=by, **fields)
    except InvalidRecordError:
        assume(False)
    if len(one.record.version) > 255:
        assert Fleet(one).everything() == []
    else:
        server = entry_of(one, mode)["server"]
        assert len(server["description"]) <= MAX_TEXT
        assert server["name"] == one.record.registry_name
        assert server["version"] == one.record.version

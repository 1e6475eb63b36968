"""A record is made of whatever a server says of itself; what does not fit is left out and noted."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from mcp_discovery.errors import InvalidInputError
from mcp_discovery.health import utcnow
from mcp_discovery.probe import Introspection
from mcp_discovery.record import MAX_RECORD_BYTES
from mcp_discovery.registrant.introspector import ServerDescription
from mcp_discovery.sidecar.advertise import Advertised
from mcp_discovery.sidecar.description import describe
from mcp_discovery.sidecar.settings import SidecarSettings

URL = "http://127.0.0.1:8000/mcp"
NOW = utcnow()


def described(
    info: dict[str, Any] | None = None,
    *,
    instructions: str | None = None,
    tools: tuple[str, ...] = (),
    resources: tuple[str, ...] = (),
    prompts: tuple[str, ...] = (),
    **settings: Any,
) -> ServerDescription:
    """The description of a server that says ``info`` and the like."""
    found = Introspection(
        era="modern",
        versions=("2026-07-28",),
        server_info={"name": "Product Catalog", "version": "1.4"} if info is None else info,
        instructions=instructions,
        capabilities={},
        tools=tuple({"name": name, "inputSchema": {}} for name in tools),
        resources=tuple({"name": name, "uri": f"x://{n}"} for n, name in enumerate(resources)),
        resource_templates=(),
        prompts=tuple({"name": name} for name in prompts),
    )
    return describe(
        SidecarSettings(url=URL, **settings),
        found,
        url=URL,
        advertised=Advertised(None, None, "as given"),
        registered_at=NOW,
    )


def test_from_what_the_server_says() -> None:
    info = {
        "name": "Product Catalog",
        "title": "The Product Catalog",
        "version": "v1.4",
        "websiteUrl": "https://catalog.example",
        "icons": [{"src": "https://catalog.example/icon.png", "mimeType": "image/png"}],
    }
    record = described(info, instructions="Look products up.\nBe kind.", tools=("find",)).record
    assert (record.name, record.version) == ("product-catalog", "1.4.0")
    assert record.title == "The Product Catalog"
    assert record.description == "Look products up."
    assert record.website_url == "https://catalog.example"
    assert record.icons == (info["icons"][0],)
    assert record.id.startswith("product-catalog-")
    assert record.capabilities.tools == ("find",)
    assert record.protocol.instructions == "Look products up.\nBe kind."
    assert record.protocol.server_info == {k: info[k] for k in ("name", "title", "version")}

    assert record.auth.type == "none"


def test_the_questions_that_it_answers_are_the_operators_to_give() -> None:
    found = described(example_queries=("is it in stock", "which is cheaper"))
    assert found.record.example_queries == ("is it in stock", "which is cheaper")
    assert found.notes == ()
    assert described(example_queries=("is it in stock",)).notes == (
        "1 example query; other registries want 2 to 5",
    )


def test_what_is_told_goes_first() -> None:
    record = described(
        {"name": "x", "title": "X", "version": "9", "description": "Its own."},
        name="catalog",
        id="catalog-1",
        title="Ours",
        version="2.0.0",
        description="Told.",
        registry_name="com.example/catalog",
        zone="eu-1",
        owner="shop",
        weight=3,
        metadata={"team": "shop"},
    ).record
    assert (record.name, record.id, record.title) == ("catalog", "catalog-1", "Ours")
    assert (record.version, record.description) == ("2.0.0", "Told.")
    assert record.registry_name == "com.example/catalog"
    assert (record.zone, record.owner, record.weight) == ("eu-1", "shop", 3)
    assert record.metadata == {"team": "shop"}


@pytest.mark.parametrize("info", [{}, {"name": "", "version": ""}, {"name": "-"}, {"name": 7}])
def test_a_server_without_a_usable_name_needs_one(info: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match="give one with --name"):
        described(info)
    assert described(info, name="catalog").record.version == "0.0.0"


def test_servers_whose_names_differ_in_signs_only_stay_apart() -> None:
    one, other = (described({"name": f"{letter} Docs"}).record for letter in ("C++", "C#"))
    assert one.name != other.name
    assert one.id != other.id
    assert (one.title, other.title) == ("C++ Docs", "C# Docs")
    assert described({"name": "C++ Docs", "title": "Docs"}).record.title == "Docs"
    long = "n" * 70
    cut = described({"name": long}).record
    assert (cut.registry_name, cut.title) == (f"local/{long}", long)
    assert described({"name": long}, registry_name="com.example/n").record.registry_name == (
        "com.example/n"
    )
    given = described({"name": "C++ Docs"}, name="docs").record
    assert (given.name, given.title, given.registry_name) == ("docs", None, "local/docs")


def test_what_is_malformed_is_dropped() -> None:
    record = described(
        {
            "name": "x",
            "title": ["no"],
            "version": {"no": 1},
            "websiteUrl": "javascript:alert(1)",
            "icons": [
                "no",
                {"src": 7},
                {"src": "data:image/png;base64," + "A" * 5000},
                {"src": "https://x.example/?token=abc"},
            ],
        }
    ).record
    assert record.title is None
    assert record.version == "0.0.0"
    assert record.website_url is None
    assert record.icons == ()


def test_what_is_long_is_cut() -> None:
    info = {"name": "n" * 500, "title": "t" * 500, "description": "d" * 9000, "version": "1"}
    record = described(info, instructions="i" * 20_000).record
    assert record.name.startswith("n" * 53 + "-")
    assert len(record.id) <= 63
    assert record.title == "t" * 200
    assert record.description == "d" * 4096
    assert record.protocol.instructions == "i" * 8192


def test_names_that_do_not_fit_the_index_are_in_the_document() -> None:
    found = described(tools=("ok", "x" * 257, "字" * 256))
    assert found.record.capabilities.tools == ("ok", "字" * 256)
    assert len(found.document.tools) == 3
    assert found.notes == (
        "1 of the tools have names over 256 characters; they are in the document but not in the "
        "record's index",
    )


def test_an_index_over_the_limit_is_shortened() -> None:
    found = described(
        tools=tuple(f"{n:0>200}" for n in range(3000)), resources=("kept",), prompts=("kept-too",)
    )
    index = found.record.capabilities
    assert index.resources == ("kept",)
    assert index.prompts == ("kept-too",)
    assert index.tools[0] == f"{0:0>200}"
    size = len(orjson.dumps(found.record.to_dict()))
    assert 0.9 * MAX_RECORD_BYTES < size <= MAX_RECORD_BYTES
    assert len(found.document.tools) == 3000
    assert f"its index names {len(index.tools)} of 3000 tools" in found.notes[0]


def test_a_token_is_never_in_the_record() -> None:
    record = described(server_token="swordfish").record
    assert record.auth.type == "bearer"
    assert "swordfish" not in str(record.to_dict())


def test_a_health_url_with_a_secret_is_not_in_the_record() -> None:
    assert described(health_url="http://h/ok").record.health_url == "http://h/ok"
    assert described(health_url="http://h/ok?token=x").record.health_url is None


def test_a_token_in_the_servers_own_words_is_left_out_and_noted() -> None:
    token = "ghp_" + "a1B2" * 9
    info = {"name": "catalog", "title": f"Catalog {token}"}
    made = described(info, instructions=f"Send {token} along.\nBe kind.")
    assert token not in orjson.dumps(made.record.to_dict()).decode()
    assert made.record.description == "Send *** along."
    assert "holds what looks like an access token" in made.notes[0]

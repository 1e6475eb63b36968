"""Skills across servers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.facade.harness import Client, leased

LOOKUP = {"name": "lookup", "description": "Finds an order.", "inputSchema": {"type": "object"}}


def skill(path: str, description: str, digest: str = "a") -> dict[str, Any]:
    uri = f"skill://{path}/SKILL.md"
    return {
        "uri": uri,
        "frontmatter": {"name": path.split("/")[-1], "description": description},
        "resources": [{"uri": uri, "digest": f"sha256:{digest * 64}", "size": 12}],
    }


REFUNDS = skill("acme/refunds", "Pays customers back, by the policy of the company.")
GIT = skill("git-workflow", "The conventions of branches and commits.")


async def post(ask: Client, id: str, *skills: dict[str, Any], **more: Any) -> None:
    document = {"tools": [LOOKUP], "skills": list(skills)}
    reply = await ask("POST", "/servers", leased(id, document=document, **more))
    assert reply.status == 201, reply.body


@pytest.fixture
async def filled(ask: Client) -> Client:
    """Three replicas, one with another file; a server with a skill of the same name; and one that
    is down."""
    await post(ask, "a", REFUNDS, GIT, tags=["shop"])
    await post(ask, "b", REFUNDS, GIT, tags=["shop"])
    odd = skill("acme/refunds", REFUNDS["frontmatter"]["description"], "b")
    await post(ask, "c", odd, GIT, tags=["shop"])
    await post(ask, "x", skill("refunds", "Tax refunds."), name="exchange", tags=["money"])
    await post(ask, "z", skill("gone", "Gone."), health={"status": "down"})
    return ask


def names(reply: Any) -> list[str]:
    return [each["name"] for each in reply.json["skills"]]


async def test_every_skill_of_the_matching_servers_is_listed_once(filled: Client) -> None:
    told = (await filled("GET", "/skills")).json
    assert (told["totalSkills"], told["unread"]) == (2, 0)
    assert told["skills"][1] == {
        "name": "refunds",
        "uri": "skill://acme/refunds/SKILL.md",
        "description": "Pays customers back, by the policy of the company.",
        "servers": 2,
        "providers": 4,
        "instances": ["a", "b", "c", "x"],
        "variants": 3,
    }


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("?tags=money", ["refunds"]),
        ("?status=down", ["gone"]),
        ("?skill=git-workflow", ["git-workflow"]),
        ("?tool=lookup&limit=1", ["git-workflow"]),
        ("?q=commits", ["git-workflow"]),
        ("?q=how+do+I+pay+a+customer+back", ["refunds"]),
        ("?q=lookup", []),
    ],
)
async def test_filters_and_words(filled: Client, query: str, found: list[str]) -> None:
    assert names(await filled("GET", f"/skills{query}")) == found


async def test_a_servers_skills_count_for_the_server_and_are_no_tools(filled: Client) -> None:
    await filled("GET", "/skills?q=commits")  # its documents are read by then
    found = (await filled("GET", "/servers?q=commits")).json["servers"]
    assert [each["id"] for each in found] == ["a", "b", "c"]
    assert "commits" in found[0]["why"]
    assert (await filled("GET", "/tools?q=commits")).json["tools"] == []
    listed = (await filled("GET", "/servers?skill=refunds")).json["servers"]
    assert {each["id"] for each in listed} == {"a", "b", "c", "x"}


async def test_files_that_differ_among_replicas_are_told(filled: Client) -> None:
    told = (await filled("GET", "/skills/refunds")).json
    first, *others = told["variants"]
    assert (first["skill"], first["instances"]) == (REFUNDS, ["a", "b"])
    differing = {each["instances"][0]: each["differs"] for each in others}
    assert differing == {"c": ["resources"], "x": ["frontmatter", "resources", "uri"]}
    assert (told["consistent"], told["odd"], told["unread"]) == (False, ["c", "x"], 0)
    assert len(told["inconsistentServers"]) == 1


async def test_a_skill_that_nobody_has(filled: Client) -> None:
    reply = await filled("GET", "/skills/refund")
    assert reply.status == 404
    assert "offers a skill 'refund'; did you mean 'refunds'?" in reply.json["detail"]
    reply = await filled("GET", "/skills/gone")
    assert "z does, and is down" in reply.json["detail"]
    assert (await filled("GET", "/skills?schema=true")).status == 400


async def test_names_alone(ask: Client) -> None:
    body = leased("a", capabilities={"tools": [], "skills": ["refunds"]})
    assert (await ask("POST", "/servers", body)).status == 201
    (told,) = (await ask("GET", "/skills")).json["skills"]
    assert (told["name"], told["variants"], "uri" in told) == ("refunds", 0, False)
    assert names(await ask("GET", "/skills?q=refunds")) == ["refunds"]


async def test_skills_of_agents_are_listed_where_agents_are_asked_for(filled: Client) -> None:
    forecast: dict[str, Any] = {
        "id": "forecast",
        "name": "Weather forecast",
        "description": "Of tomorrow.",
    }
    forecast |= {"tags": ["meteorology"], "examples": ["Do I need an umbrella?"]}
    body = leased("sky", name="sky", kind="agent", document={"skills": [forecast]})
    assert (await filled("POST", "/servers", body)).status == 201
    assert "Weather forecast" not in names(await filled("GET", "/skills"))
    told = (await filled("GET", "/skills?kind=agent&q=weather+tomorrow")).json
    (found,) = told["skills"]
    assert (found["name"], found["description"]) == ("Weather forecast", "Of tomorrow.")
    for words in ("umbrella", "meteorology"):
        assert names(await filled("GET", f"/skills?kind=agent&q={words}")) == ["Weather forecast"]
    (one,) = (await filled("GET", "/skills/Weather%20forecast?kind=agent")).json["variants"]
    assert one["skill"] == forecast

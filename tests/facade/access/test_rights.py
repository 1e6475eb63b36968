"""Rights: roles → scopes → grants, as the file of --auth writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_discovery.errors import InvalidInputError
from mcp_discovery.facade.access.auth_file import Policy, follow, read
from mcp_discovery.record import Record

#: The roles of an assistant for a whole company, and a few more selectors.
FILE = b"""
roles:
  employee: knowledge:read
  manager: knowledge:read actions:read
  admin: [knowledge:read, knowledge:write, actions:read, actions:write]
  operator: read admin
  payments: payments
scopes:
  knowledge:read: [search_knowledge, get_article, list_categories]
  knowledge:write: [create_article]
  actions:read: [get_ticket, list_tickets]
  actions:write: [create_ticket]
  payments:
    verbs: [read, call, register]
    names: [payments-*]
    zones: [eu-*]
anonymous: []
"""


def a_record(
    name: str = "articles", tools: tuple[str, ...] = (), zone: str | None = None
) -> Record:
    offered = {"tools": list(tools)}
    return Record.parse(
        {"name": name, "zone": zone, "capabilities": offered}
        | {"endpoint": {"url": "http://127.0.0.1:9/mcp"}}
    )


@pytest.fixture(scope="module")
def policy() -> Policy:
    return Policy(read(FILE, "access.yaml"))


def test_a_scope_of_tools_lets_see_and_call_servers_that_offer_one(policy: Policy) -> None:
    rights = policy.rights(["employee"])
    articles = a_record(tools=("get_article", "create_article"))
    assert rights.verbs == {"read", "call"}
    assert rights.may("read", articles, None)
    assert rights.may("call", articles, None, "tools", "get_article")
    assert not rights.may("call", articles, None, "tools", "create_article")
    assert not rights.may("read", articles, None, "resources", "file://a")
    assert not rights.may("read", a_record("tickets", ("get_ticket",)), None)
    assert policy.rights(["manager"]).may("read", a_record("tickets", ("get_ticket",)), None)


def test_selectors_restrict_all_verbs_of_a_grant(policy: Policy) -> None:
    rights = policy.rights(["payments"])
    assert rights.may("register", a_record("payments-eu", zone="eu-west"), None)
    assert not rights.may("register", a_record("payments-us", zone="us-east"), None)
    assert not rights.may("register", a_record("articles", zone="eu-west"), None)
    assert not rights.may("report", a_record("payments-eu", zone="eu-west"), None)


def test_verbs_are_scopes_for_everything(policy: Policy) -> None:
    rights = policy.rights(["operator"])
    assert rights.sees_all
    assert rights.verbs == {"read", "admin"}
    assert not policy.rights(["payments"]).sees_all
    assert policy.rights([], ["call"]).verbs == {"read", "call"}  # and what is called is seen


def test_equal_grants_are_one_visibility(policy: Policy) -> None:
    rights = policy.rights(["employee", "manager"])
    assert rights.visibility == policy.rights(["manager"]).visibility
    assert rights.visibility != policy.rights(["employee"]).visibility
    assert policy.rights(["nobody"]).verbs == frozenset()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"roles: {employee: knowlege}\nscopes: {knowledge: [a]}", "did you mean 'knowledge'"),
        (b"anonymous: [guest]", "anonymous: role 'guest' is not known"),
        (b"rolls: {}", "rolls is not known; did you mean roles?"),
        (b"limits: {default: {reeds: 1/s}}", "default.reeds is not known; did you mean reads?"),
        (b"limits: {r: {}}", "limits.r is not known; it may be default, anonymous, roles"),
        (b"scopes: {a: [{name: [x]}]}", "scopes.a.0.name is not known; did you mean names?"),
        (b"scopes: {a: {name: [x]}}", "scopes.a.name is not known; did you mean names?"),
        (b"roles: [a]", r"roles has to hold names with values \(name: value\) below it"),
        (b"limits: 5", "limits has to hold names with values"),
        (b"issuers: {a: b}", "issuers has to be a list"),
        (b"tokens: {a: {hash: abc}}", "tokens.a.hash is no hash; make the token with mcp-disc"),
        (b"tokens: {A b: {hash: abc}}", "tokens.A b is no id of a token; write small letters"),
        (b"anonymous: employee", "is not known; this file has no roles yet: write it below roles"),
        (b"roles: {a: read}\nanonymous: b", "role 'b' is not known; it may be a"),
        (b"[roles]", "is no mapping"),
        (b"names: [{names: [a], origins: [pay.example.com]}]", "names.0.origins"),
        (b"scopes: {Mine: [{verbs: [reed]}]}", "scopes.Mine.0.verbs.0 is not one of"),
        (b"scopes: {a: {verbs: [reed]}}", "scopes.a"),
        (
            b"roles: {a: read}\nroles: {}",
            "access.yaml:2: 'roles' stands here a second time; the first is in line 1",
        ),
    ],
)
def test_a_file_that_cannot_be_used_says_why(text: bytes, problem: str) -> None:
    with pytest.raises(InvalidInputError, match=problem) as caught:
        read(text, "access.yaml")
    assert str(caught.value).startswith("access.yaml")


async def test_a_change_that_cannot_be_used_names_the_file_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "access.yaml"
    file.write_text("roles: {a: read}\nanonymous: a\n")
    followed = follow(str(file))
    file.write_text("rolez: {}\n")
    followed.renewed()
    assert [each.getMessage() for each in caplog.records] == [
        f"what was read before stays in use: {file}: rolez is not known; did you mean roles?"
    ]


def test_a_file_that_locks_everybody_out_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "access.yaml"
    for text in ("", "roles: {a: read}\n", "tokens:\n"):
        file.write_text(text)
        caplog.clear()
        follow(str(file))
        (said,) = caplog.records
        assert said.getMessage().startswith(f"{file} names nobody, so that every request is refu")
    file.write_text("roles: {a: read}\nanonymous: a\n")
    caplog.clear()
    follow(str(file))
    assert not caplog.records

"""Options of a facade that would do nothing are refused, in a sentence that says what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mcp_discovery.cli import settings_file
from mcp_discovery.cli.facade import facade, options_of
from mcp_discovery.cli.unused_options import warned_of
from mcp_discovery.errors import InvalidInputError
from tests.programs import command


def parameters(**given: Any) -> dict[str, Any]:
    """The command's parameters where these are ``given``."""
    known = settings_file.settings(facade).values()
    return {each.parameter: each.default for each in known} | given


def faults(**given: Any) -> list[str]:
    try:
        options_of(parameters(**given))
    except InvalidInputError as error:
        return [str(each) for each in (error, *error.others)]
    return []


SQLITE = "sqlite:////tmp/audit.db"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"audit_keep": 9.0}, "give --audit-store, or leave --audit-keep out"),
        ({"audit_keep": 9.0, "audit": "-"}, "there is none; give --audit-store"),
        ({"audit_keep": 9.0, "audit_store": "none", "auth": "a"}, "there is none"),
        ({"audit_arguments": True}, "give --audit-store or --audit"),
        ({"ops_host": "10.0.0.1"}, "give --ops-port, too"),
        ({"ops_port": 4000}, "--ops-port and --port are both 4000"),
        ({"ops_port": 4000, "host": "10.0.0.1", "ops_host": "0.0.0.0"}, "are both 4000"),
        ({"open_writes": True, "read_only": True}, "give one of them"),
        ({"open_writes": True, "auth": "a"}, "the roles in its file say who may change"),
        ({"limits_store_password": "s3cr3t"}, "--limits-store-password is for the Redis of"),
        ({"limits_store_password_file": "a"}, "--limits-store-password-file is for"),
        ({"limits_store_ca": "a"}, "give --limits-store, too"),
        ({"limits_store_ca": "a", "limits_store": "redis://h/0"}, "write rediss://"),
        ({"gateway_pass_authorization": True}, "give --gateway, too"),
        ({"gateway_pass_authorization": True, "mcp_call_tool": True}, "give --gateway, too"),
        ({"gateway_credentials": "a"}, "give --gateway or --mcp-call-tool, too"),
        ({"mcp_max_answer_bytes": 4096}, "give --mcp-call-tool, too"),
        ({"ask": "off", "ask_timeout": 5.0}, "--ask-timeout is for questions, which --ask off"),
        ({"ask": "perhaps"}, "give auto, on or off"),
        ({"ask": "on"}, "set OPENAI_API_KEY, ANTHROPIC_API_KEY or GEMINI_API_KEY"),
        ({"ask_provider": "gpt"}, "'gpt' is no provider"),
        ({"ask_model": ["gpt-6"]}, "write for example anthropic="),
        ({"tls_client_ca": "a"}, "give --tls-cert and --tls-key, too"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_what_would_do_nothing_is_refused(given: dict[str, Any], says: str) -> None:
    (said,) = faults(**given)
    assert says in said
    assert "s3cr3t" not in said


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"audit_keep": 9.0, "audit_store": SQLITE, "audit_arguments": True},
        {"audit_arguments": True, "audit": "-"},
        {"ops_port": 4001, "ops_host": "127.0.0.1"},
        {"ops_port": 4000, "ops_host": "127.0.0.2"},
        {"open_writes": True, "host": "0.0.0.0"},
        {"open_writes": True},
        {"read_only": True, "auth": "a", "audit_store": "none"},
        {"limits_store_ca": "a", "limits_store": "rediss://h/0"},
        {"gateway_pass_authorization": True, "gateway": True, "gateway_credentials": "a"},
        {"gateway_credentials": "a", "mcp_call_tool": True, "mcp_max_answer_bytes": 4096},
        {"audit_password": "a"},
    ],
    ids=" ".join,
)
def test_what_does_something_is_taken(given: dict[str, Any]) -> None:
    assert faults(**given) == []


def test_all_of_them_are_told_at_once() -> None:
    assert len(faults(audit_arguments=True, ops_host="10.0.0.1", gateway_credentials="a")) == 3


def test_what_others_read_from_the_same_environment_is_warned_of() -> None:
    assert list(warned_of(parameters())) == []
    (said,) = warned_of(parameters(audit_password_file="a"))
    assert said.startswith("--audit-password-file is not used here")
    with_store = {"audit_store": "postgresql://u@h/d", "audit_password": "a"}
    assert list(warned_of(parameters(**with_store))) == []
    (said,) = warned_of(parameters(tls_client_ca="a"))
    assert "without --auth nobody is asked who they are" in said
    assert list(warned_of(parameters(tls_client_ca="a", auth="a"))) == []


async def test_wherever_they_are_given(tmp_path: Path) -> None:
    file = tmp_path / "facade.yaml"
    file.write_text("facade:\n  ops-host: 127.0.0.1\n")
    says = "--ops-host is the address for --ops-port; give --ops-port, too, or leave it out\n"
    for ended in (
        await command("facade", "--ops-host", "127.0.0.1"),
        await command("facade", MCP_DISCOVERY_OPS_HOST="127.0.0.1"),
        await command("facade", "--config", str(file)),
    ):
        assert (ended.code, ended.err) == (2, f"mcp-discovery: {says}")
    ended = await command("config", "check", str(file))
    assert (ended.code, ended.err) == (2, f"{file}: {says}")

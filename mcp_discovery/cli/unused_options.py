"""Options of ``mcp-discovery facade`` that would do nothing beside the others, or without them.

Whoever gives one relies on it: it is refused, wherever it is given, in a sentence that says what to
do. What other commands read from the same environment, too, is warned of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

#: Addresses at which a listener has every address of this machine.
_ALL = frozenset(("", "0.0.0.0", "::"))


def refused(given: Mapping[str, Any], usual: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each of the parameters ``given`` that does nothing; ``usual`` are values that
    parameters have by default."""
    database, audit = _audit(given)
    calls_tools = given["mcp_call_tool"] or given["ask"] == "on"
    if given["audit_keep"] is not None and not database:
        yield (
            "--audit-keep is for the database of an audit, and there is none; give --audit-store, "
            "or leave --audit-keep out"
        )
    if given["audit_arguments"] and not audit:
        yield (
            "--audit-arguments is for an audit, and there is none; give --audit-store or --audit, "
            "or leave it out"
        )
    if given["ops_host"] is not None and given["ops_port"] is None:
        yield "--ops-host is the address for --ops-port; give --ops-port, too, or leave it out"
    if given["ops_port"] is not None and _same_place(given):
        yield (
            f"--ops-port and --port are both {given['port']}; give another one to either, or leave "
            "--ops-port out: then health and metrics are on --port"
        )
    if given["open_writes"] and given["read_only"]:
        yield (
            "--read-only refuses every change, and --open-writes lets everybody change the list; "
            "give one of them"
        )
    elif given["open_writes"] and given["auth"] is not None:
        yield (
            "--open-writes is for a facade that asks nobody who they are, and with --auth the "
            "roles in its file say who may change the list; leave it out (anonymous: in the file "
            "is for everybody)"
        )
    yield from _of_limits_store(given)
    for name in ("gateway_pass_authorization", "gateway_pass_header"):
        if given.get(name) and not given["gateway"]:
            yield (
                f"--{name.replace('_', '-')} is for clients of the gateway, which is off; give "
                "--gateway, too, or leave it out"
            )
    if given["ask"] == "off":
        for name in ("ask_provider", "ask_model", "ask_max_turns", "ask_max_tokens", "ask_timeout"):
            if given[name] and given[name] != usual[name]:
                yield (
                    f"--{name.replace('_', '-')} is for questions, which --ask off does not "
                    "answer; leave one of them out"
                )
    if given["gateway_credentials"] is not None and not (given["gateway"] or calls_tools):
        yield (
            "--gateway-credentials is for the gateway and call_tool, which are off; give --gateway "
            "or --mcp-call-tool, too, or leave it out"
        )
    if given["mcp_max_answer_bytes"] != usual["mcp_max_answer_bytes"] and not calls_tools:
        yield (
            "--mcp-max-answer-bytes is for call_tool, which is off; give --mcp-call-tool, too, or "
            "leave it out"
        )


def warned_of(given: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each of the parameters ``given`` that does nothing here, or less than it seems
    to, and may be there all the same."""
    postgres = (given["audit_store"] or "").startswith("postgres")
    for name in ("audit_password", "audit_password_file"):
        if given[name] is not None and not postgres:
            yield (
                f"--{name.replace('_', '-')} is not used here: it is the password of a PostgreSQL, "
                "and --audit-store names none"
            )
    if given["tls_client_ca"] is not None and given["auth"] is None:
        yield (
            "--tls-client-ca lets clients in without a certificate, too: without --auth nobody is "
            "asked who they are; give --auth, and name the certificates in its file"
        )


def _audit(given: Mapping[str, Any]) -> tuple[bool, bool]:
    """Whether there is an audit in a database, and one at all."""
    file, store = given["audit"] is not None, given["audit_store"]
    by_itself = store is None and not file and given["auth"] is not None
    database = by_itself or store not in (None, "none")
    return database, database or file


def _same_place(given: Mapping[str, Any]) -> bool:
    host, ops_host = given["host"], given["ops_host"]
    one_host = ops_host in (None, host) or not _ALL.isdisjoint((host, ops_host))
    return given["ops_port"] == given["port"] and one_host


def _of_limits_store(given: Mapping[str, Any]) -> Iterator[str]:
    store: str | None = given["limits_store"]
    if store is None:
        for name in ("limits_store_password", "limits_store_password_file", "limits_store_ca"):
            if given[name] is not None:
                yield (
                    f"--{name.replace('_', '-')} is for the Redis of --limits-store, which is not "
                    "given; give --limits-store, too, or leave it out"
                )
    elif given["limits_store_ca"] is not None and store.startswith("redis://"):
        yield (
            "--limits-store-ca is for TLS, and --limits-store names a Redis without; write "
            "rediss://, or leave --limits-store-ca out"
        )

"""Which failed requests are recorded as refusals, and what is never recorded of them."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mcp_discovery import facade
from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.errors import InvalidRecordError, SecretInRecordError, raise_all
from mcp_discovery.facade.access.audit import refusals
from mcp_discovery.facade.access.audit.decisions import DECIDED, holds_secret, leads_astray
from mcp_discovery.facade.access.audit.settings import AuditSettings
from mcp_discovery.facade.http.problems import STATUSES
from mcp_discovery.probe import AddressRefusedError
from tests.facade.access.audit.recorded import at, logs, until_recorded
from tests.facade.access.tokens import bearer, guarded
from tests.facade.connections.bodies import files
from tests.facade.harness import leased, served
from tests.records import document, record

TOKEN = "glpat-Zq81mXw0aPd7LrT5vN2c"


def posted(id: str, **more: Any) -> dict[str, Any]:
    """The body of a POST by which a facade keeps, and probes, an entry itself."""
    return {"id": id, "name": "products", "url": f"http://127.0.0.1:9/{id}"} | more


#: Method and path, what is posted, the problem, the field, and what must not be recorded.
REFUSED: dict[str, tuple[str, str, dict[str, Any], str, str, str]] = {
    "an address of a cloud's metadata": (
        *("POST", "/servers", posted("m-1", url="http://[fd00:ec2::254]/latest?role=qwertz")),
        *("invalid-record", "endpoint.url", "qwertz"),
    ),
    "an address to be probed": (
        *("POST", "/servers", posted("m-2", healthUrl="http://169.254.170.2/v2/qwertz")),
        *("invalid-record", "healthUrl", "qwertz"),
    ),
    "an address of a connection": (
        "POST",
        "/connections",
        {"id": "m-3", "name": "shop", "endpoint": "http://169.254.10.20:8080/mcp?k=qwertz"},
        *("invalid-record", "endpoint.url", "qwertz"),
    ),
    "a password in a URL": (
        *("POST", "/servers", leased("m-4", url="https://bob:qwertz@shop.example/mcp")),
        *("secret-in-record", "endpoint.url", "qwertz"),
    ),
    "a token in a URL's query": (
        *("PUT", "/servers/a-1", leased("a-1", url="https://shop.example/mcp?token=qwertz")),
        *("secret-in-record", "endpoint.url", "qwertz"),
    ),
    "a token in metadata": (
        *("POST", "/servers", leased("m-5", metadata={"note": TOKEN})),
        *("secret-in-record", "metadata.note", TOKEN),
    ),
    "a token in prose": (
        *("POST", "/servers", leased("m-6", description=f"ask with {TOKEN} for it")),
        *("secret-in-record", "description", TOKEN),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_rule_about_what_is_posted_makes_a_refusal(
    name: str, settings: AuditSettings, tmp_path: Path
) -> None:
    method, path, body, problem, field, hidden = REFUSED[name]
    lines = tmp_path / "trail"
    both = AuditSettings(file=str(lines), store=settings.store)
    async with guarded(tmp_path, audit=both) as ask:
        operator, registrar = bearer("operator"), bearer("registrar")
        assert (await ask("POST", "/servers", leased("a-1"), headers=registrar)).status == 201
        reply = await ask(method, path, body, headers=registrar)
        assert reply.status == 422, reply.json
        [event] = await logs(ask, "?eventType=refusal", headers=operator)
        assert at(event, "actor.userId") == "registrar"
        assert at(event, "outcome.result") == "refused"
        assert at(event, "outcome.status") == 422
        assert at(event, "outcome.problem") == problem
        assert at(event, "details.fields") == [field]
        assert at(event, "target.id") == ("a-1" if method == "PUT" else None)
        assert at(event, "outcome.error") == reply.json["detail"]
    for kept in (lines, tmp_path / "audit.db"):
        assert hidden.encode() not in kept.read_bytes()


async def test_limits_make_refusals(settings: AuditSettings, tmp_path: Path) -> None:
    limits = {"limits": {"roles": {"registrar": {"least_ttl": 20, "most_ttl": 300}}}}
    async with guarded(tmp_path, limits, audit=settings) as ask:
        operator, registrar = bearer("operator"), bearer("registrar")
        short = leased("a-1", lease={"ttl": 3, "holder": "k" * 20})
        large = leased("a-2", metadata={f"k{n}": "é" * 4000 for n in range(35)})
        many = leased("a-3", many=[0] * 300_000)
        for body, status, problem in (
            (short, 422, "ttl-not-allowed"),
            (large, 422, "record-too-large"),
            (many, 413, None),
        ):
            reply = await ask("POST", "/servers", body, headers=registrar)
            assert reply.status == status, reply.json
            wanted: dict[str, Any] = {"eventType": "refusal", "outcome.status": status}
            wanted |= {"outcome.problem": problem} if problem else {}
            await until_recorded(ask, wanted, headers=operator)
        # Also where only something is asked for.
        asked = {"filters": {"tags": [0] * 300_000}}
        reply = await ask("POST", "/connections/discover", asked, headers=bearer("reader"))
        assert reply.status == 413
        wanted = {"outcome.status": 413, "actor.userId": "reader"}
        await until_recorded(ask, wanted, headers=operator)


@pytest.mark.parametrize(
    "body",
    [
        leased("a-1", name="No Name"),
        leased("a-1", url="ftp://shop.example/mcp"),
        leased("a-1", tags="one"),
        leased("a-1", lease={"ttl": 0.1}),
        leased("a-1", capabilities={"digest": "xyz"}),
        [1, 2],
    ],
    ids=lambda body: json.dumps(body)[-40:],
)
async def test_what_is_malformed_is_no_refusal(
    body: dict[str, Any], settings: AuditSettings, tmp_path: Path
) -> None:
    async with guarded(tmp_path, audit=settings) as ask:
        reply = await ask("POST", "/servers", body, headers=bearer("registrar"))
        assert reply.status in (400, 422), reply.json
        assert await logs(ask, "?eventType=refusal", headers=bearer("operator")) == []


async def test_a_flood_of_addresses_is_counted(settings: AuditSettings, tmp_path: Path) -> None:
    lines = tmp_path / "trail"
    both = AuditSettings(file=str(lines), store=settings.store)
    async with guarded(tmp_path, audit=both) as ask:
        for number in range(90):
            body = posted(f"x-{number}", url=f"http://169.254.0.{number + 1}/mcp")
            reply = await ask("POST", "/servers", body, headers=bearer("registrar"))
            assert reply.status == 422
    found = [json.loads(line) for line in lines.read_text().splitlines() if '"refusal"' in line]
    assert len(found) == refusals.SINGLY + 1
    assert found[-1]["outcome"]["count"] == 90 - refusals.SINGLY


async def test_a_call_of_a_server_at_a_forbidden_address_is_refused(
    settings: AuditSettings,
) -> None:
    """It came into the store by another way, past the facade."""
    call = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "pay"}}
    async with EmbeddedStore() as store:
        url = "http://169.254.77.7/mcp"
        mine = record("inside", name="inside", endpoint={"url": url})
        await store.register(mine, document("pay"), ttl=60.0, reap_after=60.0)
        async with served(store, audit=settings, gateway=True) as ask:
            reply = await ask("POST", "/gateway/inside/mcp", call)
            assert reply.status == 502
            wanted = {"eventType": "call", "outcome.result": "refused"}
            event = await until_recorded(ask, wanted)
            assert at(event, "target.tool") == "pay"
            assert at(event, "outcome.problem") == "not-reached"


async def test_connections_over_the_limit_are_a_refusal(tmp_path: Path) -> None:
    lines = tmp_path / "trail"
    settings = AuditSettings(file=str(lines))
    async with (
        served(audit=settings, max_connections=2) as ask,
        ask.events(),
        ask.events(),
    ):
        assert (await ask("GET", "/servers")).status == 503
    [event] = [json.loads(line) for line in lines.read_text().splitlines() if "refusal" in line]
    assert at(event, "outcome.problem") == "too-many-connections"
    assert at(event, "outcome.result") == "refused"
    assert at(event, "actor.address") == "127.0.0.1"


async def test_of_an_import_what_a_rule_refuses_is_a_refusal(settings: AuditSettings) -> None:
    inside = {"id": "i-1", "name": "inside", "endpoint": "http://169.254.3.4/mcp"}
    malformed = files(id="i-2", name="No Name")
    async with served(audit=settings) as ask:
        several = {"connections": [files(id="i-0"), inside, malformed]}
        reply = await ask("POST", "/registry/import?partial=true", several)
        assert reply.status == 200, reply.json
        [event] = await logs(ask, "?eventType=refusal")
        assert at(event, "target.id") == "i-1"
        assert at(event, "details.fields") == ["endpoint.url"]


def test_a_secret_that_is_not_the_first_fault_is_seen() -> None:
    faults = [InvalidRecordError("name", "is no name"), SecretInRecordError("title", "is a key")]
    with pytest.raises(InvalidRecordError) as raised:
        raise_all(faults)
    assert holds_secret(raised.value)
    assert not holds_secret(InvalidRecordError("name", "is no name"))


def test_an_address_is_found_behind_other_errors() -> None:
    group = ExceptionGroup("several", [ValueError("x"), AddressRefusedError("its address is not")])
    error = RuntimeError("it was not reached")
    error.__cause__ = group
    assert leads_astray(error)
    error.__context__ = error
    error.__cause__ = OSError("nobody there")
    assert not leads_astray(error)


#: Problems that say that what was given is malformed, or is not understood: no refusals.
MALFORMED = {
    *("invalid-record", "invalid-document", "invalid-outcome", "invalid-field"),
    *("unknown-field", "unknown-capability", "invalid-texts"),
}


def test_of_every_problem_it_is_decided_whether_it_is_a_refusal() -> None:
    """A new problem with status 422 is a line in ``DECIDED``, or in ``MALFORMED`` above."""
    found = {kind for _, status, kind in STATUSES if status == 422}
    for file in Path(facade.__path__[0]).rglob("*.py"):
        found |= set(_problems(file, 422))
    assert found >= {"ttl-not-allowed", "invalid-field"}
    assert found <= DECIDED | MALFORMED
    assert not DECIDED & MALFORMED


def _problems(file: Path, status: int) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        match node:
            case ast.Call(
                func=ast.Name(id="ProblemError"),
                args=[ast.Constant(value=found), ast.Constant(value=str(kind)), *_],
            ) if found == status:
                yield kind
